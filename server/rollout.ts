/**
 * What a newer image would meet on the hosts of an older one (docs/policy.md, section 11.4): which of their own files of /etc would hide what
 * it changes there, and which are what it brings. In bounded memory and time, as a dry run is.
 */
import type { Instant } from '#src/clock.ts';
import { treeOf, type Facts } from '#src/manifest/entry.ts';
import { DRY_RUN_EXAMPLES_MAX } from '#src/limits.ts';
import { BootproofError } from '#src/error.ts';
import type { Principal } from '#server/access/principal.ts';
import { imageFor } from '#server/decisions/images.ts';
import { eachHost, type DryRunDeps } from '#server/dryrun.ts';
import { evidenceOf } from '#server/ingest/judge.ts';
import { sameFacts, shown, type Defaults } from '#server/ingest/lineage.ts';
import { lastFull, occasionOf } from '#server/ingest/rejudge.ts';
import type { Host } from '#server/store/records.ts';
import type { HostCursor } from '#server/store/store.ts';

/** An image of which nobody knows enough to say what it would meet. */
export class RolloutError extends BootproofError<'IMAGE_UNKNOWN' | 'IMAGE_NOT_READY' | 'IMAGES_UNLIKE'> {}

export type RolloutPath = {
  /** As bytes. */
  readonly path: string;
  readonly change: 'added' | 'removed' | 'modified';
  /** Without what is secret; null where the image has no such path. */
  readonly before: Facts | null;
  readonly after: Facts | null;
  /** Hosts whose own copy would hide it. */
  readonly shadowed: number;
  /** Hosts whose own copy is what it brings: it becomes the image's. */
  readonly same: number;
  /** Hosts that hold a secret of their own there: what it would hide is not known. */
  readonly untold: number;
  readonly examples: readonly {
    readonly host: string;
    readonly name: string;
    readonly meets: 'shadowed' | 'same' | 'untold';
  }[];
};

export type Rollout = {
  readonly before: string;
  readonly after: string;
  /** What the newer image changes in /etc, all of it; those that hosts meet first. */
  readonly paths: readonly RolloutPath[];
  readonly hosts: { readonly looked: number; readonly shadowed: number; readonly unjudged: number };
  /** Null where all hosts of the older image are in it. */
  readonly next: HostCursor | null;
};

type Draft = { -readonly [Key in keyof RolloutPath]: RolloutPath[Key] } & {
  examples: RolloutPath['examples'][number][];
};

/** On the hosts that the asker sees, between images that they see. @throws {RolloutError} */
export async function previewRollout(
  images: { readonly before: string; readonly after: string },
  range: { readonly cursor: HostCursor | null; readonly until: Instant },
  who: Pick<Principal, 'groups'>,
  deps: DryRunDeps,
): Promise<Rollout> {
  const [before, after] = [await named(images.before, who, deps), await named(images.after, who, deps)];
  const rule = before.rules.find((each) => after.rules.includes(each));
  if (rule === undefined)
    throw new RolloutError(
      'IMAGES_UNLIKE',
      `no host takes both images: ${before.digest} has ${before.rules.join(', ')}, ${after.digest} ${after.rules.join(', ')}`,
    );
  const newer = await defaultsOf(after.digest, rule, deps);
  const paths = changesOf(await defaultsOf(before.digest, rule, deps), newer);
  const hosts = { looked: 0, shadowed: 0, unjudged: 0 };
  const next = await eachHost(
    range,
    deps,
    async (host) => {
      const own = await ownFiles(host, deps);
      if (own === undefined) {
        hosts.unjudged++;
        return;
      }
      hosts.looked++;
      if (meet(host, own, paths, newer)) hosts.shadowed++;
    },
    { booted: before.names, scope: who.groups },
  );
  const list = [...paths.values()].sort(
    (a, b) => b.shadowed - a.shadowed || b.untold - a.untold || b.same - a.same || (a.path < b.path ? -1 : 1),
  );
  return { before: before.digest, after: after.digest, paths: list, hosts, next };
}

async function named(asked: string, who: Pick<Principal, 'groups'>, { store, images }: DryRunDeps) {
  const found = await imageFor(who, asked, store);
  if (found === undefined)
    throw new RolloutError('IMAGE_UNKNOWN', `no host has named ${asked}: an image is known here once one did`);
  const known = await images.resolve(found.image.digest);
  if (known.kind !== 'ready')
    throw new RolloutError('IMAGE_NOT_READY', `there is no manifest of ${found.image.digest}: ${known.state.code}`);
  const { digest, manifests } = known.image;
  const aliases = await store.read.aliases(digest);
  return {
    digest,
    rules: manifests.map(({ header }) => header.rule),
    names: [digest, ...aliases.map(({ alias }) => alias)],
  };
}

async function defaultsOf(image: string, rule: string, { defaults }: DryRunDeps): Promise<Defaults> {
  return (await defaults.of(image, rule)) ?? new Map();
}

/** By path; what only the newer image has is `added`. */
function changesOf(before: Defaults, after: Defaults): Map<string, Draft> {
  const out = new Map<string, Draft>();
  for (const path of new Set([...before.keys(), ...after.keys()])) {
    const [was, is] = [before.get(path), after.get(path)];
    if (sameFacts(was, is)) continue;
    const change = was === undefined ? 'added' : is === undefined ? 'removed' : 'modified';
    out.set(path, {
      path,
      change,
      before: shown(path, was),
      after: shown(path, is),
      shadowed: 0,
      same: 0,
      untold: 0,
      examples: [],
    });
  }
  return out;
}

/** What of /etc is the host's own, by path: its facts, undefined where it removed it, `secret` where only that is known. */
async function ownFiles(
  host: Host,
  deps: DryRunDeps,
): Promise<ReadonlyMap<string, Facts | undefined | 'secret'> | undefined> {
  const examined = await lastFull(host, deps);
  if (examined === undefined) return undefined;
  const at = Math.max(deps.clock(), host.standing.since);
  const circumstances = { ...occasionOf(host, host.chain.flags, { kind: 'policy' }, at), lineage: null };
  const { evidence } = await evidenceOf(examined, circumstances, deps);
  if (evidence.manifest.state !== 'ready' || evidence.truncated !== null) return undefined;
  const own = new Map<string, Facts | undefined | 'secret'>();
  for (const line of evidence.drift)
    if (treeOf(line.path) === 'etc' && evidence.variant?.(line) === undefined)
      own.set(line.path, line.change === 'removed' ? undefined : line.actual);
  for (const { path, state } of evidence.secrets)
    if (state !== 'same') own.set(path, state === 'removed' ? undefined : 'secret');
  return own;
}

function meet(
  host: Host,
  own: ReadonlyMap<string, Facts | undefined | 'secret'>,
  paths: ReadonlyMap<string, Draft>,
  newer: Defaults,
): boolean {
  let hides = false;
  for (const [path, facts] of own) {
    const draft = paths.get(path);
    if (draft === undefined) continue;
    const meets = facts === 'secret' ? 'untold' : sameFacts(facts, newer.get(path)) ? 'same' : 'shadowed';
    draft[meets]++;
    if (meets === 'shadowed') hides = true;
    if (draft.examples.length < DRY_RUN_EXAMPLES_MAX) draft.examples.push({ host: host.id, name: host.name, meets });
  }
  return hides;
}
