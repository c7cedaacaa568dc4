/**
 * What the host says of itself: the only place of the agent that runs commands and reads /proc, /run and /ostree. Nothing
 * here is fatal: what fails is said in words, and the next source is asked (bootc, rpm-ostree, then the disk).
 */
import { execFile } from 'node:child_process';
import { createHash, createHmac } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { hostname } from 'node:os';
import { fromBytes, toHex, toUtf8, type ByteString } from '#src/bytes.ts';
import { deploymentState, type Found } from '#src/deployment/assemble.ts';
import { parseBootcStatus, type BootcStatus } from '#src/deployment/bootc.ts';
import { parseCommit, type Commit } from '#src/deployment/commit.ts';
import { parseKargs } from '#src/deployment/kargs.ts';
import { parseOrigin, type Origin } from '#src/deployment/origin.ts';
import { parseDeploymentPath, type DeploymentPath, type MountView } from '#src/deployment/overlay.ts';
import { parseRpmOstreeStatus, type RpmOstreeStatus } from '#src/deployment/rpmostree.ts';
import {
  parseComposefsStaged,
  parseOstreeBooted,
  parseOstreeStaged,
  type OstreeBooted,
} from '#src/deployment/runstate.ts';
import type { DeploymentState } from '#src/deployment/state.ts';
import {
  CMDLINE_BYTES_MAX,
  DEPLOYMENTS_MAX,
  GVARIANT_BYTES_MAX,
  HOST_COMMAND_MS,
  HOST_STATUS_BYTES_MAX,
  ORIGIN_BYTES_MAX,
} from '#src/limits.ts';
import { Look } from './look.ts';
import { lookAtMounts } from './mounts.ts';

/** Names Bootproof in machine ids: the id itself is a secret of the host (machine-id(5)). */
const APPLICATION_ID = '5b1e52947d564544aef1ce49a5d6cd90';

/** Runs a program without a shell and answers its standard output; throws a CommandError. */
export type Exec = (file: string, args: readonly string[]) => Promise<Uint8Array>;

/** Why a program gave no answer: `absent`, or what became of it. The words stay the same from run to run. */
export class CommandError extends Error {
  readonly absent: boolean;

  constructor(message: string, absent: boolean) {
    super(message);
    this.absent = absent;
  }
}

export type ObserveOptions = {
  /** `/` for the running host, else a folder with a deployed tree or a sysroot: everything is then read from there. */
  readonly root: string;
  readonly backend?: 'ostree' | 'composefs' | undefined;
  /** A digest or reference that the caller knows: no program is asked then. */
  readonly image?: string | undefined;
  readonly exec?: Exec;
};

export type Observed = {
  readonly state: DeploymentState;
  /** Paths inside the root, at or below /usr and /etc, under which the image cannot be seen. Sorted, none below another. */
  readonly mounts: readonly ByteString[];
  /** Of the running kernel; null where it does not tell. */
  readonly bootId: string | null;
  /** 32 hex digits: systemd's sd_id128_get_machine_app_specific (HMAC-SHA256 with the machine id as key) for Bootproof. Null where the root has no machine id yet. */
  readonly machineId: string | null;
  readonly hostname: string;
};

/**
 * Looks at the host, or at a folder that holds one.
 * @throws {NodeJS.ErrnoException} where the root itself cannot be opened
 */
export async function observe({ root, backend, image, exec = runProgram }: ObserveOptions): Promise<Observed> {
  const home = fromBytes(await realpath(root, 'buffer'));
  const live = home === '/';
  const look = new Look(home);
  const { view, masks } = await lookAtMounts(look, home);
  const ostreeBooted = await look.parsed('/run/ostree-booted', GVARIANT_BYTES_MAX, parseOstreeBooted);
  const found = await findDeployments(look, home, view, ostreeBooted);
  const asked =
    live && image === undefined
      ? await askPrograms(look, exec, ostreeBooted !== null || (view?.root.backend ?? 'unknown') !== 'unknown')
      : { bootc: null, rpmOstree: null };
  const kargs = live ? await look.parsed('/proc/cmdline', CMDLINE_BYTES_MAX, (bytes) => parseKargs(text(bytes))) : null;
  const machineId = applicationMachineId(await look.line('/etc/machine-id'));
  const told = live ? null : await look.line('/etc/hostname');
  const bootId = await new Look('/', look.words).line('/proc/sys/kernel/random/boot_id');
  const state = deploymentState({
    backend: backend ?? null,
    image: image ?? null,
    ...asked,
    found,
    ostreeBooted,
    mounts: view,
    kargs: kargs ?? [],
    kernel: live ? await look.line('/proc/sys/kernel/osrelease') : null,
    unread: look.words,
  });
  return {
    state,
    mounts: masks,
    bootId,
    machineId,
    // What is no host name (RFC 1123: at most 253 characters) is not taken for one.
    hostname: told !== null && /^[!-~]{1,253}$/.test(told) ? told : hostname(),
  };
}

