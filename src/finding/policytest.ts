/**
 * Table tests of a host policy (docs/policy.md, section 13.1): hosts as they may be found, and the findings and verdict that must follow.
 * YAML beside the policy, held by the same judge as real reports.
 */
import { z } from 'zod';
import { fromUtf8 } from '#src/bytes.ts';
import { DeploymentState, Overlay } from '#src/deployment/state.ts';
import type { Digest } from '#src/digest.ts';
import { problemOf, record, word } from '#src/document/shape.ts';
import { DocumentError, readYaml, type Problem } from '#src/document/yaml.ts';
import { HOLE_KINDS, SECRET_STATES, type Drift, type Hole } from '#src/drift/drift.ts';
import { POLICY_RULES_MAX } from '#src/limits.ts';
import { treeOf, type Facts } from '#src/manifest/entry.ts';
import { freshnessOf, type Policy } from '#src/policy/document.ts';
import { evaluate, type Evidence } from '#src/policy/evaluate.ts';
import { NO_HOST, type HostFacts } from '#src/policy/host.ts';
import { PROVENANCE_FAULTS, REPORT_FLAGS, SEVERITIES, type Judgement } from '#src/policy/judgement.ts';
import { Duration } from '#src/policy/schema.ts';
import { judgeHost, VERDICTS, type Provenance, type Standing } from './verdict.ts';

export const POLICY_TEST_FORMAT = 'bootproof.policy-test/1';

const text = z.string('expected text');
const list = <Item extends z.ZodType>(item: Item) => z.array(item, 'expected a list').max(POLICY_RULES_MAX);
const Path = z
  .string('expected a path')
  .refine((path) => treeOf(fromUtf8(path)) !== undefined, 'expected a path at or below /usr or /etc')
  .transform((path) => fromUtf8(path));
const Hex = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hex digits in quotes');
const Id = z.int('expected a number').min(0).max(0xffff_ffff);

/** What is left out is a plain file of root: `0644`, owner 0, some content. */
const FactsDocument = record({
  type: word(['dir', 'file', 'symlink', 'char', 'block', 'fifo', 'socket']).optional(),
  mode: z
    .string('a mode must be quoted, as in "0644"')
    .regex(/^[0-7]{4}$/, 'expected four octal digits, as in "0644"')
    .optional(),
  uid: Id.optional(),
  gid: Id.optional(),
  sha256: Hex.optional(),
  link: text.optional(),
  capability: text.optional(),
  device: text.optional(),
});
type FactsDocument = z.infer<typeof FactsDocument>;

const DriftDocument = record({
  path: Path,
  change: word(['added', 'removed', 'modified']),
  before: FactsDocument.optional(),
  after: FactsDocument.optional(),
  /** Of a modified path: its content is another, whatever else changed. */
  content: word(['changed', 'same']).optional(),
});

const AccountDocument = record({
  name: text,
  uid: Id,
  gid: Id.optional(),
  shell: text.optional(),
  password: z.boolean('expected true or false').optional(),
});

const HostDocument = record({
  labels: z
    .unknown()
    .transform((value, context): ReadonlyMap<string, string> => {
      const entries = typeof value === 'object' && value !== null ? Object.entries(value) : [];
      if (entries.length > 0 && entries.every(([, said]) => typeof said === 'string'))
        return new Map(entries as [string, string][]);
      context.issues.push({
        code: 'custom',
        input: value,
        message: 'expected labels with values, as in { env: prod }',
      });
      return z.NEVER;
    })
    .optional(),
  group: text.optional(),
  image: record({ digest: text.optional(), repositories: list(text).optional(), version: text.optional() }).optional(),
});

const StateDocument = record({
  overlays: list(
    record({
      path: text,
      kind: Overlay.shape.kind,
      detail: text.optional(),
      writable: z.boolean('expected true or false').optional(),
      masks: z.boolean('expected true or false').optional(),
    }),
  ).optional(),
  layered: list(text).optional(),
  kargs: list(text).optional(),
  contradictions: list(text).optional(),
  verity: z.boolean('expected true or false').optional(),
  transientRoot: z.boolean('expected true or false').optional(),
  signature: text.nullable().optional(),
});

