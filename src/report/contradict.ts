/** Check 7 for full reports (docs/report.md 3.4): manifest and listed drift must give the digests that were reported, and no part deny another. */
import type { ByteString } from '#src/bytes.ts';
import { digestOf, type Digest, type Sha256 } from '#src/digest.ts';
import { driftFromJson, isUnread, type Drift, type Hole, type Secret } from '#src/drift/drift.ts';
import { applyDrift, DriftError, recompute } from '#src/drift/recompute.ts';
import { comparisonText, isSecret, SECRET_PATHS_ID } from '#src/drift/redact.ts';
import { comparePaths, TREES, treeOf, type TreeName } from '#src/manifest/entry.ts';
import type { ManifestHeader, TreeTexts } from '#src/manifest/header.ts';
import { nameFromJson } from '#src/manifest/json.ts';
import { extraLine } from '#src/manifest/mtree.ts';
import { unvis } from '#src/manifest/vis.ts';
import { refuse, type Flag, type Refused } from './refusal.ts';
import type { FullReport } from './report.ts';

/** What a full report lists, with names as bytes. */
export type Contents = {
  readonly kind: 'contents';
  readonly drift: readonly Drift[];
  readonly secrets: readonly Secret[];
  readonly holes: Readonly<Record<TreeName, readonly Hole[]>>;
};

/** `consistent`: the digests follow from manifest and drift. `unchecked`: some of them are held against nothing, `why` says for what reason. */
export type Consistency = {
  readonly kind: 'consistent' | 'unchecked';
  readonly why: 'no-manifest' | 'other-secret-paths' | 'truncated' | 'holes' | 'capabilities' | null;
  readonly flags: readonly Extract<Flag, 'drift-truncated' | 'scan-implausible'>[];
};

const CODES = {
  drift: 'DRIFT_CONTRADICTS',
  holes: 'HOLES_CONTRADICT',
  tree: 'TREE_CONTRADICTS',
  contents: 'CONTENTS_CONTRADICT',
} as const;

const no = (what: keyof typeof CODES, message: string): Refused => refuse(7, CODES[what], message);
const show = (path: ByteString): string => JSON.stringify(path.slice(0, 200));

/** The report's lists, or what they deny each other (docs/report.md 3.4, 1 and 2). Needs no manifest. */
export function readContents(report: FullReport): Contents | Refused {
  const drift: Drift[] = [];
  for (const json of report.drift) {
    const line = driftFromJson(json);
    if (line === undefined || treeOf(line.path) === undefined)
      return no('drift', `line ${drift.length + 1} contradicts itself or is outside /usr and /etc`);
    const last = drift.at(-1);
    if (last !== undefined && comparePaths(last.path, line.path) >= 0)
      return no('drift', `${show(line.path)} is listed twice or out of order`);
    drift.push(line);
  }
  const secrets: Secret[] = [];
  for (const { path: text, path_b64, state } of report.secrets) {
    const path = nameFromJson(text, path_b64);
    if (path === undefined) return no('drift', `secret ${secrets.length + 1} has no proper name`);
    secrets.push({ path, state });
  }
  if (report.manifest === null && (drift.length > 0 || secrets.length > 0 || report.truncated !== null))
    return no('drift', 'differences are listed, but no manifest that anything was compared with');
  if (report.truncated !== null)
    for (const change of ['added', 'removed', 'modified'] as const)
      if (drift.filter((line) => line.change === change).length > report.truncated[change])
        return no('drift', `more is listed as ${change} than the total says`);
  const holes = readHoles(report, drift);
  return 'kind' in holes ? holes : { kind: 'contents', drift, secrets, holes };
}

function readHoles(report: FullReport, drift: readonly Drift[]): Record<TreeName, Hole[]> | Refused {
  const found: Record<TreeName, Hole[]> = { usr: [], etc: [] };
  for (const tree of TREES) {
    const { main, extra, holes, holesCapped } = report.trees[tree];
    const whole = holes.length === 0 && !holesCapped;
    // A digest of the extra text may be missing alone: not every host lets its file capabilities be read.
    if ((main !== null) !== whole || (main === null && extra !== null))
      return no('holes', `/${tree}: a tree has either digests, or holes`);
    for (const { path: text, path_b64, kind, detail } of holes) {
      const path = nameFromJson(text, path_b64);
      if (path === undefined || treeOf(path) !== tree) return no('holes', `/${tree}: a hole is not in this tree`);
      found[tree].push({ path, kind, detail });
    }
  }
  const kinds = new Map([...found.usr, ...found.etc].map(({ path, kind }) => [path, kind]));
  for (const line of drift) {
    const fault = holeFault(line, kinds);
    if (fault !== undefined) return no('holes', `${show(line.path)} ${fault}`);
  }
  return found;
}

