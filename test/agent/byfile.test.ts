/** A host that has never seen a network, from end to end: the real agent, the real server, the real command, and files between them. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { main as agentMain } from '#agent/main.ts';
import { ManifestError } from '#agent/manifests.ts';
import { host as hostCommand, hosts } from '#cli/fleet.ts';
import { carried, images } from '#cli/supply.ts';
import { BootproofError } from '#src/error.ts';
import { EXIT, type Io } from '#src/terminal.ts';
import { EnrolError } from '#src/wire/enrol.ts';
import { ManifestFileError } from '#src/wire/manifestfile.ts';
import { image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';
import { emptyRoot, entriesOf, temporary } from './roots.ts';
import { ran, type Main, type Ran } from '#test/ran.ts';

process.umask(0o022);

const run = (main: Main, args: readonly string[], env: Io['env'] = {}): Promise<Ran> => ran(main, args, { env });

/** A root as its image made it, a server that can build that image, and a stick that is carried between them. */
async function prepared(t: TestContext) {
  const root = emptyRoot(t);
  mkdirSync(`${root}/usr/bin`);
  writeFileSync(`${root}/usr/bin/login`, 'login', { mode: 0o755 });
  writeFileSync(`${root}/usr/bin/sudo`, 'sudo', { mode: 0o755 });
  writeFileSync(`${root}/etc/motd`, 'welcome\n');
  const os = image('air gap', entriesOf(root));
  const server = await serverFor(t, { images: [os] });
  const stick = temporary(t);
  const where = ['--root', root, '--state', join(stick, 'state')];
  const booted = ['--backend', 'ostree', '--image', os.digest];
  const agent = (...args: string[]) => run(agentMain, [...args, ...where]);
  const there = (main: Main, ...args: string[]) =>
    run(main, args, { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin });
  const on = (name: string) => join(stick, name);
  return { root, os, server, agent, there, on, booted };
}

/** Enrols by file, and brings answer and manifests. */
async function carriedOver({ agent, there, on, booted, os, server }: Awaited<ReturnType<typeof prepared>>) {
  assert.equal((await agent('enroll', '--offline', '--out', on('request'))).exit, EXIT.ok);
  const first = await agent('report', '--out', on('first'), ...booted);
  assert.equal(first.exit, EXIT.unknown, first.err);
  assert.match(first.err, /compared with nothing: .*bootproof agent import ANSWER/);
  assert.equal((await there(hosts, 'approve', on('request'), '--out', on('answer'))).exit, EXIT.ok);
  assert.match((await there(carried, on('first'))).out, /^1 taken, 0 refused/);
  await server.settle();
  const exported = await there(images, 'export', os.digest, '--out', on('manifests'));
  assert.equal(exported.exit, EXIT.ok, exported.err);
}

const told = async (server: TestServer, there: (main: Main, ...args: string[]) => Promise<Ran>) => {
  const { items } = (await (
    await fetch(`${server.server.url}/api/v1/hosts`, { headers: { authorization: `Bearer ${server.admin}` } })
  ).json()) as { items: { id: string }[] };
  return JSON.parse((await there(hostCommand, items[0]!.id, '--json')).out) as {
    host: { verdict: string; drift: object; integrity: { state: string } };
    findings: { subject: string }[];
  };
};

test('a host that has never seen a network is judged with its paths, and intact again when it is mended', async (t) => {
  const w = await prepared(t);
  const { root, server, agent, there, on, booted } = w;
  writeFileSync(`${root}/usr/bin/login`, 'evil!');
  writeFileSync(`${root}/usr/bin/rootme`, 'x', { mode: 0o755 });
  chmodSync(`${root}/usr/bin/rootme`, 0o4755);
  await carriedOver(w);
  const before = (await told(server, there)).host;
  assert.deepEqual([before.verdict, before.integrity.state], ['unverifiable', 'unverifiable'], 'nothing was compared');
  // In whatever order they are named: the answer says whose manifests count.
  const imported = await agent('import', on('manifests'), on('answer'), '--json');
  assert.equal(imported.exit, EXIT.ok, imported.err);
  assert.match(imported.err, /its fingerprint is the last part of every token/);

  const ran = await agent('report', '--out', on('second'), '--json', ...booted);
  assert.equal(ran.exit, EXIT.different, ran.err);
  assert.deepEqual((JSON.parse(ran.out) as { drift: object }).drift, { added: 1, removed: 0, modified: 1 });
  assert.match((await there(carried, on('second'))).out, /^1 taken, 0 refused/);
  await server.settle();
  const judged = await told(server, there);
  assert.equal(judged.host.verdict, 'drifted');
  assert.deepEqual(
    judged.findings
      .map(({ subject }) => subject)
      .filter((subject) => subject.startsWith('/'))
      .sort(),
    ['/usr/bin/login', '/usr/bin/rootme'],
  );

  writeFileSync(`${root}/usr/bin/login`, 'login');
  rmSync(`${root}/usr/bin/rootme`);
  assert.equal((await agent('report', '--out', on('third'), ...booted)).exit, EXIT.ok);
  await there(carried, on('third'));
  await server.settle();
  assert.equal((await told(server, there)).host.integrity.state, 'intact');
});