const Expected = record({
  findings: list(text).optional(),
  verdict: word(VERDICTS).optional(),
  integrity: word(['intact', 'drifted', 'masked', 'unverifiable']).optional(),
  allowed: Id.optional(),
  local: Id.optional(),
}).refine(
  (expected) => Object.values(expected).some((value) => value !== undefined),
  'expected findings, verdict, integrity, allowed or local',
);

const CaseDocument = record({
  name: text.min(1, 'expected a sentence').max(200),
  host: HostDocument.optional(),
  drift: list(DriftDocument).optional(),
  secrets: list(
    record({ path: Path, state: word(SECRET_STATES as unknown as readonly [string, ...string[]]) }),
  ).optional(),
  accounts: record({
    added: list(AccountDocument).optional(),
    removed: list(AccountDocument).optional(),
    changed: list(AccountDocument).optional(),
  }).optional(),
  state: StateDocument.optional(),
  holes: list(
    record({ path: Path, kind: word([...HOLE_KINDS] as [string, ...string[]]), detail: text.optional() }),
  ).optional(),
  manifest: word(['ready', 'pending', 'failed', 'unknown', 'not-allowed']).optional(),
  flags: list(word(REPORT_FLAGS)).optional(),
  provenance: word(['trusted', 'not-assessed', ...PROVENANCE_FAULTS]).optional(),
  stale: list(Path).optional(),
  rollback: z.boolean('expected true or false').optional(),
  /** How old the image is, and since when its tag points at another one. */
  imageAge: Duration.optional(),
  behindTag: Duration.optional(),
  expect: Expected,
});
export type PolicyCase = z.infer<typeof CaseDocument> & { readonly line: number };

const TestDocument = record({
  format: z.literal(POLICY_TEST_FORMAT, `expected ${POLICY_TEST_FORMAT}`),
  policy: text.min(1, 'expected a file beside this one, or default'),
  cases: list(CaseDocument).min(1, 'expected at least one case'),
});

export type PolicyTests = {
  /** A file beside this one, or `default`. */
  readonly policy: string;
  readonly cases: readonly PolicyCase[];
};

/** @throws {DocumentError} naming every problem with its place. */
export function parsePolicyTests(source: string, file: string): PolicyTests {
  const yaml = readYaml(source, file);
  const parsed = TestDocument.safeParse(yaml.value, { reportInput: true });
  if (!parsed.success) {
    const problems: Problem[] = parsed.error.issues.map((issue) => problemOf(issue, yaml));
    throw new DocumentError(
      'DOCUMENT_INVALID',
      file,
      problems.sort((a, b) => a.line - b.line || a.column - b.column),
    );
  }
  const { policy, cases } = parsed.data;
  return { policy, cases: cases.map((one, index) => ({ ...one, line: yaml.placeOf(['cases', index]).line })) };
}

/** What was expected and what came, a line each; empty where the case holds. */
export function runPolicyCase(policy: Policy, test: PolicyCase): string[] {
  const evidence = evidenceOf(test);
  const { judgements, facts } = evaluate(evidence, policy);
  const standing = standingOf(test, policy, judgements, facts);
  const { expect } = test;
  const out: string[] = [];
  if (expect.findings !== undefined) out.push(...compareFindings(expect.findings, judgements));
  const same = (name: string, wanted: string | number | undefined, found: string | number): void => {
    if (wanted !== undefined && wanted !== found) out.push(`${name}: expected ${wanted}, got ${found}`);
  };
  same('verdict', expect.verdict, standing.verdict);
  same('integrity', expect.integrity, standing.integrity.state);
  same('allowed', expect.allowed, standing.integrity.allowed);
  same('local', expect.local, standing.integrity.local);
  return out;
}

