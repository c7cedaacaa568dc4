/**
 * How a host changed a text file of /etc: the image's own text beside the one that its last full report carries, or why that is not shown
 * (docs/policy.md, section 14). What the policy denies stays in the signed envelope, which is evidence as it came, and is shown nowhere.
 */
import { hash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import type { ByteString } from '#src/bytes.ts';
import { betraysSecret, type Omission } from '#src/drift/contents.ts';
import { driftFromJson, type Drift } from '#src/drift/drift.ts';
import { diffLines, hunksOf, type Hunk } from '#src/drift/linediff.ts';
import { isSecret } from '#src/drift/redact.ts';
import { CONTENT_BYTES_MAX, CONTENTS_MAX } from '#src/limits.ts';
import { nameFromJson, nameJson } from '#src/manifest/json.ts';
import type { Policy } from '#src/policy/document.ts';
import { matchesGlob } from '#src/policy/paths.ts';
import { openReport } from '#src/report/accept.ts';
import type { FullReport } from '#src/report/report.ts';
import { pathOfSubject } from '#src/finding/describe.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import { rebuildCommand } from '#server/findingorigin.ts';
import { lastReport } from '#server/ingest/rejudge.ts';
import type { FindingDetail } from '#server/ingest/judge.ts';
import type { FindingGroup, FindingWithHost, Host } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

const zstd = promisify(zstdDecompress);
const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** Why a difference is not shown. */
export type Hidden =
  /** The path is a secret, or what it holds looks like one. */
  | 'secret'
  /** The policy that judges denies it. */
  | 'denied'
  /** The configuration inside the image names no files at all, or not this one. */
  | 'nothing-named'
  | 'not-named'
  /** As the agent says it. */
  | Exclude<Omission, 'secret'>
  /** The image's own text is not here: it was built before texts were kept, or for the reason that follows. */
  | 'image-unread'
  | `image-${Exclude<Omission, 'linked' | 'unsteady'>}`
  | 'image-unknown';

export type Difference = {
  readonly path: ByteString;
  /** Number of the report that it is told from. */
  readonly seq: number;
} & (
  | { readonly kind: 'shown'; readonly change: 'added' | 'modified'; readonly hunks: readonly Hunk[] }
  | { readonly kind: 'hidden'; readonly why: Hidden }
);

export type ContentDeps = {
  readonly store: Pick<Store, 'reports' | 'imageTexts'>;
  readonly policies: { readonly current: Pick<Policy, 'contentsDenied'> };
};

/** Whether a line of drift is about the content of a file of /etc, so that there is a difference to show or to keep back. */
export function isAboutContent(line: Drift): boolean {
  if (!line.path.startsWith('/etc/') || line.change === 'removed' || line.actual.type !== 'file') return false;
  return line.change === 'added' || line.expected.sha256 !== line.actual.sha256;
}

/** The difference of one path, by the host's last full report; undefined where that lists no other content of such a file. */
export async function differenceOn(
  host: Host,
  path: ByteString,
  deps: ContentDeps,
): Promise<{ readonly difference: Difference; readonly sha256: string | undefined } | undefined> {
  const report = await lastReport(host, deps.store);
  if (report === undefined) return undefined;
  const name = JSON.stringify(nameJson('path', path));
  const json = report.drift.find(
    (each) => JSON.stringify(each.path === undefined ? { path_b64: each.path_b64 } : { path: each.path }) === name,
  );
  const line = json && driftFromJson(json);
  if (line === undefined || !('actual' in line) || !isAboutContent(line)) return undefined;
  return { difference: await differenceOf(report, line, deps), sha256: line.actual.sha256 };
}

/**
 * The difference that a finding is about, on the first of these hosts that still shows it; undefined for a finding about no file of /etc, and
 * where none of them does.
 */
export async function differenceIn(
  group: Pick<FindingGroup, 'kind' | 'subject'>,
  findings: readonly FindingWithHost[],
  deps: ContentDeps & { readonly store: Pick<Store, 'hosts'> },
): Promise<{ readonly difference: Difference; readonly host: Pick<Host, 'id' | 'name' | 'images'> } | undefined> {
  const path = pathOfSubject(group);
  if (path === undefined || !path.startsWith('/etc/')) return undefined;
  for (const { hostId, detail } of findings.slice(0, HOSTS_TRIED)) {
    const host = await deps.store.hosts.get(hostId);
    if (host === undefined) continue;
    if (group.kind === 'secret')
      return { difference: { path, seq: host.chain.full?.seq ?? 0, kind: 'hidden', why: 'secret' }, host };
    const { change } = (detail ?? {}) as Partial<FindingDetail>;
    const found = await differenceOn(host, path, deps);
    // A host may have changed the file once more: that is another finding.
    if (found === undefined || (change?.actual !== undefined && change.actual.sha256 !== found.sha256)) continue;
    return { difference: found.difference, host };
  }
  return undefined;
}

/** Hosts whose last report is read for the sake of one page. */
const HOSTS_TRIED = 3;

/** The difference behind one of a report's lines (`isAboutContent`). */
export async function differenceOf(report: FullReport, line: Drift, deps: ContentDeps): Promise<Difference> {
  const { path } = line;
  const at = { path, seq: report.seq };
  const hidden = (why: Hidden): Difference => ({ ...at, kind: 'hidden', why });
  // An agent of another version may have had another list.
  if (isSecret(path, report.secretPaths.added)) return hidden('secret');
  if (isDenied(path, deps.policies.current)) return hidden('denied');
  if (report.contents === null) return hidden('nothing-named');
  const content = report.contents.find((each) => nameFromJson(each.path, each.path_b64) === path);
  if (content === undefined) return hidden(report.contents.length >= CONTENTS_MAX ? 'limit' : 'not-named');
  if ('omitted' in content) return hidden(content.omitted);
  if (betraysSecret(content.text)) return hidden('secret');
  if (line.change !== 'modified' || line.expected.type !== 'file')
    return { ...at, kind: 'shown', change: 'added', hunks: hunksOf(diffLines('', content.text)) };
  const own = await imageText(line.expected, report.manifest?.image, deps.store);
  if ('why' in own) return hidden(own.why);
  return { ...at, kind: 'shown', change: 'modified', hunks: hunksOf(diffLines(own.text, content.text)) };
}

async function imageText(
  { sha256: content, size }: { readonly sha256?: string; readonly size?: number },
  image: string | undefined,
  { imageTexts }: Pick<Store, 'imageTexts'>,
): Promise<{ readonly text: string } | { readonly why: Hidden }> {
  if (size === 0) return { text: '' };
  const bytes = content === undefined ? undefined : await imageTexts.text(content);
  if (bytes === undefined) {
    const why = image === undefined || content === undefined ? undefined : await imageTexts.why(image, content);
    return { why: why === undefined || why === 'linked' || why === 'unsteady' ? 'image-unknown' : `image-${why}` };
  }
  const text = (await zstd(bytes, { maxOutputLength: CONTENT_BYTES_MAX })).toString('utf8');
  return betraysSecret(text) ? { why: 'image-secret' } : { text };
}

const isDenied = (path: ByteString, { contentsDenied }: Pick<Policy, 'contentsDenied'>): boolean =>
  contentsDenied.some((glob) => matchesGlob(glob, path));

/** Whether somebody may have a report's envelope as it came: one with a text that the policy denies is for auditors and admins. */
export function mayTake(envelope: Uint8Array, who: Principal, policy: Pick<Policy, 'contentsDenied'>): boolean {
  return hasRole(who, 'auditor', 'admin') || !holdsDenied(envelope, policy);
}

function holdsDenied(envelope: Uint8Array, policy: Pick<Policy, 'contentsDenied'>): boolean {
  if (policy.contentsDenied.length === 0) return false;
  const opened = openReport(envelope, sha256);
  if (opened.kind === 'refused') return false;
  const { contents } = opened.value as Partial<FullReport>;
  return (contents ?? []).some((each) => {
    const path = nameFromJson(each.path, each.path_b64);
    return 'text' in each && path !== undefined && isDenied(path, policy);
  });
}

/** As `HIDDEN_TEXTS`, with the command that helps; `image`: as a command names it. */
export const hiddenText = (why: Hidden, image: string | null): string =>
  `${HIDDEN_TEXTS[why]}${why === 'image-unread' ? `: ${rebuildCommand(image)}` : ''}`;

/** In words, for whoever expected to see something. */
export const HIDDEN_TEXTS: Readonly<Record<Hidden, string>> = {
  secret: 'a secret, or it holds what looks like one: it does not leave the host, and is shown nowhere',
  denied: 'the host policy denies that it is shown (contents: deny)',
  'nothing-named':
    'the agent’s configuration in the image names no file whose content may leave the host (contents, docs/agent.md)',
  'not-named': 'the agent’s configuration in the image does not name this file (contents, docs/agent.md)',
  'too-large': 'it has more than 64 KiB, and stays on the host',
  'not-text': 'it is no UTF-8 text, and stays on the host',
  linked: 'it has further hard links, any of which may be a secret: it stays on the host',
  unsteady: 'it changed while the host was scanned; the next report tells it',
  limit: 'the report carries as much content as it may; other files come before it',
  'image-unread': 'the image was built here before texts were kept',
  'image-secret': 'what the image has there holds what looks like a secret, and is not kept',
  'image-too-large': 'what the image has there has more than 64 KiB, and is not kept',
  'image-not-text': 'what the image has there is no text, and is not kept',
  'image-limit': 'the image’s own text was not kept: it has more of them than are kept',
  'image-unknown': 'the image’s own text is not kept here',
};