test('with a token only its server can answer, and an answer is for the host that asked', async (t) => {
  const [one, two] = [await prepared(t), await prepared(t)];
  const made = await fetch(`${two.server.server.url}/api/v1/tokens`, {
    method: 'POST',
    headers: { authorization: `Bearer ${two.server.admin}`, 'content-type': 'application/json' },
    body: JSON.stringify({ labels: {}, group: null, maxUses: 1, lifeSeconds: 3600 }),
  });
  const { token } = (await made.json()) as { token: string };
  writeFileSync(one.on('token'), token);
  assert.equal(
    (await one.agent('enroll', '--offline', '--token-file', one.on('token'), '--out', one.on('request'))).exit,
    EXIT.ok,
  );
  await one.there(hosts, 'approve', one.on('request'), '--out', one.on('answer'));
  await rejectsCode(() => one.agent('import', one.on('answer')), EnrolError, 'ENROL_SERVER_KEY');
  await two.there(hosts, 'approve', one.on('request'), '--out', one.on('answer2'));
  assert.equal((await one.agent('import', one.on('answer2'))).exit, EXIT.ok);
  // Brought twice it changes nothing; another server's is refused from now on, and so is another host's.
  assert.equal((await one.agent('import', one.on('answer2'))).exit, EXIT.ok);
  await two.agent('enroll', '--offline', '--out', two.on('request'));
  await rejectsCode(() => two.agent('import', one.on('answer2')), EnrolError, 'ENROL_ANSWER');
});

const SPOILT: [string, (text: Buffer) => Buffer, new (...args: never[]) => BootproofError, string][] = [
  [
    'a text changed',
    (text) => Buffer.from(text.toString('latin1').replace('mode=0755 uid', 'mode=0777 uid'), 'latin1'),
    ManifestError,
    'MANIFEST_FOREIGN',
  ],
  ['cut short', (text) => text.subarray(0, -5), ManifestFileError, 'MANIFEST_FILE_SYNTAX'],
  ['a text left out', (text) => text.subarray(0, text.lastIndexOf('sha256:')), ManifestError, 'MANIFEST_FOREIGN'],
  [
    'a text too many',
    (text) => Buffer.concat([text, Buffer.from(`sha256:${'0'.repeat(64)} 1\nx`)]),
    ManifestError,
    'MANIFEST_FOREIGN',
  ],
  ['no headers', (text) => text.subarray(text.indexOf('\n') + 1), ManifestFileError, 'MANIFEST_FILE_SYNTAX'],
  ['a line without an end', () => Buffer.alloc(17 * 2 ** 20, 'x'), ManifestFileError, 'MANIFEST_FILE_SYNTAX'],
];
test('manifests that were spoilt on the way are refused as a whole', async (t) => {
  const w = await prepared(t);
  const { agent, on } = w;
  await carriedOver(w);
  await rejectsCode(() => agent('import', on('manifests')), ManifestError, 'MANIFEST_UNAVAILABLE');
  await agent('import', on('answer'));
  const whole = gunzipSync(readFileSync(on('manifests')));
  for (const [name, spoil, type, code] of SPOILT) {
    writeFileSync(on('spoilt'), gzipSync(spoil(whole)));
    await rejectsCode(() => agent('import', on('spoilt')), type, code);
    assert.deepEqual([name, existsSync(on('state/manifests/.new-text'))], [name, false]);
    assert.match((await agent('report', '--out', on('reports'), ...w.booted)).err, /compared with nothing/, name);
  }
  writeFileSync(on('spoilt'), readFileSync(on('manifests')).subarray(0, -20));
  await rejectsCode(() => agent('import', on('spoilt')), ManifestFileError, 'MANIFEST_FILE_SYNTAX');
  writeFileSync(on('spoilt'), 'nonsense');
  await rejectsCode(() => agent('import', on('spoilt')), ManifestFileError, 'MANIFEST_FILE_SYNTAX');
});

test('manifests of another server are refused, whatever they say', async (t) => {
  const [one, two] = [await prepared(t), await prepared(t)];
  for (const w of [one, two]) await carriedOver(w);
  await one.agent('import', one.on('answer'));
  await rejectsCode(() => one.agent('import', two.on('manifests')), ManifestError, 'MANIFEST_FOREIGN');
});