/** The trailing newline that the kernel writes is no part of what it tells. */
const text = (bytes: Uint8Array): ByteString => fromBytes(bytes).replace(/\n$/, '');

/** Null for `uninitialized` and everything else that is no machine id. */
export function applicationMachineId(machineId: string | null): string | null {
  if (machineId === null || !/^[0-9a-f]{32}$/.test(machineId)) return null;
  const id = createHmac('sha256', Buffer.from(machineId, 'hex')).update(Buffer.from(APPLICATION_ID, 'hex')).digest();
  // systemd makes a version 4 UUID of it (RFC 9562 section 5.4).
  id[6] = (id[6]! & 0x0f) | 0x40;
  id[8] = (id[8]! & 0x3f) | 0x80;
  return toHex(id.subarray(0, 16));
}

type Programs = { readonly bootc: BootcStatus | null; readonly rpmOstree: RpmOstreeStatus | null };

/** Where `bootproof-status.service` leaves what bootc told it. */
const STATUS_FILE = '/run/bootproof/bootc-status.json';

/** bootc, and rpm-ostree where bootc told nothing or, for want of an image, less than it could. */
async function askPrograms(look: Look, exec: Exec, booted: boolean): Promise<Programs> {
  const bootc = await askBootc(look, exec);
  const entries = [bootc?.booted, bootc?.staged, bootc?.rollback];
  const enough = Boolean(bootc?.booted) && !entries.some((entry) => entry?.incompatible === true);
  if (enough) return { bootc, rpmOstree: null };
  const told = await ask(look, exec, '/usr/bin/rpm-ostree', ['status', '--json']);
  const rpmOstree =
    told instanceof Uint8Array ? look.tried('rpm-ostree', () => parseRpmOstreeStatus(fromBytes(told))) : null;
  if (bootc === null && told === 'absent' && booted)
    look.words.push('neither bootc nor rpm-ostree could tell of this host');
  return { bootc, rpmOstree };
}

async function askBootc(look: Look, exec: Exec): Promise<BootcStatus | null> {
  const parse = (bytes: Uint8Array) => parseBootcStatus(fromBytes(bytes));
  // bootc wants to be root, with CAP_SYS_ADMIN: the agent's service is neither, and another unit asks for it.
  if (process.geteuid?.() !== 0) {
    const status = await look.parsed(STATUS_FILE, HOST_STATUS_BYTES_MAX, parse);
    if (status !== null) return status;
  }
  const told = await ask(look, exec, '/usr/bin/bootc', ['status', '--format=json', '--format-version=1']);
  return told instanceof Uint8Array ? look.tried('bootc', () => parse(told)) : null;
}

async function ask(
  look: Look,
  exec: Exec,
  file: string,
  args: readonly string[],
): Promise<Uint8Array | 'absent' | 'failed'> {
  try {
    return await exec(file, args);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    if (error.absent) return 'absent';
    look.words.push(`${[file, ...args].join(' ')}: ${error.message}`);
    return 'failed';
  }
}

/** Runs a program by its full path, with nothing of our own environment, for at most `timeout` milliseconds. @throws {CommandError} */
export const runProgram = (file: string, args: readonly string[], timeout = HOST_COMMAND_MS): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    const options = {
      // `container`, set in some services, would make bootc answer that it is not on a host.
      env: { PATH: '/usr/sbin:/usr/bin', LC_ALL: 'C.UTF-8' },
      cwd: '/',
      encoding: 'buffer',
      timeout,
      killSignal: 'SIGKILL',
      maxBuffer: HOST_STATUS_BYTES_MAX,
    } as const;
    execFile(file, args, options, (error, stdout) => {
      if (error === null) resolve(stdout);
      else if (error.code === 'ENOENT') reject(new CommandError('is not installed', true));
      else if (error.code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') reject(new CommandError('says too much', false));
      else if (error.killed) reject(new CommandError(`gave no answer in ${timeout / 1000} s`, false));
      else reject(new CommandError(`failed with ${error.code ?? error.signal}`, false));
    });
  });

