/** Content of /etc files leaves the host as the image's configuration says, and secrets never (PROTOCOL 3.10). */
import assert from 'node:assert/strict';
import { appendFileSync, linkSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { contentsOf, type Content } from '#agent/contents.ts';
import { scanJson } from '#agent/present.ts';
import { scan } from '#agent/scan.ts';
import { CONTENT_BYTES_MAX, CONTENTS_MAX } from '#src/limits.ts';
import { emptyRoot, entriesOf, manifestOf, sha256 } from './roots.ts';

const put = (root: string, path: string, content: string | Uint8Array) => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
};

/** A root whose image had `image`, and which `change` made into what it is. */
async function scanned(
  t: TestContext,
  image: Readonly<Record<string, string>>,
  change: (root: string) => void,
  options: Partial<Parameters<typeof scan>[0]> = {},
) {
  const root = emptyRoot(t);
  for (const [path, content] of Object.entries(image)) put(root, path, content);
  const expected = manifestOf(entriesOf(root));
  change(root);
  return scan({ root, expected, contents: ['/etc/**'], workers: 1, ...options });
}
const told = (contents: readonly Content[]) =>
  contents.map((each) => `${each.path} ${'text' in each ? JSON.stringify(each.text) : `(${each.omitted})`}`);

test('what differs is told, what is as the image has it is not; a mode alone is no content', async (t) => {
  const found = await scanned(
    t,
    { '/etc/motd': 'Welcome.\n', '/etc/same.conf': 'x', '/etc/gone.conf': 'y', '/usr/bin/tool': 'a' },
    (root) => {
      appendFileSync(join(root, 'etc/motd'), 'Grüße\n');
      put(root, '/etc/new.conf', '');
      put(root, '/usr/bin/tool', 'b');
      rmSync(join(root, 'etc/gone.conf'));
    },
  );
  assert.deepEqual(told(found.contents), ['/etc/motd "Welcome.\\nGrüße\\n"', '/etc/new.conf ""']);
  assert.ok(!('contents' in scanJson(found, undefined)), 'a scan tells of it in reports alone');
});

test('only what a glob of the configuration names is told; without one nothing is read', async (t) => {
  const change = (root: string) => {
    put(root, '/etc/motd', 'changed');
    put(root, '/etc/ssh/sshd_config', 'Port 23\n');
  };
  const some = await scanned(t, {}, change, { contents: ['/etc/ssh/sshd_config', '/etc/m?td2'] });
  assert.deepEqual(told(some.contents), ['/etc/ssh/sshd_config "Port 23\\n"']);
  assert.deepEqual((await scanned(t, {}, change, { contents: [] })).contents, []);
});

test('a secret never leaves, whatever a glob names and by whatever name it is reached', async (t) => {
  const key = '-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY\n-----END OPENSSH PRIVATE KEY-----\n';
  const found = await scanned(
    t,
    { '/etc/shadow': 'root:CANARY-old:1\n', '/etc/site/api.token': 'CANARY-a', '/etc/motd': 'hello\n' },
    (root) => {
      put(root, '/etc/shadow', 'root:CANARY-new:2\n');
      put(root, '/etc/ssh/ssh_host_rsa_key', 'CANARY-host\n');
      put(root, '/etc/site/api.token', 'CANARY-b');
      put(root, '/root/elsewhere', 'CANARY-elsewhere\n');
      // Other names of a secret, in /etc and outside of it, and a copy.
      symlinkSync('shadow', join(root, 'etc/by-link'));
      symlinkSync('../root', join(root, 'etc/by-folder'));
      linkSync(join(root, 'etc/shadow'), join(root, 'etc/hard'));
      linkSync(join(root, 'root/elsewhere'), join(root, 'etc/hard2'));
      put(root, '/etc/copy', 'root:CANARY-new:2\n');
      put(root, '/etc/server.txt', `notes\n${key}`);
      put(root, '/etc/app.conf', 'user = app\npassword = CANARY-word\n');
      put(root, '/etc/repo.conf', 'baseurl=https://me:CANARY-url@example.com/\n');
      rmSync(join(root, 'etc/motd'));
      symlinkSync('shadow', join(root, 'etc/motd'));
    },
    { secretPathsAdded: ['/etc/site/*.token'] },
  );
  assert.deepEqual(told(found.contents), [
    '/etc/app.conf (secret)',
    '/etc/copy (secret)',
    '/etc/hard (secret)',
    '/etc/hard2 (linked)',
    '/etc/repo.conf (secret)',
    '/etc/server.txt (secret)',
  ]);
  assert.ok(!JSON.stringify(found.contents).includes('CANARY'));
});

test('what is no text, too large, or more than a report carries stays here, and it is said why', async (t) => {
  const names = Array.from({ length: CONTENTS_MAX }, (_, i) => `/etc/many/${String(i).padStart(2, '0')}`);
  const found = await scanned(t, {}, (root) => {
    put(root, '/etc/1-edge', 'x'.repeat(CONTENT_BYTES_MAX));
    put(root, '/etc/2-large', 'x'.repeat(CONTENT_BYTES_MAX + 1));
    put(root, '/etc/3-nul', 'a\0b');
    put(root, '/etc/4-latin1', Uint8Array.from([0x4d, 0xfc]));
    for (const name of names) put(root, name, 'y'.repeat(CONTENT_BYTES_MAX - 100));
  });
  const by = (omitted: string) => found.contents.filter((each) => 'omitted' in each && each.omitted === omitted).length;
  assert.equal(found.contents.length, CONTENTS_MAX);
  assert.deepEqual(told(found.contents.slice(1, 4)), [
    '/etc/2-large (too-large)',
    '/etc/3-nul (not-text)',
    '/etc/4-latin1 (not-text)',
  ]);
  assert.ok('text' in found.contents[0]! && by('limit') > 0);
  const bytes = JSON.stringify(found.contents.flatMap((each) => ('text' in each ? [each.text] : []))).length;
  assert.ok(bytes < 1_050_000, `${bytes} bytes of texts`);
});

test('what changed since the scan is not taken for what was judged', (t) => {
  const root = emptyRoot(t);
  put(root, '/etc/motd', 'after!');
  const actual = { type: 'file', mode: 0o644, uid: 0, gid: 0, size: 6, sha256: sha256('before') } as const;
  const about = { root, globs: ['/etc/**'], secretPaths: [], secretContents: new Set<string>() };
  const drift = (path: string) => [{ path, change: 'added', actual }] as const;
  assert.deepEqual(told(contentsOf(drift('/etc/motd'), about)), ['/etc/motd (unsteady)']);
  assert.deepEqual(told(contentsOf(drift('/etc/gone'), about)), ['/etc/gone (unsteady)']);
  symlinkSync('motd', join(root, 'etc/link'));
  assert.deepEqual(told(contentsOf(drift('/etc/link'), about)), ['/etc/link (unsteady)']);
});