/** What is wrong with a line, given which paths are holes (docs/report.md 1.10). */
function holeFault(line: Drift, kinds: ReadonlyMap<ByteString, Hole['kind']>): string | undefined {
  const { path } = line;
  if (kinds.size > 0 && ancestors(path).some((top) => kinds.has(top))) return 'is listed, but lies in a hole';
  const kind = kinds.get(path);
  if (kind === undefined)
    return 'actual' in line && isUnread(line.actual) ? 'has a size and no digest, but was read' : undefined;
  if (kind === 'mount') return 'is listed, but lies under a mount';
  if (!('actual' in line)) return 'is called removed, but could not be read';
  return line.actual.sha256 === undefined ? undefined : 'has a digest, but could not be read';
}

/** Every folder above a path. */
function ancestors(path: ByteString): ByteString[] {
  const out: ByteString[] = [];
  for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) out.push(path.slice(0, at));
  return out;
}

/** Texts that are not those of the files that are listed, or that no report may carry (docs/report.md 3.4.6). */
function checkContents(report: FullReport, drift: readonly Drift[], sha256: Sha256): Refused | undefined {
  if (report.contents === null || report.contents.length === 0) return undefined;
  const lines = new Map(drift.map((line) => [line.path, line]));
  let last: ByteString | undefined;
  for (const content of report.contents) {
    const path = nameFromJson(content.path, content.path_b64);
    if (path === undefined) return no('contents', 'a content has no proper name');
    if (last !== undefined && comparePaths(last, path) >= 0)
      return no('contents', `${show(path)} is told twice or out of order`);
    last = path;
    if (!path.startsWith('/etc/')) return no('contents', `${show(path)} is not below /etc`);
    // Another list may not know of it yet: then it is not shown (server/contents.ts).
    if (report.secretPaths.id === SECRET_PATHS_ID && isSecret(path, report.secretPaths.added))
      return no('contents', `${show(path)} is a secret`);
    const line = lines.get(path);
    if (line === undefined || !('actual' in line) || line.actual.sha256 === undefined)
      return no('contents', `${show(path)} is not listed as a file that was read and differs`);
    if (!('text' in content)) continue;
    if (content.text.includes('\0')) return no('contents', `${show(path)} holds a NUL, which is no text`);
    const bytes = new TextEncoder().encode(content.text);
    if (bytes.length !== line.actual.size || sha256(bytes) !== line.actual.sha256)
      return no('contents', `${show(path)} has another digest or size than the text that is said to be its content`);
  }
  return undefined;
}

/** The manifest that a report names, as the server has it. */
export type KnownManifest = {
  readonly header: ManifestHeader;
  /** A tree's *full* texts; asked for only where digests alone do not decide. */
  texts(tree: TreeName): Promise<TreeTexts>;
  /** A tree's comparison text without secret paths of a site, where it is kept: making it costs more than all the rest of the check. */
  comparison?(tree: TreeName): Promise<string>;
};

/**
 * The rest of check 7 (docs/report.md 3.4, 3 to 6). `manifest` is the one that the report names; undefined where it names none, or
 * the server has not got it. `booted` is the image manifest digest that the booted digest stands for, where that is known.
 */
export async function checkConsistency(
  report: FullReport,
  contents: Contents,
  known: { readonly manifest: KnownManifest | undefined; readonly booted: Digest | undefined },
  sha256: Sha256,
): Promise<Consistency | Refused> {
  const flags: Consistency['flags'][number][] = report.truncated === null ? [] : ['drift-truncated'];
  const unchecked = (why: Consistency['why']): Consistency => ({ kind: 'unchecked', why, flags });
  const forged = checkContents(report, contents.drift, sha256);
  if (forged !== undefined) return forged;
  if (report.manifest === null) return unchecked('no-manifest');
  if (known.booted !== undefined && report.manifest.image !== known.booted)
    return refuse(7, 'MANIFEST_CONTRADICTS', `compared with ${report.manifest.image}, but booted is ${known.booted}`);
  if (known.manifest === undefined) return unchecked('no-manifest');
  const { header } = known.manifest;
  if (TREES.some((tree) => isImplausible(report.trees[tree], header.trees[tree].entries)))
    flags.push('scan-implausible');
  // Another list of secrets gives /etc another comparison text, which cannot be made here. Nothing else depends on that list.
  const isOtherList = header.secretPaths !== report.secretPaths.id;
  for (const tree of TREES) {
    const check = isOtherList && tree === 'etc' ? checkExtra : checkTree;
    const refused = await check(tree, report, contents, known.manifest, sha256);
    if (refused !== undefined) return refused;
  }
  if (isOtherList) return unchecked('other-secret-paths');
  if (report.truncated !== null) return unchecked('truncated');
  if (TREES.some((tree) => report.trees[tree].main === null)) return unchecked('holes');
  if (TREES.some((tree) => report.trees[tree].extra === null)) return unchecked('capabilities');
  return { kind: 'consistent', why: null, flags };
}

