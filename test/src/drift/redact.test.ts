import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import picomatch from 'picomatch';
import { digestOf } from '#src/digest.ts';
import {
  SECRET_PATHS,
  SECRET_PATHS_ID,
  SecretPathError,
  comparisonEntry,
  comparisonText,
  isSecret,
  parseSecretPath,
} from '#src/drift/redact.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { comparePaths } from '#src/manifest/entry.ts';
import { mainText } from '#src/manifest/mtree.ts';
import { throwsCode } from '#test/throws.ts';
import { deep } from '#test/depth.ts';

const SECRETS = [
  '/etc/shadow',
  '/etc/shadow-',
  '/etc/shadow.bak',
  '/etc/shadow~',
  '/etc/shadow+',
  '/etc/shadow.2026-01-02',
  '/etc/.shadow.swp',
  '/etc/gshadow',
  '/etc/gshadow-',
  '/etc/security/opasswd',
  '/etc/ssh/ssh_host_ed25519_key',
  '/etc/ssh/ssh_host_rsa_key.old',
  '/etc/NetworkManager/system-connections/home.nmconnection',
  '/etc/NetworkManager/system-connections/sub/home',
  '/etc/pki/tls/private/localhost.key',
  '/etc/pki/tls/private/localhost.key.rpmsave',
  '/etc/pki/consumer/key.pem',
  '/etc/pki/nssdb/key4.db',
  '/etc/ssl/private/ssl-cert-snakeoil.pem',
  '/etc/krb5.keytab',
  '/etc/wpa_supplicant/wpa_supplicant.conf',
  '/etc/wireguard/wg0.conf',
  '/etc/containers/auth.json',
  '/etc/ostree/auth.json',
  '/etc/credstore/db.password',
  '/etc/credstore.encrypted/x',
  '/etc/letsencrypt/live/example.org/privkey.pem',
  '/etc/letsencrypt/archive/example.org/privkey1.pem',
  '/etc/cryptsetup-keys.d/root.key',
  '/etc/sssd/sssd.conf',
  '/etc/systemd/network/10-wg.netdev',
  '/etc/app/.tls.key.swp',
  '/etc/caf\xe9/\xff.key',
];
const OPEN = [
  '/etc/passwd',
  '/etc/group',
  '/etc/sudoers',
  '/etc/pam.d/password-auth',
  '/etc/ssh/sshd_config',
  '/etc/ssh/ssh_host_ed25519_key.pub',
  '/etc/NetworkManager/NetworkManager.conf',
  '/etc/systemd/network/10-lan.network',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/shadow-maint/useradd-pre.d/x',
  '/etc/machine-id',
  '/usr/etc/shadow',
  '/usr/share/app/private/tls.key',
  '/etcetera/shadow',
];
for (const path of SECRETS) test(`${path} is a secret`, () => assert.equal(isSecret(path), true));
for (const path of OPEN) test(`${path} is no secret`, () => assert.equal(isSecret(path), false));

test('the list stands under its id: whoever changes one changes the other', () => {
  assert.equal(SECRET_PATHS_ID, 'secret-paths/1');
  assert.equal(new Set(SECRET_PATHS).size, SECRET_PATHS.length);
  assert.equal(digestOf(SECRET_PATHS.join('\n')).slice(7, 23), 'eec6fb7f557d9865');
  for (const glob of SECRET_PATHS) assert.equal(parseSecretPath(glob), glob);
});

test('a site adds its own, with its backups left to its own globs, and no public exception', () => {
  const added = ['/etc/app/*.token', '/etc/site/**', '/etc/f\u00fcr/*'];
  for (const path of ['/etc/app/a.token', '/etc/site/x/y.pub', '/etc/f\xc3\xbcr/x'])
    assert.equal(isSecret(path, added), true, path);
  for (const path of ['/etc/app/a/b.token', '/etc/app/.token/x', '/etc/other'])
    assert.equal(isSecret(path, added), false, path);
});

const refused = [
  ['a path outside /etc', '/usr/lib/x'],
  ['the whole of /', '/**'],
  ['no path', ''],
  ['a relative one', 'etc/x'],
  ['a folder with a slash', '/etc/x/'],
  ['dots', '/etc/../usr/x'],
  ['a doubled slash', '/etc//x'],
  ['a set', '/etc/key[0-9]'],
  ['alternatives', '/etc/{a,b}'],
  ['an escape', '/etc/\\*'],
  ['a double star inside a name', '/etc/a**'],
  ['a NUL', '/etc/\0'],
] as const;
for (const [name, text] of refused)
  test(`refuses ${name} as a secret path`, () =>
    throwsCode(() => parseSecretPath(text), SecretPathError, 'SECRET_PATH_SYNTAX'));

