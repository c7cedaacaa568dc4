import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { compareAccounts, parseAccounts, readAccounts } from '#agent/accounts.ts';
import { ACCOUNT_FILE_BYTES_MAX, REPORT_LIST_MAX } from '#src/limits.ts';
import { emptyRoot } from './roots.ts';

const PASSWD = 'root:x:0:0:root:/root:/bin/bash\nbin:x:1:1:bin:/bin:/sbin/nologin\n';

const passwords = [
  ['a hash', 'u:x:1:1::/:/bin/sh', 'u:$6$salt$hash:1::::::', true],
  ['a locked hash', 'u:x:1:1::/:/bin/sh', 'u:!$6$salt$hash:1::::::', false],
  ['never set', 'u:x:1:1::/:/bin/sh', 'u:*:1::::::', false],
  ['locked', 'u:x:1:1::/:/bin/sh', 'u:!!:1::::::', false],
  ['none asked for', 'u:x:1:1::/:/bin/sh', 'u::1::::::', true],
  ['not in shadow', 'u:x:1:1::/:/bin/sh', 'v:$6$s$h:1::::::', false],
  ['a hash in passwd', 'u:$6$salt$hash:1:1::/:/bin/sh', '', true],
  ['none asked for, in passwd', 'u::1:1::/:/bin/sh', '', true],
] as const;
for (const [what, passwd, shadow, has] of passwords)
  test(`a password: ${what}`, () => assert.equal(parseAccounts(passwd, shadow).get('u')?.hasPassword, has));

test('lines that are no account are passed over, and of two by one name the first counts', () => {
  const accounts = parseAccounts(
    '# c\n\n:x:0:0:::\nu:x:-1:0:::\nu:x:a:0:::\nu:x:5:6::/:/a\nu:x:0:0::/:/b\n+::::::\nshort:x\n',
    'u:h\nu:!\n',
  );
  assert.deepEqual([...accounts.values()], [{ name: 'u', uid: 5, gid: 6, shell: '/a', hasPassword: true }]);
});

test('names that are not UTF-8 or no names at all can be told', () => {
  const accounts = parseAccounts('\xff\x1b:x:0:0::/:/s\xe9\n__proto__:x:1:1:::\n', '');
  assert.deepEqual([...accounts.keys()], ['\\xff\\x1b', '__proto__']);
  assert.equal(accounts.get('\\xff\\x1b')?.shell, '/s\\xe9');
});

test('what differs from the image is told, the rest is not', () => {
  const image = parseAccounts(PASSWD, 'root:*:1\n');
  const now = parseAccounts('root:x:0:0:other:/elsewhere:/bin/bash\nevil:x:0:0::/:/bin/sh\n', 'root:$y$x:1\n');
  assert.deepEqual(compareAccounts(image, now), {
    added: [{ name: 'evil', uid: 0, gid: 0, shell: '/bin/sh', hasPassword: false }],
    removed: [{ name: 'bin', uid: 1, gid: 1, shell: '/sbin/nologin', hasPassword: false }],
    changed: [{ name: 'root', uid: 0, gid: 0, shell: '/bin/bash', hasPassword: true }],
  });
  assert.deepEqual(compareAccounts(image, image), { added: [], removed: [], changed: [] });
});

test('at most as many as a report takes', () => {
  const many = parseAccounts(Array.from({ length: REPORT_LIST_MAX + 9 }, (_, i) => `u${i}:x:${i}:0:::\n`).join(''), '');
  assert.equal(compareAccounts(new Map(), many).added.length, REPORT_LIST_MAX);
});

test('of a root: null where there is nothing to compare, or what is there cannot be read as a file', (t) => {
  const root = emptyRoot(t);
  assert.equal(readAccounts(root), null);
  writeFileSync(`${root}/etc/passwd`, `${PASSWD}new:x:9:9::/:/bin/sh\n`);
  assert.equal(readAccounts(root), null);
  mkdirSync(`${root}/usr/etc`);
  writeFileSync(`${root}/usr/etc/passwd`, PASSWD);
  assert.deepEqual(
    readAccounts(root)?.added.map(({ name }) => name),
    ['new'],
  );
  symlinkSync('passwd', `${root}/etc/shadow`);
  assert.equal(readAccounts(root), null);
  writeFileSync(`${root}/usr/etc/shadow`, '');
  truncateSync(`${root}/usr/etc/shadow`, ACCOUNT_FILE_BYTES_MAX + 1);
  assert.equal(readAccounts(root), null);
});