/** `rule`, `rule subject` or `severity rule subject`: exactly these, in any order. */
function compareFindings(expected: readonly string[], judgements: readonly Judgement[]): string[] {
  const left = judgements.map(({ severity, rule, subject }) => ({ severity, rule, subject }));
  const out: string[] = [];
  // The most exact first, so that `rule` alone does not take the finding that `rule subject` means.
  for (const wanted of [...expected].sort((a, b) => b.split(' ').length - a.split(' ').length)) {
    const words = wanted.split(' ');
    const severity = (SEVERITIES as readonly string[]).includes(words[0]!) ? words.shift() : undefined;
    const rule = words.shift();
    const subject = words.length === 0 ? undefined : words.join(' ');
    const at = left.findIndex(
      (found) =>
        found.rule === rule &&
        (severity === undefined || found.severity === severity) &&
        (subject === undefined || found.subject === subject),
    );
    if (at < 0) out.push(`expected the finding ${wanted}`);
    else left.splice(at, 1);
  }
  return [...out, ...left.map(({ severity, rule, subject }) => `unexpected: ${severity} ${rule} ${subject}`)];
}

const NOW = 1e15;
const IMAGE = `sha256:${'1'.repeat(64)}` as Digest;
const OTHER = `sha256:${'2'.repeat(64)}`;
const CONTENT = ['a'.repeat(64), 'b'.repeat(64)] as const;

function factsOf(said: FactsDocument | undefined, base?: Facts): Facts {
  const type = said?.type ?? base?.type ?? 'file';
  const from = base?.type === type ? base : undefined;
  const mode =
    said?.mode === undefined
      ? (from?.mode ?? (type === 'dir' ? 0o755 : type === 'symlink' ? 0 : 0o644))
      : Number.parseInt(said.mode, 8);
  const content = type === 'file' ? { size: 1, sha256: said?.sha256 ?? from?.sha256 ?? CONTENT[0] } : {};
  const link = said?.link === undefined ? (from?.link ?? 'x') : fromUtf8(said.link);
  const capability = said?.capability ?? from?.capability;
  const device = said?.device ?? from?.device ?? '1:3';
  return {
    type,
    mode,
    uid: said?.uid ?? base?.uid ?? 0,
    gid: said?.gid ?? base?.gid ?? 0,
    ...content,
    ...(type === 'symlink' ? { link } : {}),
    ...(capability === undefined ? {} : { capability }),
    ...(type === 'char' || type === 'block' ? { device } : {}),
  };
}

function driftOf({ path, change, before, after, content }: z.infer<typeof DriftDocument>): Drift {
  const expected = factsOf(before);
  if (change === 'added') return { path, change, actual: factsOf(after) };
  if (change === 'removed') return { path, change, expected };
  const actual = factsOf(after, expected);
  // Nothing said: it is the content that differs, as it mostly is.
  const isContent = content === 'changed' || (content === undefined && after === undefined);
  return {
    path,
    change,
    expected,
    actual: isContent && actual.type === 'file' ? { ...actual, sha256: CONTENT[1], size: 2 } : actual,
  };
}

