/**
 * Where the data lie of what a composefs host serves as /usr: the folder of the deployment that was booted (libostree, otcore-prepare-root.c). Which
 * file there is the one that is served, backedfile.ts asks the kernel for each.
 */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  type BigIntStats,
} from 'node:fs';
import { fromBytes, fromUtf8, type ByteString } from '#src/bytes.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { parseMountinfo } from '#src/deployment/mountinfo.ts';
import { parseDeploymentPath, viewMounts } from '#src/deployment/overlay.ts';
import { parseOstreeBooted } from '#src/deployment/runstate.ts';
import { VERITY_LINES_MAX } from '#src/limits.ts';
import { readVerity, VERITY_HEAD, VERITY_LINE_BYTES, VerityTextError } from '#src/manifest/verity.ts';
import { UsageError } from '#src/terminal.ts';
import { VERITY_BYTES, type BackingData } from './backedfile.ts';
import { keepsTimes } from './walk.ts';

/** Digests that the kernel may measure, and the contents that they stand for (docs/manifest.md, rule 8), as workers search them. */
export type VerityLines = SharedArrayBuffer;

/** @throws {VerityTextError}; `bytes` is the length of the text. */
export function verityLines(pieces: Iterable<string>, bytes: number): VerityLines {
  const count = Math.min(Math.max(0, Math.floor((bytes - VERITY_HEAD.length) / VERITY_LINE_BYTES)), VERITY_LINES_MAX);
  const lines = new SharedArrayBuffer(count * VERITY_BYTES);
  const buffer = Buffer.from(lines);
  let at = 0;
  readVerity(pieces, (verity, content) => {
    at += buffer.write(verity, at, 'hex');
    at += buffer.write(content, at, 'hex');
  });
  return lines;
}

const PIECE_BYTES = 64 * 1024;

/** A text of fs-verity digests in a file. @throws {UsageError} where it cannot be read; {VerityTextError} where it is none. */
export function openVerity(file: string): VerityLines {
  let fd: number | undefined;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    return verityLines(piecesOf(fd), fstatSync(fd).size);
  } catch (error) {
    if (error instanceof VerityTextError) throw new VerityTextError(error.code, `${file}: ${error.message}`);
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code !== 'string') throw error;
    throw new UsageError(`${file} cannot be read: ${code}`, undefined, { cause: error });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function* piecesOf(fd: number): Generator<string> {
  const piece = Buffer.alloc(PIECE_BYTES);
  for (let length = readSync(fd, piece); length > 0; length = readSync(fd, piece))
    yield piece.toString('latin1', 0, length);
}

/**
 * The booted deployment beneath `root`, whose tree /usr is an overlay; undefined where the kernel's mounts and ostree's own note of this boot
 * do not name one. `lines` are used only where the kernel serves nothing else than what was measured (`verity=require`).
 */
export function findBacking(root: ByteString, lines: VerityLines | undefined): BackingData | undefined {
  if (root !== '') return undefined;
  try {
    const { root: mount } = viewMounts(parseMountinfo(fromBytes(readFileSync('/proc/self/mountinfo'))), '/');
    // bootc's own composefs backend keeps objects alone, under no names of files.
    if (mount.backend !== 'ostree') return undefined;
    const { backing } = parseOstreeBooted(readFileSync('/run/ostree-booted'));
    const folder = deployments('/sysroot').find((path) => {
      const { dev, ino } = stat(path);
      return dev === backing?.device && ino === backing.inode;
    });
    if (folder === undefined) return undefined;
    return backingAt(root, folder, mount.verity === true ? lines : undefined);
  } catch (error) {
    // No such host, or not for this user to see: then everything is read.
    if (error instanceof DeploymentError || typeof (error as NodeJS.ErrnoException).code === 'string') return undefined;
    throw error;
  }
}

/** @throws the errors of node:fs */
export function backingAt(root: ByteString, folder: ByteString, lines?: VerityLines): BackingData {
  const usr = `${folder}/usr`;
  return { root, folder, dev: stat(usr).dev, keepsTimes: keepsTimes(usr), verity: lines ?? null };
}

const stat = (path: ByteString): BigIntStats => statSync(Buffer.from(path, 'latin1'), { bigint: true });
const names = (path: ByteString): ByteString[] =>
  readdirSync(Buffer.from(path, 'latin1'), { encoding: 'utf8' }).map(fromUtf8);

function deployments(sysroot: ByteString): ByteString[] {
  const paths = names(`${sysroot}/ostree/deploy`).flatMap((stateroot) => {
    const folder = `${sysroot}/ostree/deploy/${stateroot}/deploy`;
    return names(folder).map((name) => `${folder}/${name}`);
  });
  return paths.filter((path) => parseDeploymentPath(path) !== undefined);
}
