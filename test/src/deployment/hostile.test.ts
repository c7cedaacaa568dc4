/** Any bytes may stand where a host's texts are read: they are read or refused, in time that grows linearly. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { exponent } from '#test/exponent.ts';
import { toBytes } from '#src/bytes.ts';
import { deploymentState } from '#src/deployment/assemble.ts';
import { parseBootcStatus } from '#src/deployment/bootc.ts';
import { parseCommit } from '#src/deployment/commit.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { readDict, readVariant } from '#src/deployment/gvariant.ts';
import { kargText, parseKargs } from '#src/deployment/kargs.ts';
import { parseMountinfo, visibleMounts } from '#src/deployment/mountinfo.ts';
import { parseOrigin } from '#src/deployment/origin.ts';
import { viewMounts } from '#src/deployment/overlay.ts';
import { layeredOf, parseRpmOstreeStatus } from '#src/deployment/rpmostree.ts';
import { parseComposefsStaged, parseOstreeBooted, parseOstreeStaged } from '#src/deployment/runstate.ts';
import { DeploymentState } from '#src/deployment/state.ts';
import { deep } from '#test/depth.ts';
import { UNTOLD, vector } from './vectors.ts';

const readers: Readonly<Record<string, (text: string) => unknown>> = {
  bootc: (text) => DeploymentState.parse(deploymentState({ ...UNTOLD, bootc: parseBootcStatus(text) })),
  'rpm-ostree': (text) => parseRpmOstreeStatus(text).deployments.map(layeredOf),
  origin: parseOrigin,
  mountinfo: (text) => viewMounts(parseMountinfo(text), '/'),
  kargs: (text) => parseKargs(text).map(kargText),
  commit: (text) => parseCommit(toBytes(text)),
  'ostree-booted': (text) => parseOstreeBooted(toBytes(text)),
  'staged-deployment': (text) => parseOstreeStaged(toBytes(text)),
  'staged composefs deployment': parseComposefsStaged,
};
const seeds = [
  ...['02-ostree-full-staged-rollback-pinned.json', '09-composefs-bls-unsealed.json'].map(vector),
  ...['20-rpm-ostree-layered-container.json', 'origin-samples.txt'].map(vector),
  vector('mountinfo-booted-ostree.txt').replace(/^#.*\n/gm, ''),
  vector('commits/2eb3113010c26a892bb3e3a8ab0bcf7d0e6a8c1b0bc452634aa8bb8e52107645.commit'),
  ...(JSON.parse(vector('gvariant.json')) as { hex?: string }[]).map(({ hex }) =>
    Buffer.from(hex ?? '', 'hex').toString('latin1'),
  ),
];

const bytes = fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)), maxLength: 300 });
/** A real text with some of its bytes cut out and others put in. */
const mutated = fc
  .tuple(fc.constantFrom(...seeds), fc.array(fc.tuple(fc.nat(), fc.nat(40), bytes), { minLength: 1, maxLength: 4 }))
  .map(([seed, edits]) =>
    edits.reduce((text, [at, cut, put]) => {
      const from = at % (text.length + 1);
      return text.slice(0, from) + put.slice(0, 20) + text.slice(from + cut);
    }, seed),
  );

for (const [name, read] of Object.entries(readers))
  test(`${name}: any bytes are read or refused`, () => {
    fc.assert(
      fc.property(fc.oneof(bytes, mutated), (text) => {
        try {
          read(text);
        } catch (error) {
          if (!(error instanceof DeploymentError)) throw error;
        }
      }),
      { numRuns: deep(500, 150) },
    );
  });

/** The plain model: a path is walked name by name, and at each name goes on in the mount that was put there last. */
function resolve(mounts: readonly { id: number; parent: number; point: string }[], path: string): number {
  let at = 0;
  const prefixes = ['/', ...path.split('/').flatMap((_, i, all) => (i === 0 ? [] : [all.slice(0, i + 1).join('/')]))];
  for (const prefix of prefixes)
    for (let next; (next = mounts.findLast(({ parent, point }) => parent === at && point === prefix));) at = next.id;
  return at;
}

