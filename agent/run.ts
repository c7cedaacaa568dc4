/**
 * One cycle of the agent, top to bottom: what waits goes first, then look, fetch, scan, seal, keep, post. The server's part in it is what it may
 * answer (docs/report.md 4.3): a time, a wish, a challenge.
 */
import { hash } from 'node:crypto';
import { formatInstant, parseInstant, type Clock, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import type { ManifestHeader } from '#src/manifest/header.ts';
import { VerityTextError } from '#src/manifest/verity.ts';
import type { FullReport, Report } from '#src/report/report.ts';
import { fitReport, sameInstead } from '#src/report/seal.ts';
import { parsePublicKey, type Signer } from '#src/signing/ed25519.ts';
import { EXIT, type Exit } from '#src/terminal.ts';
import { AGENT_VERSION, type AgentConfig } from './config.ts';
import { verityLines, type VerityLines } from './backing.ts';
import { brokenScan, marked, ScanStopped, takeMark, type Mark } from './brokenscan.ts';
import { save } from './disk.ts';
import type { Identity } from './identity.ts';
import { Manifests, NO_SERVER_KEY, type Expected } from './manifests.ts';
import type { Observed, ObserveOptions } from './observe.ts';
import { LogKeeper } from './keptlog.ts';
import type { DigestCache } from './digestcache.ts';
import { cannotWrite, Outbox, placeOf, type FlushResult, type OutboxDeps } from './outbox.ts';
import type { Neighbour } from './pressure.ts';
import { postReport, type Server } from './post.ts';
import { programDigest } from './program.ts';
import { fullReport } from './report.ts';
import type { Scan, ScanOptions } from './scan.ts';
import type { SpoolLimits } from './spool.ts';

export type RunDeps = OutboxDeps & {
  readonly observe: (options: ObserveOptions) => Promise<Observed>;
  readonly scan: (options: ScanOptions) => Promise<Scan>;
  /** Null where the host has no network: reports go to a file. */
  readonly server: Server | null;
  /** Breaks off a scan; with a `ScanStopped` it is reported all the same. */
  readonly signal?: AbortSignal;
  readonly onProgress?: ScanOptions['onProgress'];
};

export type RunAbout = {
  readonly config: AgentConfig;
  readonly identity: Identity;
  readonly signer: Signer;
  /** File that gets all waiting reports, one envelope a line, instead of the server. */
  readonly out?: string | undefined;
  readonly backend?: ObserveOptions['backend'];
  readonly image?: string | undefined;
  /** Bytes that a scan reads in a second at most. */
  readonly bytesPerSecond?: number | undefined;
  /** What runs before this one read; without it every file is read. */
  readonly cache?: DigestCache | undefined;
  /** Rests while others suffer. */
  readonly neighbour?: Neighbour | undefined;
  /** How much waits at most; `SPOOL_LIMITS` unless a test has less patience. */
  readonly spool?: SpoolLimits;
  /** Which program says so; read anew from its files unless a test runs thousands of cycles. */
  readonly program?: Digest;
};

export type Cycle = {
  readonly exit: Exit;
  /** Both trees were read whole and compared, and the server took what there was to tell it. */
  readonly complete: boolean;
  readonly report: Pick<Report, 'seq' | 'kind'>;
  readonly scan: Scan;
  /** What the trees were compared with, or why with nothing. */
  readonly comparedWith: { readonly image: Digest; readonly rule: string } | { readonly none: string };
  /** Null where reports went to a file. */
  readonly delivery: FlushResult | null;
  /** When to begin the next one. */
  readonly next: Instant;
  /** The server could not tell that this report is of today; another one, at once, will show it. */
  readonly again: boolean;
};

const DAY_MS = 24 * 3600 * 1000;
const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** @throws what `observe`, `scan` and the disk throw; an unreachable server is no error, its reports wait. */
export async function cycle(deps: RunDeps, about: RunAbout): Promise<Cycle> {
  const { config, identity, signer } = about;
  const outbox = await Outbox.open(deps, {
    folder: config.stateFolder,
    host: identity.host,
    signer,
    ...(about.spool === undefined ? {} : { limits: about.spool }),
  });
  const serverKey = identity.serverKey === null ? null : parsePublicKey(identity.serverKey);
  const keeper = await LogKeeper.open(deps, config.stateFolder, serverKey);
  const post = async (envelope: Uint8Array) => {
    const posted = await postReport(deps.server!, envelope, deps.clock);
    // Before the report counts as answered: stopped in between, the same answer comes once more.
    if (posted.kind === 'accepted') await keeper.take(posted.answer);
    return posted;
  };
  const online = deps.server !== null && about.out === undefined;
  // Whatever waits goes before the scan: its answer brings a challenge of today.
  const before = online && outbox.waiting > 0 ? await outbox.flush(post) : null;
  const challenge = challengeOf(outbox, identity);

  const startedAt = deps.clock();
  const observed = await deps.observe({ root: config.root, backend: about.backend, image: about.image });
  const place = () => ({
    host: identity.host,
    seq: outbox.chain.seq + 1,
    previous: outbox.chain.lastFull,
    challenge: challenge.text,
    checkpoint: keeper.echo(outbox.chain.seq + 1),
    dropped: outbox.chain.dropped,
  });
  const seal = async (scan: Scan, manifest: Mark['manifest'], from: Instant): Promise<Report> => {
    const made = {
      observed,
      scan,
      startedAt: from,
      finishedAt: deps.clock(),
      agent: { version: AGENT_VERSION, executable: about.program ?? programDigest(), config: config.digest },
      manifest,
      secretPaths: config.secretPaths,
      contents: config.contents,
    };
    const draft = fitReport(fullReport(place(), made));
    await outbox.makeRoom(envelopeBytes(draft));
    const report = choose({ ...draft, ...place() }, outbox);
    await outbox.put(report);
    return report;
  };
  const killed = takeMark(deps.disk, config.stateFolder);
  if (killed !== undefined) {
    const why = `the scan that began at ${killed.startedAt} never ended: its process was killed, or crashed`;
    // What a reboot ended is seen to by the scan after it; a kill may come again, and this may be all that is ever heard.
    const again = killed.bootId !== null && killed.bootId === observed.bootId;
    await deps.say(again ? `scan failed: ${why}` : `a scan began at ${killed.startedAt} and was ended by a reboot`);
    if (again) {
      await seal(brokenScan(why), killed.manifest, startedAt);
      if (online) await outbox.flush(post);
    }
  }
  const compared = await compare(deps, about, outbox, observed);
  const report = await seal(compared.scan, 'none' in compared.with ? null : compared.with, startedAt);

  const delivery = online ? await outbox.flush(post) : null;
  if (about.out !== undefined) await handOver(deps, outbox, about.out);
  return {
    // A log that was refused: the server showed this host another past than before.
    ...outcomeOf(compared, delivery, keeper.kept.refused !== null || refusedBy(before) || refusedBy(delivery)),
    report,
    scan: compared.scan,
    comparedWith: compared.with,
    delivery,
    next: nextTime(outbox, config.intervalMs, deps),
    again:
      delivery !== null &&
      delivery.accepted > 0 &&
      delivery.why === null &&
      isOld(challenge.at, startedAt, config.intervalMs),
  };
}

/** The newest challenge held before the scan, and when it came, by this host's clock (docs/report.md 1.2). */
function challengeOf(
  outbox: Outbox,
  identity: Identity,
): { readonly text: string | null; readonly at: Instant | undefined } {
  const { answer } = outbox.chain;
  return answer === null || answer.challenge === null
    ? { text: identity.challenge, at: parseInstant(identity.enrolledAt) }
    : { text: answer.challenge, at: parseInstant(answer.receivedAt) };
}

function isOld(at: Instant | undefined, startedAt: Instant, intervalMs: number): boolean {
  return at === undefined || startedAt - at > 2 * intervalMs;
}

function choose(full: FullReport, outbox: Outbox): Report {
  if (outbox.chain.answer?.want === 'full') return full;
  return sameInstead(full, outbox.accepted, sha256) ?? full;
}

/** An envelope's bytes, near enough to make room for it: base64 of the document, and some names beyond ASCII. */
function envelopeBytes(report: FullReport): number {
  return Math.ceil((Buffer.byteLength(JSON.stringify(report)) * 4) / 3) + 1024;
}

type Compared = { readonly scan: Scan; readonly with: Cycle['comparedWith'] };

/** Scans against the manifest of the booted image, under the rule that fits this host. */
async function compare(
  deps: RunDeps,
  { config, identity, bytesPerSecond, cache, neighbour }: RunAbout,
  outbox: Outbox,
  observed: Observed,
): Promise<Compared> {
  let verity: VerityLines | undefined;
  const { bootId } = observed;
  const scan = async (expected?: Expected, manifest: Mark['manifest'] = null): Promise<Scan> => {
    const place = { disk: deps.disk, folder: config.stateFolder };
    try {
      return await marked(place, { startedAt: deps.clock(), bootId, manifest }, () => scanned(expected));
    } catch (error) {
      if (!(error instanceof ScanStopped)) throw error;
      await deps.say(`scan failed: ${error.message}`);
      return brokenScan(error.message);
    }
  };
  const scanned = (expected: Expected | undefined) =>
    deps.scan({
      ...(verity === undefined ? {} : { verity }),
      root: config.root,
      mounts: observed.mounts,
      secretPathsAdded: config.secretPaths,
      contents: config.contents,
      ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
      ...(cache === undefined ? {} : { cache }),
      ...(neighbour === undefined ? {} : { neighbour }),
      ...(expected === undefined ? {} : { expected }),
      ...(deps.signal === undefined ? {} : { signal: deps.signal }),
      ...(deps.onProgress === undefined ? {} : { onProgress: deps.onProgress }),
    });
  const found = await findManifest(deps, config.stateFolder, identity, outbox, observed);
  if ('none' in found) {
    await deps.say(`nothing to compare with: ${found.none}`);
    return { scan: await scan(), with: found };
  }
  const { headers, load } = found;
  const known = outbox.chain.rules.find(({ image }) => image === headers[0]!.image)?.rule;
  const first = headers.find(({ rule }) => rule === known) ?? headers[0]!;
  const manifest = await load(first);
  if ('none' in manifest) {
    await deps.say(`nothing to compare with: ${manifest.none}`);
    return { scan: await scan(), with: manifest };
  }
  verity = await verityOf(found, observed);
  const seen = await scan(manifest, named(first));
  const fit = headers.find((header) => fits(header, seen));
  if (fit === undefined) return { scan: seen, with: named(first) };
  outbox.remember(fit.image, fit.rule);
  if (fits(first, seen)) return { scan: seen, with: named(first) };
  // Another importer made this host: once its rule is known, the next scan begins with it.
  const better = await load(fit);
  return 'none' in better
    ? { scan: seen, with: named(first) }
    : { scan: await scan(better, named(fit)), with: named(fit) };
}

/** Fetched where the kernel serves nothing but what it measured; else they say nothing of what is served. */
async function verityOf({ verity }: Found, { state }: Observed): Promise<VerityLines | undefined> {
  return state.backend === 'ostree' && state.verity === true ? verity() : undefined;
}

const named = ({ image, rule }: ManifestHeader): { image: Digest; rule: string } => ({ image, rule });

function fits({ trees }: ManifestHeader, scan: Scan): boolean {
  const { main, extra } = scan.trees.usr;
  return trees.usr.main.comparison === main && (extra === null || trees.usr.extra === extra);
}

type Found = {
  readonly headers: readonly ManifestHeader[];
  /** The fs-verity digests of the image; undefined where they are not to be had. */
  readonly verity: () => Promise<VerityLines | undefined>;
  readonly load: (header: ManifestHeader) => Promise<Expected | { readonly none: string }>;
};

async function findManifest(
  deps: RunDeps,
  folder: string,
  identity: Identity,
  outbox: Outbox,
  { state }: Observed,
): Promise<Found | { readonly none: string }> {
  const digest = state.booted?.image?.digest;
  if (digest === null || digest === undefined) return { none: 'the host does not tell which image it booted' };
  if (identity.serverKey === null) return { none: NO_SERVER_KEY };
  const { answer } = outbox.chain;
  const manifests = new Manifests(
    {
      disk: deps.disk,
      clock: deps.clock,
      verify: deps.verify,
      server: deps.server,
      bearer: answer?.manifestBearer ?? identity.manifestBearer,
      serverKey: parsePublicKey(identity.serverKey),
    },
    `${folder}/manifests`,
  );
  const found = await manifests.headers(digest, state.backend, answer?.want === 'full');
  if (found.kind === 'none') return { none: found.why };
  // What came by file may be for an image that this host is still to get.
  const images = [state.booted, state.staged, state.rollback].flatMap((entry) => entry?.image?.digest ?? []);
  if (deps.server !== null) await manifests.prune(images, state.backend);
  return {
    headers: found.headers,
    verity: async () => {
      const text = found.verity === undefined ? undefined : await manifests.verity(found.verity);
      if (text === undefined || 'kind' in text) return undefined;
      try {
        return verityLines(text, found.verity!.bytes);
      } catch (error) {
        if (!(error instanceof VerityTextError)) throw error;
        await deps.say(`every file is read: ${error.message}`);
        return undefined;
      }
    },
    load: async (header) => {
      const loaded = await manifests.manifest(header);
      return loaded.kind === 'none' ? { none: loaded.why } : loaded;
    },
  };
}

const refusedBy = (flushed: FlushResult | null): boolean => flushed !== null && flushed.refused.length > 0;

/** As PROTOCOL 7: what was seen counts before what could not be told. */
function outcomeOf(
  { scan, with: compared }: Compared,
  delivery: FlushResult | null,
  refused: boolean,
): Pick<Cycle, 'exit' | 'complete'> {
  const { usr, etc } = scan.trees;
  const complete =
    !refused &&
    (delivery === null || delivery.waiting === 0) &&
    !('none' in compared) &&
    ![usr.main, usr.extra, etc.main, etc.extra].includes(null);
  const differs =
    !('none' in compared) &&
    (scan.drift.length > 0 || scan.truncated !== null || scan.secrets.some(({ state }) => state !== 'same'));
  return { exit: refused || differs ? EXIT.different : complete ? EXIT.ok : EXIT.unknown, complete };
}

/** The server's time, within what it may ask (docs/report.md 4.3); without one, our own interval with jitter. */
function nextTime(
  outbox: Outbox,
  intervalMs: number,
  { clock, random }: { readonly clock: Clock; readonly random: () => number },
): Instant {
  const now = clock();
  const { answer, notBefore } = outbox.chain;
  const wished = answer === null ? undefined : parseInstant(answer.next);
  const told = wished !== undefined && wished > now && outbox.waiting === 0;
  const next = told
    ? Math.min(Math.max(wished, now + intervalMs / 2), now + DAY_MS)
    : now + intervalMs * (0.9 + 0.2 * random());
  const quiet = notBefore === null ? undefined : parseInstant(notBefore);
  return quiet !== undefined && quiet > next && quiet - now < DAY_MS ? quiet : next;
}

async function handOver({ disk, say, clock }: RunDeps, outbox: Outbox, file: string): Promise<void> {
  const count = await outbox.hand((envelopes) => {
    const { folder, name } = placeOf(file);
    const before = disk.read(file, Number.MAX_SAFE_INTEGER) ?? new Uint8Array();
    const lines = envelopes.flatMap((envelope) => [envelope, Buffer.from('\n')]);
    try {
      save(disk, folder, name, Buffer.concat([before, ...lines]));
    } catch (error) {
      throw cannotWrite(file, error); // what was sealed waits in the spool
    }
  });
  await say(
    `${count} report${count === 1 ? '' : 's'} written to ${file} at ${formatInstant(clock())}: take it to the server, bootproof import FILE`,
  );
}
