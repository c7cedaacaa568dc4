import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseDigest } from '#src/digest.ts';
import { ImageReferenceError } from '#src/image/reference.ts';
import {
  canMatch,
  imageName,
  ImageGlobError,
  lintImageGlob,
  matchesImage,
  parseImageGlob,
} from '#src/trust/imageglob.ts';
import { exponent } from '#test/exponent.ts';
import { throwsCode } from '#test/throws.ts';
import { deep } from '#test/depth.ts';

const D = parseDigest(`sha256:${'5504f2a9'.repeat(8)}`);
const matches = (glob: string, reference: string | undefined) =>
  matchesImage(parseImageGlob(glob), imageName(reference, D));

// What policy-controller's webhook sees is the digest reference: its own tests with tags are cases of no host.
const table: [glob: string, reference: string, expected: boolean][] = [
  ['ghcr.io/acme/os@*', 'ghcr.io/acme/os', true],
  ['ghcr.io/acme/os@*', 'docker://ghcr.io/acme/os:v1', true],
  ['ghcr.io/acme/os@*', 'ghcr.io/acme/os-evil', false],
  ['ghcr.io/acme/os*', 'ghcr.io/acme/os', true],
  ['ghcr.io/acme/os*', 'ghcr.io/acme/os-evil', true],
  ['ghcr.io/acme/os**', 'ghcr.io/acme/os/deeper', true],
  ['ghcr.io/acme/os', 'ghcr.io/acme/os', false],
  ['ghcr.io/acme/os:*', 'ghcr.io/acme/os:v1', false],
  ['ghcr.io/acme/os:v1*', 'ghcr.io/acme/os:v1', false],
  [`ghcr.io/acme/os@${D}`, 'ghcr.io/acme/os', true],
  [`ghcr.io/acme/os@sha256:${'0'.repeat(64)}`, 'ghcr.io/acme/os', false],
  ['ghcr.io/acme/*', 'ghcr.io/acme/os', true],
  ['ghcr.io/acme/*', 'ghcr.io/acme/a/b', false],
  ['ghcr.io/*/*', 'ghcr.io/foo/bar', true],
  ['ghcr.io/*/*', 'ghcr.io/foo', false],
  ['ghcr.io/**', 'ghcr.io/acme/a/b', true],
  ['ghc**', 'ghcr.io/foo', true],
  ['*/**', 'ghcr.io/foo', true],
  ['**', 'ghcr.io/foo', true],
  ['**demo**', 'registry.local:5000/policy-controller/demo', true],
  ['registry.local:5000/**', 'registry.local:5000/policy-controller/demo', true],
  ['registry.local:*/demo@*', 'registry.local:5000/demo', true],
  ['ghcr.io/**', 'ghcrxio.example/foo', false],
  ['ghcr.io/foo**', 'prefix-ghcr.io/foo', false],
  ['***', 'ghcr.io/a/b', true],
  ['ghcr.io/***/os@*', 'ghcr.io/a/b/os', true],
  // Docker Hub: index.docker.io, and library/ for official images.
  ['*', 'docker.io/foo', true],
  ['*', 'docker.io/myuser/myapp', false],
  ['*', 'ghcr.io/foo', false],
  ['*/*', 'docker.io/myuser/myapp', true],
  ['*/*', 'docker.io/foo', true],
  ['*/*', 'ghcr.io/foo', false],
  ['index.docker.io/library/foo@*', 'docker.io/foo', true],
  ['index.docker.io/library/*', 'index.docker.io/foo:latest', true],
  ['docker.io/**', 'docker.io/foo', false],
  ['library/foo**', 'docker.io/foo', false],
  ['foo*', 'docker.io/foo', false],
];
for (const [glob, reference, expected] of table)
  test(`${glob} is ${expected ? '' : 'not '}about ${reference}`, () =>
    assert.equal(matches(glob, reference), expected));

test('an image without a name is matched by what takes any name, and by nothing else', () => {
  assert.equal(matches('**', undefined), true);
  assert.equal(matches('**demo**', undefined), false);
  assert.equal(matches('ghcr.io/**', undefined), false);
  assert.equal(matches('**', 'oci:some/dir'), true);
});

test('a reference that is none is refused', () => {
  throwsCode(() => imageName('Not A Name', D), ImageReferenceError, 'REFERENCE_SHORT_NAME');
});

