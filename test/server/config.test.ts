/** Settings: where they come from, and which are refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readSettings } from '#server/config.ts';
import { KEEP_ALL } from '#server/retention.ts';
import { IMAGE_LIMITS } from '#src/limits.ts';
import { UsageError } from '#src/terminal.ts';
import { throwsCode } from '#test/throws.ts';

test('without any, the server listens on loopback and may move', () => {
  const settings = readSettings([], {});
  assert.deepEqual(settings.listen, { host: '127.0.0.1', port: 8340, movable: true });
  assert.equal(settings.databaseUrl, undefined);
  assert.equal(settings.jobsIntervalMs, 1000);
});

test('flags win over variables', () => {
  const env = {
    BOOTPROOF_LISTEN: '[::1]:1',
    BOOTPROOF_JOBS_INTERVAL: '90s',
    BOOTPROOF_SOURCES: 'docker://a.example/x, oci:/b',
  };
  const settings = readSettings(['--listen', '0.0.0.0:2'], env);
  assert.deepEqual(settings.listen, { host: '0.0.0.0', port: 2, movable: false });
  assert.equal(settings.jobsIntervalMs, 90_000);
  assert.deepEqual(settings.sources, ['docker://a.example/x', 'oci:/b']);
  assert.deepEqual(readSettings(['--source', 'oci:/c', '--source', 'oci:/d'], env).sources, ['oci:/c', 'oci:/d']);
});

test('image policies and trust roots are files that are named', () => {
  const flags = [
    '--image-policy',
    'a.yaml',
    '--image-policy',
    'b',
    '--trust-root',
    'public-good=r.json',
    '--reverify',
    '1h',
  ];
  const { imagePolicies, trustRoots, reverifyMs } = readSettings(flags, { BOOTPROOF_IMAGE_POLICY: 'c' });
  assert.deepEqual([imagePolicies, trustRoots, reverifyMs], [['a.yaml', 'b'], ['public-good=r.json'], 3_600_000]);
  const none = readSettings([], { BOOTPROOF_IMAGE_POLICY: 'c,d', BOOTPROOF_TRUST_ROOT: 'x=y' });
  assert.deepEqual([none.imagePolicies, none.trustRoots, none.reverifyMs], [['c', 'd'], ['x=y'], 86_400_000]);
});

test('bounds on images are settings, and what is not named keeps its own', () => {
  const { limits, imageBytes } = readSettings(['--image-limit', 'layerRatio=2000', '--image-limit', 'imageBytes=1G'], {
    BOOTPROOF_IMAGE_LIMITS: 'layerEntries=5',
  }).imageBounds;
  assert.deepEqual([limits, imageBytes], [{ ...IMAGE_LIMITS, layerRatio: 2000 }, 2 ** 30]);
  const none = readSettings([], { BOOTPROOF_IMAGE_LIMITS: 'layerEntries=5, treeNodes=2M' }).imageBounds;
  assert.deepEqual([none.limits.layerEntries, none.limits.treeNodes], [5, 2 * 2 ** 20]);
});

for (const [name, args, env] of [
  ['an unknown flag', ['--prot', '1'], {}],
  ['a word that is no flag', ['start'], {}],
  ['a misspelt variable', [], { BOOTPROOF_POLICI: 'x' }],
  ['a port beyond 65535', ['--listen', '65536'], {}],
  ['a listen address with a path', ['--listen', 'http://x:1/'], {}],
  ['an interval without unit', ['--jobs-interval', '15'], {}],
  ['an interval of nothing', ['--jobs-interval', '0s'], {}],
  ['a base URL with credentials', ['--base-url', 'https://a:b@c/'], {}],
  ['a base URL of another scheme', ['--base-url', 'ftp://c/'], {}],
  ['a flag without its value', ['--data'], {}],
  ['a bound that is none', ['--image-limit', 'layers=1'], {}],
  ['a bound of nothing', ['--image-limit', 'layerBytes=0'], {}],
  ['a bound of a word', [], { BOOTPROOF_IMAGE_LIMITS: 'layerBytes=many' }],
] as const)
  test(`${name} is refused`, () => throwsCode(() => readSettings(args, env), UsageError, 'USAGE'));

test('a variable of the client commands is no mistake', () => {
  const others = {
    BOOTPROOF_SERVER: 'http://x',
    BOOTPROOF_TOKEN: 't',
    BOOTPROOF_ENROLL_TOKEN: 't',
    BOOTPROOF_AGENT_URL: 'u',
  };
  readSettings([], { ...others, PATH: '/bin' });
});

test('what is kept is said in days and sizes, and by default all of it', () => {
  const { retention } = readSettings(['--keep-reports', '400d', '--keep-bytes', '2T'], {
    BOOTPROOF_KEEP_ACTS: '90d',
    BOOTPROOF_KEEP_AT_LEAST: '7d',
  });
  assert.deepEqual(retention, { reports: 400, judgements: null, acts: 90, bytes: 2 * 2 ** 40, atLeast: 7 });
  assert.deepEqual(readSettings([], {}).retention, KEEP_ALL);
  for (const flags of [
    ['--keep-reports', '400s'],
    ['--keep-acts', '0d'],
    ['--keep-bytes', '200'],
    ['--keep-at-least', '1h'],
  ])
    throwsCode(() => readSettings(flags, {}), UsageError, 'USAGE');
});
