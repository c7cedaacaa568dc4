/**
 * The file manifests of a host's image: fetched with a bearer, proved by the pinned server key and by digest, kept on disk. A server, or who
 * stands before it, can withhold one; it cannot pass off another.
 */
import { createHash, hash } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '#src/clock.ts';
import type { ExpectedTree } from '#src/drift/compare.ts';
import type { Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { HEADERS_BYTES_MAX, MANIFEST_TEXT_BYTES_MAX } from '#src/limits.ts';
import type { TreeName } from '#src/manifest/entry.ts';
import { MANIFEST_HEADER_TYPE, ManifestHeader } from '#src/manifest/header.ts';
import { envelopeFromJson, verifyEnvelope, type EnvelopeJson } from '#src/signing/dsse.ts';
import type { PublicKey, Verify } from '#src/signing/ed25519.ts';
import { textsOf, type ManifestFileReader, type TextSink } from '#src/wire/manifestfile.ts';
import { ManifestsAnswer, VERITY_TYPE, VerityHeader } from '#src/wire/manifests.ts';
import { manifestsPath, manifestTextPath, manifestVerityPath, type TextPart } from '#src/wire/paths.ts';
import { save, type Disk } from './disk.ts';
import { PostError, problemOf, type Response, type Server } from './post.ts';

/** MANIFEST_UNAVAILABLE: the server has none for this host now. MANIFEST_FOREIGN: what came by file is not what this host's server signed. */
export class ManifestError extends BootproofError<'MANIFEST_UNAVAILABLE' | 'MANIFEST_FOREIGN'> {}

/** Why a host that was enrolled by file compares with nothing. */
export const NO_SERVER_KEY =
  "the server's answer to the enrolment by file was not brought here yet, so nothing says which manifests are its own: 'bootproof agent import ANSWER'";

/** Why there is no manifest to compare with, in words; the report goes out without one. */
export type NoManifest = { readonly kind: 'none'; readonly why: string };
/** What the trees must be. */
export type Expected = { readonly kind: 'expected'; readonly trees: Readonly<Record<TreeName, ExpectedTree>> };
export type Headers = {
  readonly kind: 'headers';
  readonly headers: readonly ManifestHeader[];
  /** Which text of fs-verity digests is the image's; absent where the server tells none. */
  readonly verity?: VerityHeader;
};

export type ManifestDeps = {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly verify: Verify;
  /** Null where there is no network: then only what was kept is used. */
  readonly server: Server | null;
  readonly bearer: string | null;
  readonly serverKey: PublicKey;
};

/** `end(false)`: it came in part, and goes. */
type DiskSink = TextSink & { end(isWhole?: boolean): void };

/** How long kept headers are used without asking: new rules are rare, and a host that nothing fits asks at once. */
const KEPT_MS = 24 * 3600 * 1000;

/** As headers are kept: the answer itself, so that its signatures are checked again. */
const KeptHeaders = z.strictObject({ at: z.number(), answer: ManifestsAnswer });

export class Manifests {
  readonly #deps: ManifestDeps;
  readonly #folder: string;

  constructor(deps: ManifestDeps, folder: string) {
    this.#deps = deps;
    this.#folder = folder;
    deps.disk.makeFolder(folder);
  }

  /**
   * The headers of every rule of a backend for an image, newest rule first. `digest` is what the host says it booted; `fresh` asks the server
   * even where headers were kept.
   */
  async headers(digest: string, backend: string, fresh: boolean): Promise<Headers | NoManifest> {
    const name = headersName(digest, backend);
    const kept = await this.#kept(name, digest);
    if (kept !== undefined && !fresh && this.#deps.clock() - kept.at < KEPT_MS) return kept.headers;
    const asked = await this.#ask(name, digest, backend);
    return asked.kind === 'none' && kept !== undefined ? kept.headers : asked;
  }

  /** The texts under a header, each proved to be the one it names; that of /usr is read only as it is needed. */
  async manifest(header: ManifestHeader): Promise<Expected | NoManifest> {
    const [usr, etc] = [await this.#texts(header, 'usr'), await this.#texts(header, 'etc')];
    if ('kind' in usr) return usr;
    if ('kind' in etc) return etc;
    return { kind: 'expected', trees: { usr, etc: { ...etc, main: [...etc.main].join('') } } };
  }

  /**
   * Takes in manifests that came by file (docs/report.md 8.5), whole or not at all: then `headers` and `manifest` find them like fetched ones.
   * What is kept of images that are neither in it nor among `needed` is forgotten.
   * @throws {ManifestError} MANIFEST_FOREIGN; whatever `read` throws.
   */
  async takeFile(
    read: (reader: ManifestFileReader) => Promise<void>,
    needed: readonly string[],
  ): Promise<{ readonly image: Digest; readonly rules: readonly string[] }> {
    const { clock, disk } = this.#deps;
    let envelopes: readonly EnvelopeJson[] = [];
    let headers: readonly ManifestHeader[] = [];
    const missing = new Set<Digest>();
    let open: DiskSink | undefined;
    const reader: ManifestFileReader = {
      headers: async (given) => {
        const opened = await this.#verified(given);
        if (opened === undefined)
          throw new ManifestError(
            'MANIFEST_FOREIGN',
            "these manifests are not signed by the key of this host's server",
          );
        if (opened.some(({ image }) => image !== opened[0]!.image))
          throw new ManifestError('MANIFEST_FOREIGN', 'these manifests are of several images: one file is for one');
        [envelopes, headers] = [given, opened];
        for (const { digest } of textsOf(opened)) missing.add(digest);
      },
      text: (digest) => {
        if (!missing.delete(digest))
          throw new ManifestError('MANIFEST_FOREIGN', `no signed header names the text ${digest}, or it stands twice`);
        return (open = this.#textSink(digest));
      },
    };
    try {
      await read(reader);
    } catch (error) {
      open?.end(false);
      throw error;
    }
    if (missing.size > 0)
      throw new ManifestError(
        'MANIFEST_FOREIGN',
        `${missing.size} of the texts that the signed headers name are not in the file`,
      );
    const { image, config, index } = headers[0]!;
    const names = [image, config, ...(index === null ? [] : [index])];
    for (const backend of BACKENDS_TOLD) {
      const own = envelopes.filter((_, at) => isOf(headers[at]!, backend));
      if (own.length === 0) continue;
      const bytes = new TextEncoder().encode(JSON.stringify({ at: clock(), answer: { headers: own } }));
      for (const digest of names) save(disk, this.#folder, headersName(digest, backend), bytes);
    }
    await this.prune([...needed, ...names], ...BACKENDS_TOLD);
    return { image, rules: headers.map(({ rule }) => rule) };
  }

  /** A text's way to the disk; it gets its name only if it is what its digest says. */
  #textSink(digest: Digest): DiskSink {
    const { disk } = this.#deps;
    const fresh = `${this.#folder}/.new-text`;
    disk.unlink(fresh);
    const writer = disk.writer(fresh, 0o600);
    const sum = createHash('sha256');
    let ended = false;
    return {
      write: (piece) => {
        sum.update(piece);
        writer.write(piece);
      },
      end: (isWhole = true) => {
        if (ended) return;
        ended = true;
        writer.end();
        if (isWhole && `sha256:${sum.digest('hex')}` === digest)
          return disk.rename(fresh, `${this.#folder}/${textName(digest)}`);
        disk.unlink(fresh);
        if (isWhole) throw new ManifestError('MANIFEST_FOREIGN', `a text is not what its digest ${digest} says`);
      },
    };
  }

  /** Forgets what no image on this host needs: `digests` are those of booted, staged and rollback. */
  async prune(digests: readonly string[], ...backends: readonly string[]): Promise<void> {
    const { disk } = this.#deps;
    const needed = new Set<string>();
    for (const digest of digests)
      for (const backend of backends) {
        const name = headersName(digest, backend);
        needed.add(name);
        const kept = await this.#kept(name, digest);
        for (const text of textsOf(kept?.headers.headers ?? [])) needed.add(textName(text.digest));
        if (kept?.headers.verity !== undefined) needed.add(textName(kept.headers.verity.text));
      }
    for (const name of disk.list(this.#folder)) if (!needed.has(name)) disk.unlink(`${this.#folder}/${name}`);
  }

  async #ask(name: string, digest: string, backend: string): Promise<Headers | NoManifest> {
    const { clock, disk } = this.#deps;
    const response = await this.#get(manifestsPath(digest, backend), HEADERS_BYTES_MAX);
    if ('kind' in response) return response;
    if (response.status === 202) return none('the server is still building it');
    if (response.status !== 200) {
      const problem = problemOf(response);
      return none(
        problem === undefined ? `the server answers ${response.status}` : `${problem.detail} [${problem.code}]`,
      );
    }
    const answer = ManifestsAnswer.safeParse(json(response.body)).data;
    if (answer === undefined) return none('what the server sent is no list of headers');
    const headers = await this.#opened(answer, digest);
    if (headers === undefined) return none('what the server sent is not signed by its key, or is for another image');
    save(disk, this.#folder, name, new TextEncoder().encode(JSON.stringify({ at: clock(), answer })));
    return headers;
  }

  async #kept(name: string, digest: string): Promise<{ at: number; headers: Headers } | undefined> {
    const bytes = this.#deps.disk.read(`${this.#folder}/${name}`, 2 * HEADERS_BYTES_MAX);
    if (bytes === undefined) return undefined;
    try {
      const { at, answer } = KeptHeaders.parse(JSON.parse(new TextDecoder().decode(bytes)));
      const headers = await this.#opened(answer, digest);
      return headers && { at, headers };
    } catch {
      return undefined; // damaged: what cannot be read is fetched again
    }
  }

  /** Headers that the pinned key signed; undefined if any is not. */
  async #verified(envelopes: readonly EnvelopeJson[]): Promise<ManifestHeader[] | undefined> {
    const headers: ManifestHeader[] = [];
    for (const json of envelopes) {
      try {
        const envelope = envelopeFromJson(json, MANIFEST_HEADER_TYPE, HEADERS_BYTES_MAX);
        if (!(await verifyEnvelope(envelope, this.#deps.serverKey, this.#deps.verify))) return undefined;
        headers.push(ManifestHeader.parse(JSON.parse(new TextDecoder().decode(envelope.payload))));
      } catch {
        return undefined; // not the form of a header, whoever signed it
      }
    }
    return headers;
  }

  /** Headers that the pinned key signed and that are for this very digest; undefined if any is not. */
  async #opened(answer: ManifestsAnswer, digest: string): Promise<Headers | undefined> {
    const headers = await this.#verified(answer.headers);
    if (headers === undefined) return undefined;
    const wanted = whole(digest);
    const fits = headers.every(({ image, config, index }) => [image, config, index].includes(wanted as Digest));
    if (!fits) return undefined;
    const verity = answer.verity && (await this.#verityHeader(answer.verity));
    return { kind: 'headers', headers, ...(verity?.image === headers[0]!.image ? { verity } : {}) };
  }

  /** As `#verified`; without it everything is read, and nothing is lost. */
  async #verityHeader(json: EnvelopeJson): Promise<VerityHeader | undefined> {
    try {
      const envelope = envelopeFromJson(json, VERITY_TYPE, HEADERS_BYTES_MAX);
      if (!(await verifyEnvelope(envelope, this.#deps.serverKey, this.#deps.verify))) return undefined;
      return VerityHeader.parse(JSON.parse(new TextDecoder().decode(envelope.payload)));
    } catch {
      return undefined; // of another version, or not the form of one, whoever signed it
    }
  }

  async #texts(
    header: ManifestHeader,
    tree: TreeName,
  ): Promise<{ main: Iterable<string>; extra: string } | NoManifest> {
    const main = await this.#text(header, tree, 'main');
    const extra = await this.#text(header, tree, 'extra');
    if ('kind' in main) return main;
    return 'kind' in extra ? extra : { main, extra: [...extra].join('') };
  }

  /** A text in pieces, from disk; fetched before where it was not there, or not itself. */
  async #text(header: ManifestHeader, tree: TreeName, part: TextPart): Promise<Iterable<string> | NoManifest> {
    const digest = part === 'main' ? header.trees[tree].main.full : header.trees[tree].extra;
    return this.#proved(digest, manifestTextPath(header.image, header.rule, tree, part), `the text of /${tree}`);
  }

  async #proved(digest: Digest, path: string, what: string): Promise<Iterable<string> | NoManifest> {
    const { disk } = this.#deps;
    const file = `${this.#folder}/${textName(digest)}`;
    if (digestOfPieces(disk.pieces(file)) !== digest) {
      const failed = await this.#fetch(path, digest, what);
      if (failed !== undefined) return failed;
    }
    return {
      *[Symbol.iterator]() {
        for (const piece of disk.pieces(file)) yield latin1(piece);
      },
    };
  }

  /** The text of fs-verity digests that a header names, proved to be that; fetched where it was not there. */
  async verity({ image, text }: VerityHeader): Promise<Iterable<string> | NoManifest> {
    return this.#proved(text, manifestVerityPath(image), 'the fs-verity digests');
  }

  /** Straight to the disk, as a text of /usr has some ten megabytes. */
  async #fetch(path: string, digest: Digest, what: string): Promise<NoManifest | undefined> {
    const { disk } = this.#deps;
    const fresh = `${this.#folder}/.new-text`;
    disk.unlink(fresh);
    const writer = disk.writer(fresh, 0o600);
    const sum = createHash('sha256');
    let response: Response | NoManifest;
    try {
      response = await this.#get(path, MANIFEST_TEXT_BYTES_MAX, (piece) => {
        sum.update(piece);
        writer.write(piece);
      });
    } finally {
      writer.end();
    }
    if ('status' in response && response.status === 200 && `sha256:${sum.digest('hex')}` === digest) {
      disk.rename(fresh, `${this.#folder}/${textName(digest)}`);
      return undefined;
    }
    disk.unlink(fresh);
    if ('kind' in response) return response;
    return none(
      response.status === 200
        ? `${what} that came is not the one in the signed header`
        : `the server answers ${response.status} for ${what}`,
    );
  }

  async #get(path: string, limit: number, sink?: (piece: Uint8Array) => void): Promise<Response | NoManifest> {
    const { server, bearer } = this.#deps;
    if (server === null || bearer === null) return none('there is no server to ask for it');
    try {
      return await server.request({ method: 'GET', path, bearer, limit, ...(sink === undefined ? {} : { sink }) });
    } catch (error) {
      if (!(error instanceof PostError)) throw error;
      return none(error.message);
    }
  }
}

const none = (why: string): NoManifest => ({ kind: 'none', why });
/** A digest from an old host may lack its algorithm (facts of bootc): bare hex names the same thing. */
const whole = (digest: string): string => (/^[0-9a-f]{64}$/.test(digest) ? `sha256:${digest}` : digest);
const headersName = (digest: string, backend: string): string =>
  `headers-${hash('sha256', `${backend} ${whole(digest)}`, 'hex')}.json`;
/** What a host may tell of its backend, and which headers it is given then. */
const BACKENDS_TOLD = ['ostree', 'composefs', 'unknown'] as const;
const isOf = ({ rule }: ManifestHeader, backend: (typeof BACKENDS_TOLD)[number]): boolean => {
  // What stands before the slash (docs/manifest.md, rule 4); src/image would bring half the server with it.
  const [of] = rule.split('/');
  return backend === 'unknown' ? of !== 'oci' : of === backend;
};
const textName = (digest: Digest): string => `text-${digest.slice('sha256:'.length)}`;

function digestOfPieces(pieces: Iterable<Uint8Array>): string {
  const sum = createHash('sha256');
  for (const piece of pieces) sum.update(piece);
  return `sha256:${sum.digest('hex')}`;
}

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');

function json(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined; // no schema takes that
  }
}