/** The deployments on the disk of the root, with their origin files and, for ostree, what their commits say. */
async function findDeployments(
  look: Look,
  root: ByteString,
  view: MountView | null,
  ostreeBooted: OstreeBooted | null,
): Promise<Found[]> {
  // A deployment's own folder as root: its origin lies beside it, the others are no part of it.
  const own = parseDeploymentPath(root);
  if (own !== undefined) return [await readDeployment(new Look('/', look.words), own, 'booted')];
  const paths = await listDeployments(look);
  if (paths.length === 0) return [];
  const staged =
    (await look.parsed('/run/ostree/staged-deployment', GVARIANT_BYTES_MAX, parseOstreeStaged)) ??
    (await look.parsed('/run/composefs/staged-deployment', GVARIANT_BYTES_MAX, (bytes) =>
      parseComposefsStaged(fromBytes(bytes)),
    ));
  const isStaged = (path: DeploymentPath) => staged?.checksum === path.checksum && staged.serial === path.serial;
  const finished = paths.filter((path) => !isStaged(path));
  const booted = await findBooted(look, finished, root, view, ostreeBooted);
  const found: Found[] = [];
  for (const path of paths)
    found.push(await readDeployment(look, path, path === booted ? 'booted' : isStaged(path) ? 'staged' : 'other'));
  return found;
}

/** Both layouts, in the physical root at /sysroot or where the root is one itself. */
async function listDeployments(look: Look): Promise<DeploymentPath[]> {
  const found: DeploymentPath[] = [];
  for (const sysroot of ['/sysroot', '']) {
    for (const stateroot of await look.names(`${sysroot}/ostree/deploy`))
      for (const name of await look.names(`${sysroot}/ostree/deploy/${stateroot}/deploy`))
        if (name.endsWith('.origin'))
          found.push(
            ...deploymentAt(`${sysroot}/ostree/deploy/${stateroot}/deploy/${name.slice(0, -'.origin'.length)}`),
          );
    for (const name of await look.names(`${sysroot}/state/deploy`))
      found.push(...deploymentAt(`${sysroot}/state/deploy/${name}`));
    // On a booted host /ostree is a link into /sysroot: the same once more.
    if (found.length > 0) break;
  }
  if (found.length > DEPLOYMENTS_MAX) look.words.push(`${found.length} deployments; ${DEPLOYMENTS_MAX} were looked at`);
  return found.slice(0, DEPLOYMENTS_MAX);
}

const deploymentAt = (path: ByteString): DeploymentPath[] =>
  [parseDeploymentPath(path)].filter((found) => found !== undefined);

const folderOf = ({ backend, sysroot, stateroot, checksum, serial }: DeploymentPath): ByteString =>
  backend === 'ostree'
    ? `${sysroot}/ostree/deploy/${stateroot}/deploy/${checksum}.${serial}`
    : `${sysroot}/state/deploy/${checksum}`;

async function findBooted(
  look: Look,
  paths: readonly DeploymentPath[],
  root: ByteString,
  view: MountView | null,
  ostreeBooted: OstreeBooted | null,
): Promise<DeploymentPath | undefined> {
  if (ostreeBooted?.backing) {
    const { device, inode } = ostreeBooted.backing;
    for (const path of paths) {
      const at = await look.identity(folderOf(path));
      if (at?.device === device && at.inode === inode) return path;
    }
  }
  for (const shown of [view?.root, view?.etc])
    if (shown?.checksum) {
      const path = paths.find(({ checksum, serial }) => checksum === shown.checksum && serial === shown.serial);
      if (path !== undefined) return path;
    }
  if (root === '/') return undefined;
  if (paths.length > 1) look.words.push(`${paths.length} deployments lie below the root; none is marked as booted`);
  return paths.length === 1 ? paths[0] : undefined;
}

async function readDeployment(look: Look, path: DeploymentPath, role: Found['role']): Promise<Found> {
  const { backend, checksum, stateroot, sysroot } = path;
  const folder = folderOf(path);
  const file = backend === 'ostree' ? `${folder}.origin` : `${folder}/${checksum}.origin`;
  const origin: Origin | null = await look.parsed(file, ORIGIN_BYTES_MAX, (bytes) => parseOrigin(fromBytes(bytes)));
  let commit: Commit | null = null;
  let layered = false;
  if (backend === 'ostree') {
    commit = await readCommit(look, sysroot, checksum);
    if (commit?.layered === true) {
      layered = true;
      commit = commit.parent === null ? null : await readCommit(look, sysroot, commit.parent);
    }
  }
  return {
    role,
    backend,
    checksum,
    stateroot: stateroot === null ? null : (toUtf8(stateroot) ?? stateroot),
    origin,
    commit,
    layered,
  };
}

/** A commit object, whose bytes must hash to its name: what it says then is what was imported. */
async function readCommit(look: Look, sysroot: ByteString, checksum: string): Promise<Commit | null> {
  const path = `${sysroot}/ostree/repo/objects/${checksum.slice(0, 2)}/${checksum.slice(2)}.commit`;
  const bytes = await look.bytes(path, GVARIANT_BYTES_MAX);
  if (bytes === undefined) return null;
  if (createHash('sha256').update(bytes).digest('hex') !== checksum) {
    look.words.push(`the commit object ${checksum} in the ostree repository was altered: it does not hash to its name`);
    return null;
  }
  return look.tried(`commit ${checksum}`, () => parseCommit(bytes));
}
