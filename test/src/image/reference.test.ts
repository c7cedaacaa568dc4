import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatReference, ImageReferenceError, parseReference } from '#src/image/reference.ts';
import { throwsCode } from '#test/throws.ts';

const hex = 'ab'.repeat(32);
const digest = `sha256:${hex}`;

const accepted: [string, object][] = [
  ['docker://quay.io/a/b:1', { transport: 'docker', registry: 'quay.io', repository: 'a/b', tag: '1' }],
  ['docker://quay.io/a', { transport: 'docker', registry: 'quay.io', repository: 'a' }],
  [
    `docker://localhost:5000/a/b@${digest}`,
    { transport: 'docker', registry: 'localhost:5000', repository: 'a/b', digest },
  ],
  [
    `docker://127.0.0.1:1/a:t@${digest}`,
    { transport: 'docker', registry: '127.0.0.1:1', repository: 'a', tag: 't', digest },
  ],
  ['docker://[::1]:5000/a', { transport: 'docker', registry: '[::1]:5000', repository: 'a' }],
  ['docker://localhost/a', { transport: 'docker', registry: 'localhost', repository: 'a' }],
  ['docker://HOST/a', { transport: 'docker', registry: 'HOST', repository: 'a' }],
  [
    'docker://docker.io/debian:12',
    { transport: 'docker', registry: 'docker.io', repository: 'library/debian', tag: '12' },
  ],
  ['docker://index.docker.io/a/b', { transport: 'docker', registry: 'docker.io', repository: 'a/b' }],
  ['docker://r.io/a__b/c-_d'.replace('-_', '--'), { transport: 'docker', registry: 'r.io', repository: 'a__b/c--d' }],
  ['docker://r.io/a:_T.-9', { transport: 'docker', registry: 'r.io', repository: 'a', tag: '_T.-9' }],
  ['oci:/srv/layout', { transport: 'oci', path: '/srv/layout' }],
  ['oci:relative/dir:v1.2', { transport: 'oci', path: 'relative/dir', tag: 'v1.2' }],
  ['oci:dir:example.org/a/b:v1+x', { transport: 'oci', path: 'dir', tag: 'example.org/a/b:v1+x' }],
  [`oci:dir@${digest}`, { transport: 'oci', path: 'dir', digest }],
  ['oci:a@b/c', { transport: 'oci', path: 'a@b/c' }],
  ['oci-archive:/x/y.tar:latest', { transport: 'oci-archive', path: '/x/y.tar', tag: 'latest' }],
  ['oci-archive:y.tar', { transport: 'oci-archive', path: 'y.tar' }],
];
for (const [text, expected] of accepted)
  test(`reads ${text.replace(hex, 'HEX')}`, () => assert.deepEqual(parseReference(text), expected));

const refused = [
  ['nothing', '', 'REFERENCE_TRANSPORT'],
  ['a bare name', 'quay.io/a/b', 'REFERENCE_TRANSPORT'],
  ['one slash', 'docker:/quay.io/a', 'REFERENCE_TRANSPORT'],
  ['a transport of hosts', 'containers-storage:quay.io/a', 'REFERENCE_TRANSPORT'],
  ['a URL', 'https://quay.io/a', 'REFERENCE_TRANSPORT'],
  ['a short name', 'docker://debian', 'REFERENCE_SHORT_NAME'],
  ['a short name of two parts', 'docker://library/debian:12', 'REFERENCE_SHORT_NAME'],
  ['no repository', 'docker://quay.io/', 'REFERENCE_SYNTAX'],
  ['no repository but a tag', 'docker://quay.io/:t', 'REFERENCE_SYNTAX'],
  ['upper case in the repository', 'docker://quay.io/A', 'REFERENCE_SYNTAX'],
  ['two tags', 'docker://quay.io/a:b:c', 'REFERENCE_SYNTAX'],
  ['an empty tag', 'docker://quay.io/a:', 'REFERENCE_SYNTAX'],
  ['a tag of 129 characters', `docker://quay.io/a:${'t'.repeat(129)}`, 'REFERENCE_SYNTAX'],
  ['.. in the repository', 'docker://quay.io/a/../b', 'REFERENCE_SYNTAX'],
  ['an encoded slash', 'docker://quay.io/a%2fb', 'REFERENCE_SYNTAX'],
  ['a query', 'docker://quay.io/a?b', 'REFERENCE_SYNTAX'],
  ['a user', 'docker://user:pw@quay.io/a', 'REFERENCE_SYNTAX'],
  ['a port beyond 65535', 'docker://quay.io:65536/a', 'REFERENCE_SYNTAX'],
  ['port 0', 'docker://quay.io:0/a', 'REFERENCE_SYNTAX'],
  ['an empty label', 'docker://quay..io/a', 'REFERENCE_SYNTAX'],
  ['a repository of 300 characters', `docker://quay.io/${'a'.repeat(300)}`, 'REFERENCE_SYNTAX'],
  ['a short digest', 'docker://quay.io/a@sha256:abc', 'REFERENCE_DIGEST'],
  ['upper case in the digest', `docker://quay.io/a@sha256:${hex.toUpperCase()}`, 'REFERENCE_DIGEST'],
  ['another algorithm', `docker://quay.io/a@sha512:${hex}${hex}`, 'REFERENCE_DIGEST'],
  ['a trailing newline', `docker://quay.io/a@${digest}\n`, 'REFERENCE_DIGEST'],
  ['a newline after the tag', 'docker://quay.io/a:t\n', 'REFERENCE_SYNTAX'],
  ['no folder', 'oci:', 'REFERENCE_SYNTAX'],
  ['no folder but a tag', 'oci::tag', 'REFERENCE_SYNTAX'],
  ['an empty tag of a layout', 'oci:dir:', 'REFERENCE_SYNTAX'],
  ['a tag with a blank', 'oci:dir:a b', 'REFERENCE_SYNTAX'],
  ['NUL in a path', 'oci:a\0b', 'REFERENCE_SYNTAX'],
  ['a reference of 10,000 characters', `oci:${'a'.repeat(10_000)}`, 'REFERENCE_SYNTAX'],
] as const;
for (const [name, text, code] of refused)
  test(`refuses ${name}`, () => throwsCode(() => parseReference(text), ImageReferenceError, code));

test('a password in a reference is not repeated', () => {
  assert.throws(
    () => parseReference('docker://user:hunter2@quay.io/a'),
    (error) => error instanceof ImageReferenceError && !error.message.includes('hunter2'),
  );
});

test('what was read is written as it is read again', () => {
  for (const [text] of accepted) {
    const reference = parseReference(text);
    assert.deepEqual(parseReference(formatReference(reference)), reference);
  }
  fc.assert(
    fc.property(fc.string(), fc.constantFrom('docker://r.io/', 'docker://', 'oci:', 'oci-archive:'), (rest, head) => {
      let reference;
      try {
        reference = parseReference(head + rest);
      } catch (error) {
        assert.ok(error instanceof ImageReferenceError);
        return;
      }
      assert.deepEqual(parseReference(formatReference(reference)), reference);
    }),
  );
});
