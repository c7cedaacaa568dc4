/** Secrets stay on the host: what leaves is searched for planted ones, and then used to guess them (PROTOCOL 1.4). */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { scanJson } from '#agent/present.ts';
import { scan } from '#agent/scan.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { mainText } from '#src/manifest/mtree.ts';
import { emptyRoot, entriesOf, manifestOf, sha256 } from './roots.ts';

const PIN = '4711';
const shadow = (pin: string) => `root:${pin}:20000:0:99999:7:::\n`;
/** Path, content in the image (undefined: not there), content on the host (undefined: removed). */
const PLANTED: readonly (readonly [string, string | undefined, string | undefined])[] = [
  ['/etc/shadow', shadow('0000'), shadow(PIN)],
  ['/etc/shadow-', undefined, shadow(PIN)],
  ['/etc/gshadow', `g:${PIN}::\n`, `g:${PIN}::\n`],
  ['/etc/ssh/ssh_host_ed25519_key', undefined, 'CANARY-host-key'],
  ['/etc/NetworkManager/system-connections/home.nmconnection', 'psk=CANARY-old', 'psk=CANARY-new'],
  ['/etc/pki/tls/private/localhost.key', 'CANARY-gone', undefined],
  ['/etc/krb5.keytab', undefined, 'CANARY-keytab'],
  ['/etc/site/api.token', 'CANARY-token', 'CANARY-token2'],
];
const SITE = ['/etc/site/*.token'];

const put = (root: string, path: string, content: string | undefined) => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  if (content === undefined) rmSync(join(root, path), { force: true });
  else writeFileSync(join(root, path), content, { mode: 0o600 });
};

async function leaving(t: TestContext) {
  const root = emptyRoot(t);
  put(root, '/etc/passwd', 'root:x:0:0::/root:/bin/sh\n');
  put(root, '/usr/etc/passwd', 'root:x:0:0::/root:/bin/sh\n');
  for (const [path, image] of PLANTED) put(root, path, image);
  const expected = manifestOf(entriesOf(root));
  for (const [path, , host] of PLANTED) put(root, path, host);
  chmodSync(join(root, '/etc/gshadow'), 0o644);
  const found = await scan({ root, expected, secretPathsAdded: SITE });
  // Everything that a scan, and the report that is made of it, says; paths and states are meant to be told.
  const text = JSON.stringify({ found, json: scanJson(found, undefined) });
  return { root, found, text };
}

test('what leaves names each secret and its state', async (t) => {
  const { found } = await leaving(t);
  assert.deepEqual(found.secrets, [
    { path: '/etc/NetworkManager/system-connections/home.nmconnection', state: 'differs' },
    { path: '/etc/gshadow', state: 'same' },
    { path: '/etc/krb5.keytab', state: 'added' },
    { path: '/etc/pki/tls/private/localhost.key', state: 'removed' },
    { path: '/etc/shadow', state: 'differs' },
    { path: '/etc/shadow-', state: 'added' },
    { path: '/etc/site/api.token', state: 'differs' },
    { path: '/etc/ssh/ssh_host_ed25519_key', state: 'added' },
  ]);
  const drift = found.drift.map(({ change, path }) => `${change} ${path}`);
  assert.ok(drift.includes('modified /etc/gshadow') && drift.includes('removed /etc/pki/tls/private/localhost.key'));
});

test('no byte of a planted secret, in any usual spelling, is in what leaves', async (t) => {
  const { text } = await leaving(t);
  const contents = PLANTED.flatMap(([, image, host]) => [image, host]).filter((content) => content !== undefined);
  for (const content of contents) {
    const digests = ['sha256', 'sha1', 'md5', 'sha512'].flatMap((name) =>
      (['hex', 'base64', 'base64url'] as const).map((encoding) => createHash(name).update(content).digest(encoding)),
    );
    const spellings = [content, ...['hex', 'base64', 'utf16le'].map((e) => Buffer.from(content).toString(e as 'hex'))];
    for (const spelling of [...digests, ...spellings, `"size":${content.length},"sha256"`])
      assert.ok(!text.includes(spelling.replace(/\n$/, '')), `${spelling} left the host`);
  }
  assert.ok(!text.includes(PIN) && !text.includes('CANARY'));
});

test('whoever knows all but four digits cannot find them from what leaves', async (t) => {
  const { root, found, text } = await leaving(t);
  const entries = entriesOf(root);
  /** Every digest that someone can make who knows the whole tree but for the PIN, which is guessed. */
  function* guesses(pin: string): Generator<string> {
    yield sha256(shadow(pin));
    yield sha256(pin);
    const guessed = (paths: readonly string[]): Entry[] =>
      entries.map((entry) =>
        paths.includes(entry.path) ? { ...entry, size: shadow(pin).length, sha256: sha256(shadow(pin)) } : entry,
      );
    for (const paths of [['/etc/shadow'], ['/etc/shadow-'], ['/etc/shadow', '/etc/shadow-']]) {
      const etc = guessed(paths).filter(({ path }) => path.startsWith('/etc'));
      yield sha256(mainText(etc));
      for (const { path } of etc.filter(({ path }) => paths.includes(path)))
        yield sha256(mainText(etc.filter((entry) => entry.path === path)));
    }
  }
  const full = manifestOf(entries).digests.etc.main.full.slice('sha256:'.length);
  const hits: string[] = [];
  let oracle = '';
  for (let n = 4600; n < 4800; n++) {
    const pin = String(n);
    for (const digest of guesses(pin)) {
      if (text.includes(digest)) hits.push(pin);
      if (digest === full) oracle = pin;
    }
  }
  assert.deepEqual(hits, []);
  // The same guesses find the PIN at once from the full digest: so this test can fail.
  assert.equal(oracle, PIN);
  assert.notEqual(found.trees.etc.main, `sha256:${full}`);
});

test('a scan of other contents of the same secrets leaves the same bytes', async (t) => {
  const root = emptyRoot(t);
  for (const [path, , host] of PLANTED) put(root, path, host);
  const without = (scan: unknown) =>
    JSON.stringify(scan, (key, value) => (key === 'seconds' || key === 'peakRssBytes' ? 0 : value));
  const one = without(await scan({ root, secretPathsAdded: SITE }));
  for (const [path, , host] of PLANTED) put(root, path, host === undefined ? undefined : `${host}, and more`);
  assert.equal(without(await scan({ root, secretPathsAdded: SITE })), one);
});
