import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { describe } from '#src/finding/describe.ts';
import { JUDGEMENT_KINDS, REPORT_FLAGS, type JudgementKind, signatureOf } from '#src/policy/judgement.ts';

const cases: [kind: JudgementKind, subject: string, signature: string, text: string][] = [
  ['drift', '/usr/sbin/sshd', `modified;sha256=${'b'.repeat(64)}`, '/usr/sbin/sshd: content differs'],
  ['drift', '/usr/bin/x', 'modified;mode=4755;uid=0;gid=7', '/usr/bin/x: mode now 4755, owner now 0, group now 7'],
  ['drift', '/usr/bin/x', 'modified;capability=-', '/usr/bin/x: capability lost'],
  ['drift', '/usr/bin/x', 'modified;capability=AQ==', '/usr/bin/x: capability changed'],
  ['drift', '/usr/lib/x.so', 'removed', '/usr/lib/x.so: removed'],
  ['drift', '/usr/bin/x', 'added;type=file;mode=4755;uid=0;gid=0;sha256=a', '/usr/bin/x: added file (mode 4755)'],
  ['drift', '/etc/l', 'added;type=symlink;uid=0;gid=0;link=/x', '/etc/l: added symlink (points to /x)'],
  ['drift', '/etc/l', 'modified;link=/y', '/etc/l: points to /y'],
  ['drift', '/etc/passwd', 'modified;type=symlink;uid=0;gid=0;link=/x', '/etc/passwd: replaced: now a symlink'],
  ['drift', '/etc/a\\040\\303\\251\\012', 'removed', '/etc/a é\\x0a: removed'],
  ['drift', '/etc/\\377', 'removed', '/etc/\\377: removed'],
  ['secret', '/etc/shadow', 'differs', '/etc/shadow: content differs (a secret: compared on the host)'],
  ['secret', '/etc/shadow', 'modified;differs;mode=0644', '/etc/shadow: content differs, mode now 0644'],
  ['secret', '/etc/x.key', 'added', '/etc/x.key: added file'],
  ['hole', '/etc/x', 'unreadable', '/etc/x could not be judged: unreadable'],
  ['overlay', '/usr', 'usr-overlay;rw', '/usr lies under a writable usr-overlay'],
  ['overlay', '/usr', 'sysext;ro;system\\040extensions\\040a', '/usr lies under a sysext (system extensions a)'],
  ['layered', 'htop', 'layered', 'layered on top of the image: htop'],
  ['karg', 'selinux=0', 'present', 'kernel argument selinux=0'],
  ['karg', 'fips=1', 'missing', 'kernel argument fips=1 is missing'],
  ['report', 'host', 'cloned', 'reports of two running systems alternate under one identity'],
  ['silence', 'host', 'silent', 'the host is silent'],
  ['manifest', '', 'IMAGE_NOT_TOLD', 'no manifest for an image that the host does not name: IMAGE_NOT_TOLD'],
  ['manifest', 'sha256:11', 'REFUSED', 'no manifest for sha256:11: REFUSED'],
  ['provenance', '', 'unverifiable', 'an image that the host does not name could not be checked for signatures'],
  ['provenance', 'sha256:11', 'unsigned', 'sha256:11 is not signed'],
];
for (const [kind, subject, signature, text] of cases)
  test(`${kind}: ${text}`, () => assert.equal(describe({ kind, subject, signature }), text));

test('of content that could not be read the size is what there is to say', () => {
  const expected = { type: 'file', mode: 0o644, uid: 0, gid: 0, size: 5, sha256: '0'.repeat(64) } as const;
  const actual = { type: 'file', mode: 0o600, uid: 0, gid: 0, size: 7 } as const;
  const drift = { path: '/usr/x', change: 'modified', expected, actual } as const;
  const signature = signatureOf({ path: '/usr/x', drift, secret: undefined });
  assert.equal(signature, 'modified;mode=0600;size=7');
  const text = '/usr/x: mode now 0600, content differs (now 7 bytes, which could not be read)';
  assert.equal(describe({ kind: 'drift', subject: '/usr/x', signature }), text);
});

test('every flag has words', () => {
  for (const flag of REPORT_FLAGS)
    assert.ok(!describe({ kind: 'report', subject: 'host', signature: flag }).includes(flag));
});

test('whatever a row holds, a line comes of it that moves no cursor', () => {
  const word = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('added', 'modified;type', 'sysext;ro;', '\\999'),
  );
  fc.assert(
    fc.property(fc.constantFrom(...JUDGEMENT_KINDS), word, word, (kind, subject, signature) => {
      const text = describe({ kind, subject, signature });
      assert.ok(text.length > 0);
      // What evaluation writes is printable; of what came otherwise, paths are made so.
      // eslint-disable-next-line no-control-regex
      if (kind === 'drift' || kind === 'hole') assert.doesNotMatch(text.slice(0, subject.length), /[\0-\x1f\x7f]/);
    }),
  );
});
