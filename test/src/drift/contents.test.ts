/** Which texts of /etc may leave a host. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exponent } from '#test/exponent.ts';
import { betraysSecret, textOf } from '#src/drift/contents.ts';

const SECRET: readonly string[] = [
  '-----BEGIN PRIVATE KEY-----',
  '-----BEGIN ENCRYPTED PRIVATE KEY-----\nx',
  '-----BEGIN PGP PRIVATE KEY BLOCK-----',
  'root:$6$rounds=5000$saltsalt$abcdefgh:1::',
  'user:$y$j9T$abcdefghijkl:1::',
  'password_pbkdf2 root grub.pbkdf2.sha512.10000.AA.BB',
  'userPassword: {SSHA}abcdefgh12345678',
  'proxy=http://me:hunter2@proxy.example:3128',
  'Authorization: Basic dXNlcjpwYXNzd29yZA==',
  'token = abc',
  'passwd=abc',
  '  "apiKey": "abc"',
  'DB_PASSWORD=abc',
  'client_secret: abc',
  'wpa_psk=abc',
  'aws AKIAABCDEFGHIJKLMNOP',
  'ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
  'bindpw Sup3rS3cret',
  'rootbindpw "Sup3rS3cret"',
  'requirepass foobared',
  'masterauth foobared',
  'auth_pass 1111',
  'DB_PASS=abc',
  'api-key 3c59dc048e8850243be8079a5c74d079',
  'secret_id: 8f14e45fceea167a5a36dedd4bea2543',
  '  Password hunter2;',
  'neighbor 192.0.2.1 password hunter2',
  'enable secret 5 hunter2',
  'ExecStart=/usr/bin/app --token abc123',
  'machine example.org login me password hunter2',
  'slack https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXX',
  'url: https://chat.example.org/hooks/xyz7xyz7xyz7xyz7xyz7',
  'https://discord.com/api/webhooks/1234/abcd',
  'https://store.example/blob?se=2026&sig=abcdefghijkl%3D',
  'community public123 rw',
  'rocommunity public123',
  'com2sec local localhost public123',
  'createUser me SHA hunter2hunter2 AES',
  'trapsink 192.0.2.1 public123',
];
const PLAIN: readonly string[] = [
  '',
  'PasswordAuthentication no\nPermitRootLogin prohibit-password\n',
  'passwd:     files sss systemd\nshadow:     files\n',
  'password    sufficient    pam_unix.so sha512 shadow nullok\n',
  'PASS_MAX_DAYS 99999\n',
  '%wheel ALL=(ALL) NOPASSWD: ALL\n',
  'require_token=yes\nsecrets: none\n',
  'password_file = /run/app/password\n',
  'net.ipv4.ip_forward = 1\nkernel.sysrq=0\n',
  'baseurl=https://mirror.example:8443/repo/$basearch/\n',
  '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
  '# Password aging controls:\n#\n# the token is read from a file\n',
  'password include system-auth\npassword [success=1 default=ignore] pam_unix.so\n',
  'PermitEmptyPasswords no\nUsePAM yes\n',
  'Description=Forward Password Requests to Wall\n',
  'location / { proxy_pass http://backend; }\n  proxy_pass http://backend;\n',
  'account required pam_unix.so use_first_pass\nDefaults !targetpw\nbypass = 3\n',
  ' neighbor 192.0.2.1 send-community both\n set community 65000:100\n',
  'trapsink localhost\nHOOKS=(base udev)\nhttps://example.org/docs/hooks\n',
];

for (const text of SECRET) test(`holds a secret: ${text.slice(0, 50)}`, () => assert.ok(betraysSecret(`a\n${text}\n`)));
for (const text of PLAIN) test(`holds none: ${text.slice(0, 50)}`, () => assert.ok(!betraysSecret(text)));

test('looking takes time in proportion to the text, whatever it is', () => {
  const hostile = [
    'password ',
    'http://a:',
    '$6$',
    '-----BEGIN ',
    'token=no ',
    'basic ',
    'a'.repeat(97),
    'eyJ.eyJ',
    '\npassword ',
    'pass a\n',
    'http://a/b/hook',
  ];
  for (const part of hostile) {
    const texts = new Map(SIZES.map((n) => [n, part.repeat(n / part.length)]));
    const k = exponent((n) => void betraysSecret(texts.get(n)!), SIZES);
    assert.ok(k < 1.5, `${part}: exponent ${k}`);
  }
});
const SIZES = [16_384, 131_072];

test('a byte order mark is content, and no byte of a text is lost', () => {
  const bytes = Uint8Array.from([0xef, 0xbb, 0xbf, 0x61]);
  const found = textOf(bytes);
  assert.ok('text' in found);
  assert.deepEqual(new TextEncoder().encode(found.text), bytes);
  assert.deepEqual(textOf(Uint8Array.from([0xff])), { omitted: 'not-text' });
  assert.deepEqual(textOf(Uint8Array.from([0x61, 0])), { omitted: 'not-text' });
});
