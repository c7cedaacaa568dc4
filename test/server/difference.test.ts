/** How a host changed a text of /etc, on page, API and terminal; and what is kept back, with the reason (docs/policy.md, section 14). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import type { Entry } from '#src/manifest/entry.ts';
import { parsePolicy } from '#src/policy/document.ts';
import type { FullReport } from '#src/report/report.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { findings, host as hostCommand } from '#cli/fleet.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import { ran } from '#test/ran.ts';
import { BASE, dir, enrol, image, serverFor, type TestHost, type TestServer } from './fleet.ts';
import { visitor } from './web/visitor.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const file = (path: string, text: string): Entry => ({
  path,
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: bytes(text).length,
  sha256: nodeSha256(bytes(text)),
});

const SHIPPED = await shippedPolicy();
const SSHD = '/etc/ssh/sshd_config';
const OLD = 'Port 22\nPermitRootLogin no\nUsePAM yes\n';
// A terminal's escape, a tab, a bidirectional override, markup, and no line break at the end.
const NEW = 'Port 22\nPermitRootLogin yes\t# \x1b[2Jnow\u202e <script>alert(1)</script>\nUsePAM yes';
const OTHERS = ['app.conf', 'cache', 'kept.conf', 'long', 'named.conf', 'odd.conf', 'unread.conf'] as const;
const IMAGE = image('os', [
  ...BASE,
  dir('/etc/ssh'),
  file(SSHD, OLD),
  ...OTHERS.map((name) => file(`/etc/${name}`, `${name} of the image\n`)),
]);

/** What the host has of each path instead of the image's, and what its report carries. */
async function report(host: TestHost, own: Readonly<Record<string, string>>, contents: FullReport['contents']) {
  const kept = IMAGE.rules.get('ostree/1')!.filter(({ path }) => !Object.hasOwn(own, path));
  host.entries = [...kept, ...Object.entries(own).map(([path, text]) => file(path, text))];
  host.compareWith(IMAGE);
  return host.sendFull({ contents });
}

const keep = (server: TestServer, ...texts: readonly string[]) =>
  server.server.store.imageTexts.put(
    IMAGE.digest,
    {
      texts: texts.map((text) => ({ sha256: nodeSha256(bytes(text)), bytes: zstdCompressSync(text) })),
      omitted: [[nodeSha256('cache of the image\n'), 'not-text']],
    },
    server.time.now,
  );
const groupOf = async (server: TestServer, path: string): Promise<string> =>
  (await server.api(`/api/v1/groups?subject=${encodeURIComponent(path)}`)).body.items[0].id;

test('what a host changed in a file stands beside the image’s own, and nothing in it can act on who reads it', async (t) => {
  const server = await serverFor(t, { images: [IMAGE] });
  await keep(server, OLD);
  const host = await enrol(server, IMAGE, { name: 'web-1' });
  await host.sendFull();
  await server.settle();
  assert.equal(
    (
      await report(host, { [SSHD]: NEW, '/etc/new.conf': 'fresh\n' }, [
        { path: '/etc/new.conf', text: 'fresh\n' },
        { path: SSHD, text: NEW },
      ])
    ).status,
    200,
  );
  await server.settle();

  const id = await groupOf(server, SSHD);
  const told = (await server.api(`/api/v1/groups/${id}/difference`)).body;
  assert.deepEqual([told.host.name, told.path, told.change, told.hidden], ['web-1', SSHD, 'modified', null]);
  assert.deepEqual(
    told.hunks[0].lines.map(({ kind, was, is, text, open }: any) => [kind, was, is, text, open]),
    [
      ['same', 1, 1, 'Port 22', undefined],
      ['del', 2, 0, 'PermitRootLogin no', undefined],
      ['del', 3, 0, 'UsePAM yes', undefined],
      ['add', 0, 2, NEW.split('\n')[1], undefined],
      ['add', 0, 3, 'UsePAM yes', true],
    ],
  );
  const added = (await server.api(`/api/v1/hosts/${host.id}/difference?path=/etc/new.conf`)).body;
  assert.deepEqual([added.change, added.hunks[0].lines.length], ['added', 1]);

  const person = await visitor(server);
  for (const address of [`/findings/${id}`, `/hosts/${host.id}/tree`]) {
    const { html, text } = await person.page(address);
    assert.ok(html.includes('&lt;script&gt;alert(1)') && !html.includes('<script>alert'), address);
    assert.match(text, /-PermitRootLogin no[^]*\+PermitRootLogin yes # \\x1b\[2Jnow\\u\{202e\} <script>/);
  }
  assert.match((await person.page(`/findings/${id}`)).text, /What changed in it[^]*cp -a \/usr\/etc\/ssh\/sshd_config/);

  const env = { BOOTPROOF_TOKEN: server.admin };
  const address = ['--server', server.server.url];
  const shown = await ran(findings, ['show', id, ...address], { env });
  assert.match(
    shown.out,
    /^--- \/usr\/etc\/ssh\/sshd_config {2}\(the image\)\n\+\+\+ .*web-1, report 2\)\n@@ -1,3 \+1,3 @@\n Port 22\n-/m,
  );
  const diff = await ran(hostCommand, ['web-1', '--diff', SSHD, ...address], { env });
  assert.equal(diff.exit, 1);
  for (const char of ['\x1b', '\u202e']) assert.ok(!(shown.out + diff.out).includes(char));
  assert.ok(diff.out.includes('\\x1b[2Jnow\\u{202e}'));
  assert.match(diff.out, /\+UsePAM yes\n\\ No newline at end of file\n$/);
  const none = await ran(hostCommand, ['web-1', '--diff', '/etc/motd', ...address], { env });
  assert.deepEqual([none.exit, /not about the content/.test(none.out)], [2, true]);
});