function isImplausible({ entries, holes }: FullReport['trees']['usr'], expected: number): boolean {
  return holes.length === 0 && entries < expected / 2;
}

async function checkTree(
  tree: TreeName,
  report: FullReport,
  contents: Contents,
  manifest: KnownManifest,
  sha256: Sha256,
): Promise<Refused | undefined> {
  const said = report.trees[tree];
  const drift = contents.drift.filter(({ path }) => treeOf(path) === tree);
  const secrets = contents.secrets.filter(({ path }) => treeOf(path) === tree);
  const secretPaths = report.secretPaths.added;
  const { main, extra } = manifest.header.trees[tree];
  const asBuilt = said.main === main.comparison && said.extra === extra;
  // The usual case, a tree that is as it was built, needs no text. Secrets are held against the text in any case.
  if (drift.length === 0 && secrets.length === 0 && asBuilt && (tree === 'usr' || secretPaths.length === 0))
    return undefined;
  const full = await manifest.texts(tree);
  const kept = secretPaths.length === 0 ? await manifest.comparison?.(tree) : undefined;
  const expected = {
    main: kept ?? comparisonText(full.main, secretPaths),
    extra: said.extra === null ? withoutCapabilities(full.extra) : full.extra,
  };
  const unread = new Set(contents.holes[tree].map(({ path }) => path));
  const claim = { tree, drift, secrets, secretPaths, unread };
  try {
    if (report.truncated !== null || said.main === null) {
      applyDrift(expected, claim);
      return undefined;
    }
    const found = recompute(expected, claim, sha256);
    if (found.main === said.main && (said.extra === null || found.extra === said.extra)) return undefined;
    return no(
      'tree',
      `/${tree}: manifest and listed differences give ${found.main} and ${found.extra}, reported are ${said.main} and ${said.extra}`,
    );
  } catch (error) {
    if (!(error instanceof DriftError)) throw error;
    return no(error.code === 'DRIFT_EXPECTED' ? 'tree' : 'drift', `/${tree}: ${error.message}`);
  }
}

/** As `checkTree`, of the extra text alone: capabilities and devices are told of secrets too. */
async function checkExtra(
  tree: TreeName,
  report: FullReport,
  contents: Contents,
  manifest: KnownManifest,
  sha256: Sha256,
): Promise<Refused | undefined> {
  const said = report.trees[tree].extra;
  if (said === null) return undefined;
  const lines = new Map<ByteString, string>();
  for (const line of (await manifest.texts(tree)).extra.match(/.*\n/g) ?? []) {
    const path = unvis(line.slice(1, line.indexOf('\t')));
    lines.set(path, (lines.get(path) ?? '') + line);
  }
  for (const drift of contents.drift) {
    const { path } = drift;
    if (treeOf(path) !== tree) continue;
    const before = 'expected' in drift ? extraLine({ ...drift.expected, path }) : '';
    if (before !== (lines.get(path) ?? ''))
      return no('tree', `/${tree}: ${show(path)}: the manifest has another capability or device`);
    lines.set(path, 'actual' in drift ? extraLine({ ...drift.actual, path }) : '');
  }
  if (report.truncated !== null) return undefined;
  const text = [...lines].sort(([a], [b]) => comparePaths(a, b)).map(([, line]) => line);
  const found = digestOf(text.join(''), sha256);
  if (found === said) return undefined;
  return no('tree', `/${tree}: manifest and listed differences give ${found}, reported is ${said}`);
}

/** What a host compared with that lets nobody read capabilities (docs/report.md 1.6): they are neither expected nor seen. */
export function withoutCapabilities(extra: string): string {
  return extra.replace(/^.*\tsecurity\.capability=.*\n/gm, '');
}
