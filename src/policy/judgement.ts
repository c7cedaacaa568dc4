/**
 * Judgements: what policy makes of one path, of one thing that a host says of itself, or of how we heard of it
 * (docs/policy.md, section 6). A judgement is stateless; `src/finding` remembers it.
 */
import { fromUtf8 } from '#src/bytes.ts';
import { attributesOf, isUnread, type Drift, type DriftJson, type HoleKind, type Secret } from '#src/drift/drift.ts';
import type { Overlay } from '#src/deployment/state.ts';
import type { Facts } from '#src/manifest/entry.ts';
import type { FactsJson } from '#src/manifest/json.ts';
import { vis } from '#src/manifest/vis.ts';
import type { Flag } from '#src/report/refusal.ts';
import type { Account, Accounts } from '#src/report/report.ts';
import type { PolicyAttribute } from './schema.ts';

/** From least to most: the index is the order that the store keeps (0 to 4). */
export const SEVERITIES = ['info', 'low', 'medium', 'high', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** What a rule makes of what it matches; only `forbidden` becomes a judgement, the others are counted. */
export const EFFECTS = ['expected-local', 'allowed', 'forbidden'] as const;
export type Effect = (typeof EFFECTS)[number];

/**
 * What a judgement is about. The subject is: an escaped path (drift, secret, hole, overlay, stale-config), a package (layered), a kernel
 * argument (karg), words (contradiction), an image digest (manifest, outdated, provenance, rollback), an account's name, or `host`.
 */
export const JUDGEMENT_KINDS = [
  'drift',
  'secret',
  'hole',
  'overlay',
  'layered',
  'karg',
  'contradiction',
  'verity',
  'transient-root',
  'enforcement',
  'manifest',
  'report',
  'silence',
  'outdated',
  'provenance',
  'account',
  'stale-config',
  'rollback',
] as const;
export type JudgementKind = (typeof JUDGEMENT_KINDS)[number];

/** What an open, unwaived finding makes of its host's verdict. */
export const WEIGHTS = ['drifted', 'unverifiable', 'none'] as const;
export type Weight = (typeof WEIGHTS)[number];

/** What acceptance and the server's own memory say of a host's reports (docs/report.md 3; PROTOCOL 3.4 to 3.9). */
export const REPORT_FLAGS = [
  'identity-forked',
  'cloned',
  'chain-gap',
  'reports-dropped',
  'clock-skew',
  'drift-truncated',
  'holes-capped',
  'scan-implausible',
] as const satisfies readonly (Flag | 'reports-dropped' | 'holes-capped')[];
export type ReportFlag = (typeof REPORT_FLAGS)[number] | Flag;

/** What is wrong with who built the booted image; the first three are also answers of provenance (PROTOCOL 5). */
export const PROVENANCE_FAULTS = [
  'unsigned',
  'rejected',
  'unverifiable',
  'host-unreadable',
  'signature-vanished',
] as const;
export type ProvenanceFault = (typeof PROVENANCE_FAULTS)[number];

export const ACCOUNT_CHANGES = ['added', 'removed', 'changed'] as const satisfies readonly (keyof Accounts)[];
export type AccountChange = keyof Accounts;

/** A file of /etc that keeps what an older image said, while the image says something else now (docs/policy.md, section 11). */
export type Stale = {
  readonly path: string;
  /** The image under which the host's copy was made, or that it still equals. */
  readonly since: string;
  /** What the image says now, without what is secret; null where it no longer has the path. */
  readonly now: Facts | null;
  /** What it said then; null where it had no such path. */
  readonly was: Facts | null;
};

/** Expected beside actual, ready for JSON; which of these is there follows from the kind. */
export type Detail = {
  readonly change?: DriftJson;
  readonly secret?: Secret['state'];
  readonly overlay?: Overlay;
  readonly hole?: { readonly kind: HoleKind; readonly detail: string };
  readonly manifest?: { readonly state: string; readonly code: string };
  readonly account?: Account & { readonly change: AccountChange };
  /** The image's default now and as it was, and the image whose default the host's copy comes from. */
  readonly stale?: { readonly since: string; readonly now: FactsJson | null; readonly was: FactsJson | null };
  /** A figure in words: `4 min 12 s ahead`, `added 18000, removed 3, modified 2500`. */
  readonly note?: string;
};

export type Judgement = {
  /** Id of the rule. */
  readonly rule: string;
  readonly kind: JudgementKind;
  /** Printable ASCII or UTF-8 on one line; never the host's name. */
  readonly subject: string;
  /** What was observed, canonical (docs/policy.md, section 7): never an image digest, never a host. */
  readonly signature: string;
  readonly severity: Severity;
  readonly verdict: Weight;
  readonly controls: readonly string[];
  readonly reason: string;
  readonly detail: Detail;
};

/** A path's whole change: what differs in the open, and what is only known as "differs" because it is a secret. */
export type PathChange = {
  readonly path: string;
  readonly drift: Drift | undefined;
  /** Never `same`. */
  readonly secret: Exclude<Secret['state'], 'same'> | undefined;
};

/** The kind of a path's change, as drift names them. */
export function changeOf({ drift, secret }: PathChange): Drift['change'] {
  if (drift !== undefined) return drift.change;
  return secret === 'added' || secret === 'removed' ? secret : 'modified';
}

/** The attributes that changed, as policies name them; empty for what was added or removed. */
export function changedAttributes(change: PathChange): ReadonlySet<PolicyAttribute> {
  const out = new Set<PolicyAttribute>();
  if (changeOf(change) !== 'modified') return out;
  if (change.secret !== undefined) out.add('content');
  if (change.drift !== undefined)
    for (const name of attributesOf(change.drift)) out.add(name === 'size' || name === 'sha256' ? 'content' : name);
  return out;
}

/**
 * The change signature: the kind of change and what was observed, so that the same replacement on many hosts and under many
 * images is one group, and other content is another. Expected values are left out: they belong to the image.
 */
export function signatureOf(change: PathChange): string {
  const { drift, secret } = change;
  if (drift === undefined) return secret === 'added' || secret === 'removed' ? secret : 'differs';
  if (drift.change === 'removed') return 'removed';
  const hidden = secret === 'differs' ? ['differs'] : [];
  if (drift.change === 'added') return ['added', ...observed(drift.actual, SIGNED)].join(';');
  const attributes = attributesOf(drift);
  // Another type of thing is another thing: all that is known of it, not only what happens to differ.
  const named = attributes.includes('type') ? SIGNED : SIGNED.filter((name) => attributes.includes(name));
  // Of content that could not be read its size is all there is (docs/report.md 1.10).
  const size = isUnread(drift.actual) && attributes.includes('size') ? [`size=${drift.actual.size}`] : [];
  return ['modified', ...hidden, ...observed(drift.actual, named), ...size].join(';');
}

/** An account's change signature: what it is now. Of a removed one nothing is left to tell. */
export function accountSignature(change: AccountChange, { uid, gid, shell, hasPassword }: Account): string {
  if (change === 'removed') return change;
  const spelled = vis(fromUtf8(shell)).replaceAll(';', '\\073');
  return [change, `uid=${uid}`, `gid=${gid}`, `shell=${spelled}`, `password=${hasPassword ? 'yes' : 'no'}`].join(';');
}

/** What the image says now: whoever decides about it decides about this default, and about no later one. */
export function staleSignature({ now }: Pick<Stale, 'now'>): string {
  return now === null ? 'default;removed' : ['default', ...observed(now, SIGNED)].join(';');
}

// Size says nothing that the digest does not; the rest in the order of `ATTRIBUTES`.
const SIGNED = ['type', 'mode', 'uid', 'gid', 'sha256', 'link', 'capability', 'device'] as const;

function observed(facts: Facts, names: readonly (typeof SIGNED)[number][]): string[] {
  const all = names.length === SIGNED.length;
  return names
    .filter((name) => !all || facts[name] !== undefined)
    .filter((name) => name !== 'mode' || facts.type !== 'symlink')
    .map((name) => `${name}=${spell(name, facts)}`);
}

function spell(name: (typeof SIGNED)[number], facts: Facts): string {
  const value = facts[name];
  if (value === undefined) return '-';
  if (name === 'mode') return facts.mode.toString(8).padStart(4, '0');
  // `;` would end the field; vis leaves it as it is.
  return name === 'link' ? vis(facts.link!).replaceAll(';', '\\073') : String(value);
}