function evidenceOf(test: PolicyCase): Evidence {
  const holes = (test.holes ?? []).map(({ path, kind, detail }): Hole => ({
    path,
    kind: kind as Hole['kind'],
    detail: detail ?? '',
  }));
  const accounts = (said: z.infer<typeof AccountDocument>[] | undefined) =>
    (said ?? []).map(({ name, uid, gid, shell, password }) => ({
      name,
      uid,
      gid: gid ?? uid,
      shell: shell ?? '/bin/bash',
      hasPassword: password ?? false,
    }));
  const { manifest = 'ready', provenance } = test;
  const fault = PROVENANCE_FAULTS.find((known) => known === provenance);
  return {
    manifest:
      manifest === 'ready'
        ? { state: 'ready', image: IMAGE, rule: 'ostree/1' }
        : { state: manifest, image: IMAGE, code: CODES[manifest], detail: null },
    drift: (test.drift ?? []).map(driftOf),
    secrets: (test.secrets ?? []).map(({ path, state }) => ({ path, state: state as 'differs' })),
    trees: {
      usr: { holes: holes.filter(({ path }) => treeOf(path) === 'usr'), holesCapped: false },
      etc: { holes: holes.filter(({ path }) => treeOf(path) === 'etc'), holesCapped: false },
    },
    truncated: null,
    deployment: deploymentOf(test.state),
    flags: test.flags ?? [],
    skewMs: 0,
    silence: 'over',
    host: hostOf(test.host),
    accounts:
      test.accounts === undefined
        ? null
        : {
            added: accounts(test.accounts.added),
            removed: accounts(test.accounts.removed),
            changed: accounts(test.accounts.changed),
          },
    lineage: {
      stale: (test.stale ?? []).map((path) => ({
        path,
        since: OTHER,
        now: factsOf(undefined),
        was: factsOf({ sha256: CONTENT[1] }),
      })),
      rollback: test.rollback === true ? { image: IMAGE, from: OTHER } : null,
    },
    age: {
      image: IMAGE,
      at: NOW,
      madeAt: NOW - (test.imageAge ?? 0),
      behindTagSince: test.behindTag === undefined ? null : NOW - test.behindTag,
    },
    ...(provenance === undefined || provenance === 'not-assessed'
      ? {}
      : {
          provenance: {
            image: IMAGE,
            told: true,
            faults: fault === undefined ? [] : [{ fault, why: 'as the test says' }],
          },
        }),
  };
}

const CODES = {
  pending: 'MANIFEST_PENDING',
  failed: 'MANIFEST_FAILED',
  unknown: 'IMAGE_NOT_TOLD',
  'not-allowed': 'IMAGE_SOURCE_NOT_ALLOWED',
} as const;

function hostOf(said: z.infer<typeof HostDocument> | undefined): HostFacts {
  const { labels, group, image } = said ?? {};
  return {
    labels: labels ?? NO_HOST.labels,
    group: group ?? null,
    image: { digest: image?.digest ?? IMAGE, repositories: image?.repositories ?? [], version: image?.version ?? null },
  };
}

function deploymentOf(said: z.infer<typeof StateDocument> | undefined): DeploymentState {
  const {
    overlays = [],
    layered = [],
    kargs = ['root=UUID=0', 'rw'],
    contradictions = [],
    signature = 'containerPolicy',
  } = said ?? {};
  return {
    backend: 'ostree',
    via: 'bootc',
    booted: {
      image: { reference: null, transport: 'registry', digest: IMAGE, version: null, signature },
      checksum: null,
      stateroot: 'default',
      pinned: false,
      layered,
    },
    staged: null,
    rollback: null,
    overlays: overlays.map(({ path, kind, detail, writable, masks }) => ({
      path,
      kind,
      detail: detail ?? '',
      writable: writable ?? false,
      masks: masks ?? true,
      beneath: null,
    })),
    kargs,
    kernel: null,
    verity: said?.verity ?? null,
    transientRoot: said?.transientRoot ?? null,
    contradictions,
  };
}

function standingOf(
  test: PolicyCase,
  policy: Policy,
  judgements: readonly Judgement[],
  integrity: ReturnType<typeof evaluate>['facts'],
): Standing {
  return judgeHost(
    {
      enrolledAt: 0,
      integrity,
      findings: judgements.map(({ rule, kind, subject, signature, severity, verdict }) => ({
        rule,
        kind,
        subject,
        signature,
        severity,
        verdict,
        waived: false,
      })),
      provenance: provenanceOf(test.provenance),
      lastLiveAt: 0,
      freshness: freshnessOf(policy, hostOf(test.host)),
      image: { behindTagSince: null, builtAt: null },
    },
    0,
  );
}

function provenanceOf(said: PolicyCase['provenance']): Provenance {
  switch (said) {
    case undefined:
    case 'not-assessed':
      return { state: 'not-assessed' };
    case 'unsigned':
    case 'rejected':
      return { state: said, why: 'as the test says' };
    case 'unverifiable':
      return { state: said, since: 0, why: 'as the test says' };
    default:
      return { state: 'trusted', by: 'the test', policy: 'test' };
  }
}