for (const glob of ['', '[', '.+', '[a-z]*', 'a?b', 'a b', 'a{b}', 'ä', 'a\n', '^a$', 'a\\b', '#'])
  test(`refuses the glob ${JSON.stringify(glob)}`, () =>
    throwsCode(() => parseImageGlob(glob), ImageGlobError, 'IMAGE_GLOB_SYNTAX'));
test('refuses a glob that is too long', () =>
  throwsCode(() => parseImageGlob('a'.repeat(513)), ImageGlobError, 'IMAGE_GLOB_LIMIT'));

test('globs mean what their translation into a regular expression means', () => {
  const atom = fc.constantFrom('a', 'b', '.', '/', '@', ':', '-', '*', '**');
  const glob = fc.array(atom, { minLength: 1, maxLength: 12 }).map((parts) => parts.join(''));
  const name = fc.array(fc.constantFrom('a', 'b', '.', '/', '@', ':', '-'), { maxLength: 14 }).map((p) => p.join(''));
  fc.assert(
    fc.property(glob, name, (source, text) => {
      fc.pre(source !== '*' && source !== '*/*');
      // glob.go, Compile.
      const translated = source
        .replaceAll('.', '\\.')
        .replaceAll('**', '#')
        .replaceAll('*', '[^/]*')
        .replaceAll('#', '.*');
      assert.equal(matchesImage(parseImageGlob(source), text), new RegExp(`^${translated}$`, 's').test(text));
    }),
    { numRuns: deep(3000, 600) },
  );
});

test('a glob that matches some image is never said to match none', () => {
  const host = fc.constantFrom('a.b', 'ghcr.io', 'localhost', 'x.y:5000');
  const path = fc.array(fc.constantFrom('a', 'os', 'b-c', 'd.e'), { minLength: 1, maxLength: 3 });
  const image = fc.tuple(host, path).map(([h, p]) => `${h}/${p.join('/')}@${D}`);
  const glob = image.chain((name) =>
    fc.array(fc.tuple(fc.nat(name.length), fc.nat(6), fc.constantFrom('*', '**')), { maxLength: 3 }).map((cuts) => {
      let text = name;
      for (const [at, length, star] of cuts) text = text.slice(0, at) + star + text.slice(at + length);
      return { name, text };
    }),
  );
  fc.assert(
    fc.property(glob, ({ name, text }) => {
      const parsed = parseImageGlob(text);
      if (matchesImage(parsed, name)) assert.equal(canMatch(parsed), true);
    }),
    { numRuns: deep(1000, 300) },
  );
});

const lints: [glob: string, code: string | undefined][] = [
  ['ghcr.io/acme/os', 'NEVER_MATCHES'],
  ['ghcr.io/acme/os:*', 'NEVER_MATCHES'],
  ['ghcr.io/acme/os:v1*', 'NEVER_MATCHES'],
  ['ghcr.io/acme/os:v1**', 'NEVER_MATCHES'],
  ['quay.io/jetstack/cert-manager-acmesolver:*', 'NEVER_MATCHES'],
  ['ghcr.io/acme/os@sha256:*x*', 'NEVER_MATCHES'],
  ['ghcr.io/acme/OS@*', 'NEVER_MATCHES'],
  ['*@*', 'NEVER_MATCHES'],
  ['image', 'NEVER_MATCHES'],
  ['ghcr.io/acme/os*', 'OPEN_END'],
  ['ghcr.io/acme/os**', 'OPEN_END'],
  ['ghcr.io/acme/os@*', undefined],
  ['ghcr.io/acme/os@**', undefined],
  [`ghcr.io/acme/os@${D}`, undefined],
  ['ghcr.io/acme/*', undefined],
  ['ghcr.io/**', undefined],
  ['registry.local:5000/x@*', undefined],
  ['registry.local:*/x@*', undefined],
  ['**', undefined],
  ['*', undefined],
  ['*/*', undefined],
  ['**/os@*', undefined],
  ['**@*', undefined],
  // A port may follow, so this can be a registry.
  ['ghcr.io:**', undefined],
];
for (const [glob, code] of lints)
  test(`${glob} ${code === undefined ? 'is fine' : `is noted as ${code}`}`, () =>
    assert.equal(lintImageGlob(parseImageGlob(glob))?.code, code));

test('time grows linearly with the name, whatever the glob', () => {
  const glob = parseImageGlob(`${'*a**/'.repeat(60)}b`);
  const k = exponent((n) => void matchesImage(glob, 'a/'.repeat(n / 2)), [1_000, 2_000, 4_000, 8_000, 16_000]);
  assert.ok(k < 1.5, `time grows with the ${k.toFixed(2)}th power`);
});