test('the matcher agrees with picomatch', () => {
  const name = fc.stringMatching(/^[ab.*?]{1,5}$/).filter((text) => !/^\.{1,2}$|\*\*/.test(text));
  const part = fc.oneof({ weight: 3, arbitrary: name }, { weight: 1, arbitrary: fc.constant('**') });
  const pattern = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => `/etc/${parts.join('/')}`);
  const path = fc
    .array(fc.stringMatching(/^[ab.]{1,5}$/), { minLength: 1, maxLength: 5 })
    .map((p) => `/etc/${p.join('/')}`);
  fc.assert(
    fc.property(pattern, path, (glob, subject) => {
      // picomatch takes what normal paths never hold in ways of its own.
      fc.pre(!subject.split('/').some((p) => p === '.' || p === '..') && !isSecret(subject));
      const oracle = picomatch(glob, { dot: true, nonegate: true, noextglob: true, strictSlashes: true, posix: true });
      assert.equal(isSecret(subject, [glob]), oracle(subject));
    }),
    { numRuns: deep(5000, 1000) },
  );
});

test('many stars cost no more than pattern times path', () => {
  const pattern = `/etc/${'*a'.repeat(100)}*b`;
  assert.equal(isSecret(`/etc/${'a'.repeat(250)}`, [pattern]), false);
  assert.equal(isSecret(`/etc${'/a'.repeat(1500)}`, [`/etc${'/**/a'.repeat(100)}/b`]), false);
});

test('a backup of a backup is as secret, however many suffixes it has', () => {
  const suffix = fc.constantFrom(
    '~',
    '-',
    '+',
    '.bak',
    '.1',
    '.2026-01-02',
    '.1.2~',
    '.rpmsave',
    '.dpkg-old',
    '.gz',
    '--~',
  );
  fc.assert(
    fc.property(fc.array(suffix, { maxLength: 40 }), (suffixes) => {
      const end = suffixes.join('');
      for (const path of ['/etc/a/x.key', '/etc/netrc', '/etc/ppp/chap-secrets'])
        assert.equal(isSecret(path + end), true, path + end);
      for (const path of ['/etc/a/x.conf', '/etc/a/~x', '/etc/a/1.x'])
        assert.equal(isSecret(path + end), false, path + end);
      if (end) assert.equal(isSecret(`/etc/a/.x.key${end}`), true);
      assert.equal(isSecret(`/etc/.netrc${end}`), true);
    }),
  );
});

const sha = (text: string) => createHash('sha256').update(text).digest('hex');
const file = (path: string): Entry => ({
  path,
  type: 'file',
  mode: 0o600,
  uid: 0,
  gid: 0,
  size: path.length,
  sha256: sha(path),
});

test('a comparison entry keeps all but size and digest', () => {
  assert.deepEqual(comparisonEntry({ ...file('/etc/shadow'), capability: 'AQ==' }), {
    path: '/etc/shadow',
    type: 'file',
    mode: 0o600,
    uid: 0,
    gid: 0,
    capability: 'AQ==',
  });
});

test('the comparison text is the text of the comparison entries', () => {
  const path = fc.oneof(
    fc.constantFrom(...SECRETS, ...OPEN.filter((p) => p.startsWith('/etc/'))),
    fc
      .array(
        fc.integer({ min: 1, max: 255 }).filter((b) => b !== 0x2f),
        { minLength: 1, maxLength: 6 },
      )
      .map((b) => `/etc/${String.fromCharCode(...b)}`),
  );
  fc.assert(
    fc.property(fc.uniqueArray(path, { maxLength: 40 }), fc.boolean(), (paths, more) => {
      const added = more ? ['/etc/?'] : [];
      const entries: Entry[] = [{ path: '/etc', type: 'dir', mode: 0o755, uid: 0, gid: 0 }, ...paths.map(file)];
      entries.sort((a, b) => comparePaths(a.path, b.path));
      const expected = mainText(entries.map((e) => (isSecret(e.path, added) ? comparisonEntry(e) : e)));
      assert.equal(comparisonText(mainText(entries), added), expected);
    }),
  );
});

test('the comparison text of /usr is its text', () => {
  const text = mainText([{ path: '/usr', type: 'dir', mode: 0o755, uid: 0, gid: 0 }, file('/usr/etc/shadow')]);
  assert.equal(comparisonText(text), text);
});