test('what is not shown says why: of the host, of the image, of the policy', async (t) => {
  const policy = parsePolicy(
    'format: bootproof.policy/1\nname: mine\nextends: default\ncontents:\n  deny: ["/etc/named.conf"]\n',
    { file: 'mine.yaml', base: () => SHIPPED.policy },
  );
  const server = await serverFor(t, { images: [IMAGE], policy });
  await keep(server, 'app.conf of the image\n');
  const host = await enrol(server, IMAGE, { name: 'web-1' });
  await host.sendFull();
  await server.settle();
  const own = Object.fromEntries(OTHERS.map((name) => [`/etc/${name}`, `${name} of the host\n`]));
  own['/etc/odd.conf'] = 'password = CANARY\n';
  await report(host, own, [
    { path: '/etc/app.conf', omitted: 'linked' },
    { path: '/etc/cache', text: own['/etc/cache']! },
    { path: '/etc/long', omitted: 'too-large' },
    { path: '/etc/named.conf', text: own['/etc/named.conf']! },
    { path: '/etc/odd.conf', text: own['/etc/odd.conf'] },
    { path: '/etc/unread.conf', text: own['/etc/unread.conf']! },
  ]);
  await server.settle();
  const why = async (path: string) =>
    (await server.api(`/api/v1/hosts/${host.id}/difference?path=${path}`)).body.hidden.why;
  const told = new Map<string, string>();
  for (const name of OTHERS) told.set(name, await why(`/etc/${name}`));
  assert.deepEqual(Object.fromEntries(told), {
    'app.conf': 'linked',
    cache: 'image-not-text',
    'kept.conf': 'not-named',
    long: 'too-large',
    'named.conf': 'denied',
    // The agent ought to have kept it: it is shown nowhere all the same.
    'odd.conf': 'secret',
    'unread.conf': 'image-unknown',
  });
  const person = await visitor(server);
  const pages = await Promise.all(
    [`/hosts/${host.id}/tree`, `/findings/${await groupOf(server, '/etc/named.conf')}`].map(person.page),
  );
  const api = await Promise.all(
    ['drift', 'findings', 'reports'].map((of) => server.api(`/api/v1/hosts/${host.id}/${of}`)),
  );
  const everything = JSON.stringify([pages.map(({ html }) => html), api.map(({ body }) => body)]);
  assert.ok(!everything.includes('CANARY') && !everything.includes('named.conf of the host'));
  assert.match(pages[1]!.text, /What changed in it Not shown: the host policy denies that it is shown/);

  // The envelope is evidence as it came: it holds what was denied, so it is not for everybody.
  const seq = host.seq;
  const reader = await server.api('/api/v1/access/tokens', {
    method: 'POST',
    body: { name: 'reader', roles: ['viewer'] },
  });
  const as = (secret: string) =>
    server.server.app.request(`/api/v1/hosts/${host.id}/reports/${seq}`, {
      headers: { authorization: `Bearer ${secret}` },
    });
  assert.equal((await as(reader.body.token)).status, 403);
  assert.equal((await as(server.admin)).status, 200);

  // A host that tells of no contents at all, and an image that was built before texts were kept.
  await report(host, { '/etc/app.conf': 'x\n' }, null);
  assert.equal(await why('/etc/app.conf'), 'nothing-named');
});

test('an image that was built before texts were kept says how to have it read again', async (t) => {
  const server = await serverFor(t, { images: [IMAGE] });
  const host = await enrol(server, IMAGE, { name: 'web-1' });
  await host.sendFull();
  await server.settle();
  await report(host, { [SSHD]: NEW }, [{ path: SSHD, text: NEW }]);
  await server.settle();
  const { hidden } = (await server.api(`/api/v1/hosts/${host.id}/difference?path=${SSHD}`)).body;
  assert.deepEqual(
    [hidden.why, hidden.text],
    ['image-unread', `the image was built here before texts were kept: bootproof images rebuild ${IMAGE.digest}`],
  );
  const page = await (await visitor(server)).page(`/findings/${await groupOf(server, SSHD)}`);
  assert.match(page.text, /bootproof images rebuild sha256:/);
  const forged = await report(host, { [SSHD]: NEW }, [{ path: SSHD, text: OLD }]);
  assert.deepEqual([forged.status, forged.body.code], [422, 'CONTENTS_CONTRADICT']);
});