test('after any mounts, one after another, those are seen that walking their paths leads to', () => {
  const points = ['/', '/usr', '/usr-x', '/usr/bin', '/usr/bin/x', '/usr/lib', '/etc', '/etc/x/y', '/var'];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...points), { maxLength: 15 }), (list) => {
      const mounts: { id: number; parent: number; point: string }[] = [{ id: 0, parent: -1, point: '/' }];
      for (const point of list) mounts.push({ id: mounts.length, parent: resolve(mounts, point), point });
      const text = mounts
        .map(({ id, parent, point }) => `${id} ${Math.max(parent, 0)} 0:1 /x ${point} rw - ext4 s rw\n`)
        .join('');
      const expected = mounts.filter(({ id, point }) => resolve(mounts, point) === id);
      const table = parseMountinfo(text);
      assert.deepEqual(
        visibleMounts(table).map(({ id }) => id),
        expected.map(({ id }) => id),
      );
      const told = expected.map(({ point }) => point).filter((point) => /^\/(usr|etc)(\/|$)/.test(point));
      assert.deepEqual(
        viewMounts(table, '/').over.map(({ path }) => path),
        told.sort(),
      );
    }),
    { numRuns: deep(1000, 300) },
  );
});

const SIZES = [250, 500, 1_000, 2_000, 4_000];
const mountLines = (n: number, line: (i: number) => string) => Array.from({ length: n }, (_, i) => line(i)).join('');
const grow: Readonly<Record<string, readonly [make: (n: number) => string, read: (text: string) => unknown]>> = {
  'mounts side by side': [
    (n) => mountLines(n, (i) => `${i + 2} 1 0:9 / /usr/${i} rw - tmpfs t rw\n`),
    readers['mountinfo']!,
  ],
  'mounts on one place': [
    (n) => mountLines(n, (i) => `${i + 1} ${i} 0:9 / /usr rw - tmpfs t rw\n`),
    readers['mountinfo']!,
  ],
  'mounts inside mounts': [
    (n) => mountLines(n, (i) => `${i + 1} ${i} 0:9 / ${i === 0 ? '/' : '/usr'} rw - tmpfs t rw\n`),
    readers['mountinfo']!,
  ],
  'a mount with many layers': [
    (n) => `1 0 0:9 / /usr rw - overlay sysext rw,lowerdir=${'/run/systemd/sysext/extensions/x/usr:'.repeat(n)}`,
    readers['mountinfo']!,
  ],
  'a deep mount point': [(n) => `1 0 0:9 / /usr${'/a'.repeat(n)} rw - tmpfs t rw\n`, readers['mountinfo']!],
  'many octal escapes': [(n) => `1 0 0:9 / /usr/${'\\040'.repeat(n)} rw - tmpfs t rw\n`, readers['mountinfo']!],
  'kernel arguments with colons': [(n) => `a=${':@'.repeat(n / 2)}`, readers['kargs']!],
  'kernel arguments with quotes': [(n) => '"a" '.repeat(n / 4), readers['kargs']!],
  'an origin of many groups': [(n) => '[packages]\nrequested=a;b\n'.repeat(n), readers['origin']!],
  'an origin with a long list': [(n) => `[packages]\nrequested=${'a;'.repeat(n * 4)}\n`, readers['origin']!],
  'an array of strings': [
    (n) => {
      const width = n * 3 > 0xffff ? 4 : 2;
      const offset = (end: number) =>
        Array.from({ length: width }, (_, i) => String.fromCharCode((end >> (8 * i)) & 255)).join('');
      return '\0'.repeat(n) + Array.from({ length: n }, (_, i) => offset(i + 1)).join('');
    },
    (text) => readVariant('as', toBytes(text)),
  ],
  'a dictionary that refuses late': [
    (n) => 'x'.repeat(n * 16),
    (text) => {
      assert.throws(() => readDict(toBytes(text)), DeploymentError);
    },
  ],
};
for (const [name, [make, read]] of Object.entries(grow))
  test(`time grows linearly with ${name}`, () => {
    const texts = new Map(SIZES.map((n) => [n, make(n)]));
    const k = exponent((n) => void read(texts.get(n)!), SIZES);
    assert.ok(k < 1.6, `time grows with the ${k.toFixed(2)}th power`);
  });
