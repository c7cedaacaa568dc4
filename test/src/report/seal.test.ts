import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REPORT_BYTES_MAX } from '#src/limits.ts';
import { FullReport, Report, SameReport } from '#src/report/report.ts';
import { contentDigest, fitReport, sameInstead, sealReport, stateDigest } from '#src/report/seal.ts';
import { readContents } from '#src/report/contradict.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { full, hostSigner, same, someDigest } from './vectors.ts';

for (const [name, vector] of Object.entries({ full, same }))
  test(`sealing the ${name} document gives the vector's envelope and digest`, async () => {
    const report = Report.parse(vector.document);
    assert.deepEqual(await sealReport(report, hostSigner), { text: vector.envelope, digest: vector.digest });
  });

test('the digest of the deployment state is that of the vectors', () => {
  assert.equal(stateDigest(full.document.deployment), full.state);
  assert.equal(same.document.state, full.state);
});

const next: FullReport = {
  ...full.document,
  seq: 2,
  startedAt: same.document.startedAt,
  finishedAt: same.document.finishedAt,
  challenge: same.document.challenge,
  previous: full.digest,
  stats: { files: 1, bytes: 2, seconds: 3, peakRssBytes: 4, cached: 5 },
};
const accepted = { envelope: full.digest, content: contentDigest(full.document), sameCount: 0 };

test('where only time passed, a `same` stands for the full report: that of the vectors', () => {
  assert.deepEqual(sameInstead(next, accepted), same.document);
  assert.ok(SameReport.safeParse(sameInstead(next, accepted)).success);
  assert.equal(sameInstead(next, { ...accepted, sameCount: 6 })?.count, 7);
  const afterReboot = { ...next, bootId: '0b5e1c9e-0000-4000-8000-000000000002' };
  assert.equal(sameInstead(afterReboot, accepted)?.bootId, afterReboot.bootId);
});

test('before anything was accepted there is no `same`', () => assert.equal(sameInstead(next, null), undefined));

const { usr, etc } = full.document.trees;
const hole = { path: '/etc/x', kind: 'unreadable' as const, detail: 'EACCES' };
const changes: [string, Partial<FullReport>][] = [
  ['a digest of /usr', { trees: { usr: { ...usr, main: someDigest(1) }, etc } }],
  ['a digest of an extra text', { trees: { usr, etc: { ...etc, extra: someDigest(1) } } }],
  ['the number of entries', { trees: { usr, etc: { ...etc, entries: 99 } } }],
  ['a hole', { trees: { usr, etc: { ...etc, main: null, extra: null, holes: [hole] } } }],
  ['the drift list', { drift: full.document.drift.slice(1) }],
  ['a total', { truncated: { added: 1, removed: 1, modified: 1 } }],
  ['the state of a secret', { secrets: [{ path: '/etc/shadow', state: 'same' }] }],
  ['the rule', { manifest: { image: full.document.manifest!.image, rule: 'ostree/1-debris' } }],
  ['the image that it was compared with', { manifest: { image: someDigest(2), rule: 'ostree/1' } }],
  ['having a manifest', { manifest: null }],
  ['the secret paths', { secretPaths: { id: 'secret-paths/1', added: ['/etc/app/*'] } }],
  ['a kernel argument', { deployment: { ...full.document.deployment, kargs: ['ro'] } }],
  ['the agent', { agent: { ...full.document.agent, version: '0.2.0' } }],
  ['its configuration', { agent: { ...full.document.agent, config: someDigest(3) } }],
  ['the accounts', { accounts: { added: [], removed: [], changed: [] } }],
  ['the host', { host: `h_${'b'.repeat(26)}` }],
];
for (const [name, change] of changes)
  test(`no \`same\` if it differs in ${name}`, () =>
    assert.equal(sameInstead({ ...next, ...change }, accepted), undefined));

test('every member of a full report is either compared by `same` or named as passing time', () => {
  const time = ['seq', 'bootId', 'startedAt', 'finishedAt', 'challenge', 'checkpoint', 'dropped', 'previous', 'stats'];
  // Those of which only one value exists in version 1 cannot be changed by a test.
  const constant = ['version', 'kind', 'attestation', 'contents'];
  const tried = new Set(changes.flatMap(([, change]) => Object.keys(change)));
  const untried = Object.keys(full.document).filter((key) => ![...time, ...constant].includes(key) && !tried.has(key));
  assert.deepEqual(untried, []);
});

test('a report that fits is left alone', () => assert.equal(fitReport(full.document), full.document));

test('a report of hostile names is cut until it fits, keeps what matters most, and does not contradict itself', () => {
  // A control character takes six bytes in JSON.
  const name = (i: number) => `/etc/${String(i).padStart(5, '0')}${'\u0001'.repeat(4000)}`;
  const facts = (mode: string) => ({ type: 'file' as const, mode, uid: 0, gid: 0, size: 0, sha256: '0'.repeat(64) });
  const drift = Array.from({ length: 240 }, (_, i) => ({
    path: name(i),
    change: 'added' as const,
    attributes: [],
    actual: facts(i === 239 ? '4755' : '0644'),
  }));
  const holes = Array.from({ length: 200 }, (_, i) => ({
    path: name(1000 + i),
    kind: 'unreadable' as const,
    detail: '',
  }));
  const huge: FullReport = {
    ...full.document,
    drift,
    contents: [0, 239].map((i) => ({ path: name(i), text: '' })),
    truncated: null,
    secrets: [],
    trees: { usr, etc: { main: null, extra: null, entries: 300, holes, holesCapped: false } },
  };
  assert.ok(canonicalJson(huge).length > REPORT_BYTES_MAX);
  const fitted = fitReport(huge);
  assert.ok(canonicalJson(fitted).length <= REPORT_BYTES_MAX);
  assert.deepEqual(fitted.truncated, { added: 240, removed: 0, modified: 0 });
  assert.ok(fitted.drift.length > 50 && fitted.drift.length < 240);
  assert.ok(
    fitted.drift.some(({ path }) => path === name(239)),
    'the setuid file stays',
  );
  assert.equal(fitted.trees.etc.holesCapped, true);
  assert.deepEqual(
    fitted.contents!.filter(({ path }) => path === name(239)),
    [{ path: name(239), omitted: 'limit' }],
    'texts go before what judges, and say so',
  );
  assert.deepEqual(FullReport.parse(fitted), fitted);
  assert.equal(readContents(fitted).kind, 'contents');
});
