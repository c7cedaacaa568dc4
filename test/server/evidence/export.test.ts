/** Evidence exports of a real server (docs/evidence.md 7): one fleet and one bundle for all cases; each way of bending it is named. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openZip } from '#src/evidence/zip.ts';
import { writeZip } from '#src/evidence/zipwriter.ts';
import { EXIT, type Io } from '#src/terminal.ts';
import { main as evidence } from '#cli/evidence.ts';
import { principalOf } from '#server/access/principal.ts';
import { removeFiles } from '#server/evidence/attempts.ts';
import { makeBundle } from '#server/evidence/bundle.ts';
import type { ExportFile } from '#server/evidence/exports.ts';
import { makeInWorker, type Make } from '#server/evidence/inworker.ts';
import { hostsThen } from '#server/evidence/naming.ts';
import { selectionOf } from '#server/evidence/selection.ts';
import { serverKeys } from '#server/keys.ts';
import { policySource } from '#server/prepare.ts';
import { deep, isFull } from '#test/depth.ts';
import { NEXT, OS } from '../decisions/people.ts';
import { serverFor, T0, type TestHost, type TestServer } from '../fleet.ts';
import { visitor } from '../web/visitor.ts';
import { countedStore } from './counted.ts';
import { fileSource, FROM, live, makeHere, over, TO } from './life.ts';

const iso = (at: number): string => new Date(at).toISOString();

type World = {
  readonly server: TestServer;
  readonly hosts: Readonly<Record<string, TestHost>>;
  readonly folder: string;
  /** The bundle of every host. */
  readonly file: string;
  readonly key: string;
};
let world: World;
const ends: (() => unknown)[] = [];
const context = { after: (end: () => unknown) => void ends.unshift(end) } as Parameters<typeof serverFor>[0];
let make: Make = makeInWorker;

type Said = { out: string; err: string };
async function command(args: readonly string[], { server, admin }: TestServer): Promise<{ exit: number } & Said> {
  const said: Said = { out: '', err: '' };
  const into = (stream: keyof Said) => ({
    isTTY: false,
    write: async (text: string | Uint8Array) => void (said[stream] += String(text)),
  });
  const io = {
    stdout: into('out'),
    stderr: into('err'),
    env: { BOOTPROOF_SERVER: server.url, BOOTPROOF_TOKEN: admin },
  } as unknown as Io;
  const exit = await evidence(args, io);
  return { exit, ...said };
}

before(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-evidence-'));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  const server = await serverFor(context, {
    images: [OS, NEXT],
    policy: await policySource(undefined),
    storeUrl: `sqlite:${join(folder, 'store.db')}`,
    exports: { make: (...args) => make(...args) },
  });
  const hosts = await live(server);
  const file = join(folder, 'all.zip');
  const { exit, err } = await command(
    ['export', '--from', iso(FROM), '--to', iso(TO), '--framework', 'nist-800-53', '-o', file],
    server,
  );
  assert.equal(exit, EXIT.ok, err);
  make = makeHere;
  const { fingerprint } = await serverKeys(server.server.store, () => new Uint8Array(32));
  world = { server, hosts, folder, file, key: fingerprint };
});
after(async () => {
  for (const end of ends) await end();
});

type Verified = { ok: boolean; steps: { check: string; ok: boolean; detail: string }[]; notChecked: string[] };
async function verify(file: string, ...more: readonly string[]): Promise<Verified & { exit: number }> {
  const { exit, out } = await command(['verify', file, '--key', world.key, '--json', ...more], world.server);
  return { exit, ...(JSON.parse(out) as Verified) };
}
const failed = ({ steps }: Verified) => steps.filter(({ ok }) => !ok).map(({ check, detail }) => `${check}: ${detail}`);

async function saved({ read, bytes }: ExportFile): Promise<string> {
  const path = join(world.folder, 'saved.zip');
  await writeFile(path, read(0, bytes - 1));
  return path;
}

async function membersOf(file: string): Promise<Map<string, Buffer>> {
  const source = fileSource(file);
  const zip = await openZip(source);
  const members = new Map<string, Buffer>();
  for (const { name } of zip.members) {
    const pieces: Uint8Array[] = [];
    for await (const piece of zip.open(name)) pieces.push(piece);
    members.set(name, Buffer.concat(pieces));
  }
  source.close();
  return members;
}
const lines = (members: Map<string, Buffer>, list: string): any[] =>
  members
    .get(`${list}-00001.ndjson`)!
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);

test('a bundle that the command fetched verifies with every step, and covers what was asked for', async () => {
  const found = await verify(world.file, '--from', iso(FROM), '--to', iso(TO));
  assert.deepEqual([failed(found), found.ok, found.exit], [[], true, EXIT.ok]);
  const done = new Set(found.steps.map(({ check }) => check));
  for (const check of ['key', 'members', 'log', 'records', 'population', 'completeness', 'findings', 'controls'])
    assert.ok(done.has(check), check);
});

test('facts tell of who was silent, retired, never heard, found and waived', async () => {
  const members = await membersOf(world.file);
  const hosts = new Map(lines(members, 'facts/hosts').map((host) => [host.name, host]));
  assert.deepEqual(new Set(hosts.keys()), new Set(['db-1', 'old-1', 'quiet-1', 'web-1', 'web-2']));
  assert.deepEqual(
    hosts.get('quiet-1').gaps.map(({ from, to }: any) => [from, to]),
    [[hosts.get('quiet-1').enrolledAt, iso(TO)]],
  );
  assert.equal(hosts.get('quiet-1').group, 'prod/db');
  assert.equal(hosts.get('quiet-1').standing.verdict, 'new');
  assert.equal(hosts.get('quiet-1').checkIns.received, 0);
  assert.equal(hosts.get('db-1').gaps.length, 1);
  assert.ok(hosts.get('db-1').checkIns.longestSeconds >= 36 * 3600);
  assert.equal(hosts.get('old-1').retiredAt, iso(T0 + 42 * 3_600_000));
  // Every number that came: two full ones, and one each six hours.
  assert.equal(hosts.get('web-1').checkIns.received, 15);
  assert.deepEqual(
    hosts.get('web-1').deployments.map(({ image, rule, enforced }: any) => [image, rule, enforced]),
    [[OS.digest, 'ostree/1', true]],
  );
  const findings = lines(members, 'facts/findings').filter(({ subject }) => subject === '/usr/bin/odd');
  assert.deepEqual(
    findings.map(({ host, open, disposition, waiver, history }) => [
      host,
      open,
      disposition,
      waiver,
      history.map(({ transition }: any) => transition),
    ]),
    [
      [world.hosts['web1']!.id, false, 'none', null, ['new', 'resolved']],
      [world.hosts['web2']!.id, true, 'waived', 'W-1', ['new', 'waived']],
    ].sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
  );
  const [waiver] = lines(members, 'facts/decisions');
  assert.deepEqual(
    [waiver.id, waiver.state, waiver.requestedBy, waiver.decidedBy, waiver.history.length],
    ['W-1', 'active', 'alice', 'bob', 2],
  );
});

test('hosts are chosen by what they were called when the period ended, and shown to whoever may see them now', async () => {
  const { server, hosts } = world;
  const { store } = server.server;
  const id = hosts['quiet1']!.id;
  const named = await hostsThen([(await store.hosts.get(id))!], TO, store);
  const chosen = (filter: string | null, scope: readonly string[] | null) => {
    const selection = selectionOf(filter, scope);
    return named.filter(({ host, naming }) => selection.has(host, naming)).length;
  };
  assert.deepEqual(
    [chosen('host:quiet-1', null), chosen('host:loud-1', null), chosen('group:prod/db/loud', null)],
    [1, 0, 0],
  );
  assert.deepEqual([chosen(null, ['prod/db/loud']), chosen(null, ['prod/web'])], [1, 0]);
  // Changed before the period's end: as it is.
  assert.equal((await hostsThen([(await store.hosts.get(id))!], server.time.now + 1, store))[0]!.naming.name, 'loud-1');
});

test('each member, changed by a byte or left out, is named', async () => {
  const members = await membersOf(world.file);
  const names = [...members.keys()].filter((name) => name !== 'statement.dsse.json');
  const bent = join(world.folder, 'bent.zip');
  const write = async (change: (all: Map<string, Buffer>) => void): Promise<void> => {
    const all = new Map(members);
    change(all);
    const pieces: Uint8Array[] = [];
    for await (const piece of writeZip([...all].map(([name, content]) => ({ name, content })))) pieces.push(piece);
    writeFileSync(bent, Buffer.concat(pieces));
  };
  // One of each folder where not all are taken.
  const folders = new Map(names.map((name) => [name.split('/')[0], name]));
  for (const name of deep(names, [...folders.values()])) {
    await write((all) => {
      const content = Buffer.from(all.get(name)!);
      if (content.length > 0) content[content.length >> 1]! ^= 1;
      all.set(name, content.length === 0 ? Buffer.of(0) : content);
    });
    assert.ok(failed(await verify(bent)).includes(`members: ${name} was changed`), name);
  }
  await write((all) => all.delete(names[5]!));
  assert.deepEqual(failed(await verify(bent)), [`members: ${names[5]} is missing`]);
  await write((all) => all.set('report/more.html', Buffer.of(1)));
  assert.deepEqual(failed(await verify(bent)), [
    'members: report/more.html is unknown: the statement does not name it',
  ]);
});

test('a server that leaves a host out, and signs that, is found out', async () => {
  const { server, folder, hosts } = world;
  const { store } = server.server;
  const [one] = (await store.evidence.exports.list(null, { cursor: null, limit: 1 })).items;
  const left = hosts['web1']!.id;
  const lying = Object.create(store) as typeof store;
  Object.defineProperty(lying, 'evidence', {
    value: {
      ...store.evidence,
      hosts: async (from: string, limit: number) => {
        const found = await store.evidence.hosts(from, limit);
        return found.map((host) => (host.id === left ? { ...host, createdAt: Number.MAX_SAFE_INTEGER } : host));
      },
    },
  });
  const { signer } = await serverKeys(store, () => new Uint8Array(32));
  const published = server.server.evidence;
  await makeBundle(
    {
      wanted: { ...one!, cut: one!.cut!, attempts: 99 },
      logKey: published.vkey(one!.cut!.origin),
      server: { version: '0', name: 'x' },
      folder,
      bytesMax: 2 ** 30,
    },
    { store: lying, signer, tell: () => {} },
  );
  const faults = failed(await verify(join(folder, `${one!.id}.99.zip`))).join('\n');
  assert.match(faults, new RegExp(`population: ${left} has entries in the period .*it was dropped`));
});

test('a part of the fleet shows nothing of others, proves its records one by one, and is an operator’s own part alone', async () => {
  const { server, hosts, folder } = world;
  const { exports } = server.server;
  const web = principalOf({ id: 'olga', name: 'olga' }, [{ role: 'operator', groups: ['prod/web'] }]);
  const other = principalOf({ id: 'otto', name: 'otto' }, [{ role: 'operator', groups: ['prod/db'] }]);
  const asked = { from: FROM, to: TO, hosts: null, frameworks: [], sampling: null, parameters: {} };
  const made = await exports.create(asked, web);
  assert.equal((await over(server, made.id)).state, 'done');
  const path = await saved(await exports.file(made.id, web));
  const found = await verify(path);
  assert.deepEqual([failed(found), found.ok], [[], true]);
  const members = await membersOf(path);
  const text = [...members.values()].map((bytes) => bytes.toString('latin1')).join('\n');
  // Entries and salts stand there in base64, too.
  const all =
    text +
    [...text.matchAll(/"entry":"([A-Za-z0-9+/=]+)"/g)]
      .map(([, entry]) => Buffer.from(entry!, 'base64').toString())
      .join('\n');
  for (const name of ['db1', 'old1', 'quiet1']) {
    const host = hosts[name]!;
    for (const word of [host.id, host.signer.publicKey, name.replace('1', '-1')]) assert.ok(!all.includes(word), word);
  }
  assert.ok(all.includes(hosts['web1']!.id));
  await assert.rejects(exports.get(made.id, other), { code: 'EVIDENCE_UNKNOWN' });
  assert.equal((await exports.list(other, { cursor: null, limit: 9 })).items.length, 0);
  void folder;
});

test('an export whose server dies in the middle is taken up by whoever comes next, who says so', async () => {
  const { server, folder } = world;
  const { exports, store } = server.server;
  const admin = principalOf({ id: 'admin', name: 'admin' }, [{ role: 'admin', groups: null }]);
  let begun = (): void => {};
  const running = new Promise<void>((resolve) => {
    begun = resolve;
  });
  // It writes half a file, and is never heard of again.
  make = ({ order }, _tell, signal) => {
    writeFileSync(join(order.folder, `${order.wanted.id}.1.part`), 'half');
    begun();
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Error('stopped')));
    });
  };
  const asked = { from: FROM, to: TO, hosts: 'host:web-1', frameworks: [], sampling: null, parameters: {} };
  const { id } = await exports.create(asked, admin);
  await running;
  const cut = (await store.evidence.exports.get(id))!.cut;
  make = makeHere;
  server.time.now += 60_000;
  const other = await serverFor(context, {
    images: [OS],
    policy: await policySource(undefined),
    storeUrl: `sqlite:${join(folder, 'store.db')}`,
    clock: () => server.time.now,
    exports: { make: makeHere },
  });
  const done = await over(server, id);
  assert.deepEqual([done.state, done.attempts, done.cut], ['done', 2, cut]);
  assert.ok(other.events.some(({ event }) => event === 'evidence export begun again'));
  const path = await saved(await exports.file(id, admin));
  assert.deepEqual(failed(await verify(path)), []);
  for (
    let tries = 0;
    tries < 50 && readdirSync(join(folder, 'evidence')).some((name) => name.endsWith('.part'));
    tries++
  )
    await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(
    readdirSync(join(folder, 'evidence')).filter((name) => name.startsWith(id)),
    [`${id}.2.zip`],
  );
});

/** Ends at the n-th read of the store, or where a stage begins. */
type Break = { readonly read?: number; readonly stage?: string };

test('an export that breaks off anywhere goes on from there, and comes to the same bytes', async () => {
  const { server, folder } = world;
  const { store, evidence: log } = server.server;
  const own = join(folder, 'broken');
  mkdirSync(own);
  const [one] = (await store.evidence.exports.list(null, { cursor: null, limit: 50 })).items.filter(
    ({ filter, scope, state }) => filter === null && scope === null && state === 'done',
  );
  const { signer } = await serverKeys(store, () => new Uint8Array(32));
  const order = {
    wanted: { ...one!, cut: one!.cut! },
    logKey: log.vkey(one!.cut!.origin),
    server: { version: '0', name: 'x' },
    folder: own,
    bytesMax: 2 ** 30,
  };
  let attempts = 0;
  const attempt = async (at: Break = {}) => {
    let reads = 0;
    const counting = countedStore(store, () => {
      if (++reads === at.read) throw new Error('broken off');
    });
    attempts++;
    const deps = {
      store: counting,
      signer,
      tell: (progress: readonly { readonly stage: string }[]) => {
        if (progress.at(-1)?.stage === at.stage) throw new Error('broken off');
      },
    };
    const made = await makeBundle({ ...order, wanted: { ...order.wanted, attempts } }, deps).catch((error: unknown) => {
      assert.match(String(error), /broken off/);
      return undefined;
    });
    return { made, reads };
  };
  const whole = await attempt();
  assert.equal(whole.made!.takenOver, null);
  const good = readFileSync(join(own, `${one!.id}.1.zip`));
  // Nobody had heard of it yet: it is taken over whole.
  assert.match(JSON.stringify((await attempt()).made!.takenOver), /"whole":true,"members":[1-9][0-9]/);
  assert.deepEqual(readFileSync(join(own, `${one!.id}.2.zip`)), good);
  await removeFiles(own, one!.id);
  const again = async (what: string, members: RegExp) => {
    const { made } = await attempt();
    assert.equal(made!.sha256, whole.made!.sha256, what);
    assert.deepEqual(readFileSync(join(own, `${one!.id}.${attempts}.zip`)), good);
    assert.match(JSON.stringify(made!.takenOver), members, what);
    await removeFiles(own, one!.id);
  };
  const every = Array.from({ length: whole.reads }, (_, i) => i + 1);
  for (const read of deep(every, [3]))
    if ((await attempt({ read })).made === undefined) await again(`read ${read}`, /./);
  await attempt({ stage: 'entries' });
  await again('all is read', /"hosts":5,"whole":true,"members":8\}/);
  // Again and again, always a little further.
  for (let read = 1; (await attempt({ read })).made === undefined; read += deep(3, 80));
  assert.deepEqual(readFileSync(join(own, `${one!.id}.${attempts}.zip`)), good);
  await removeFiles(own, one!.id);
  // Killed by the operating system.
  if (isFull) {
    for (let read = 20; ; read += 20) {
      attempts++;
      const wanted = { ...order.wanted, attempts };
      const file = join(own, 'order.json');
      writeFileSync(file, JSON.stringify({ ...order, wanted }));
      const url = `sqlite:${join(folder, 'store.db')}`;
      const child = spawn(process.execPath, [join(import.meta.dirname, 'maker.ts'), url, file, String(read)], {
        stdio: ['ignore', 'inherit', 'inherit'],
      });
      const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
      if (status === 0) break;
      assert.equal(signal, 'SIGKILL');
    }
    assert.deepEqual(readFileSync(join(own, `${one!.id}.${attempts}.zip`)), good);
    await removeFiles(own, one!.id);
  }
  // Power was lost: the end of the file, or some of it, is not what was noted.
  const last = () => join(own, `${one!.id}.${attempts}.part`);
  await attempt({ stage: 'results' });
  truncateSync(last(), 5000);
  await again('cut off', /"members":[0-9]\}/);
  await attempt({ stage: 'results' });
  const bytes = readFileSync(last());
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(last(), bytes);
  await again('changed', /"members":[0-9]+\}/);
  await attempt({ stage: 'results' });
  writeFileSync(join(own, `${one!.id}.${attempts}.work`, 'hosts.ndjson'), '');
  await again('what was read is gone', /null/);
  // Another build may read and write otherwise.
  await attempt({ stage: 'results' });
  order.server.version = '1';
  assert.equal((await attempt()).made!.takenOver, null);
});

test('a download goes on where it broke off, and another file under its name is refused', async () => {
  const { server, folder } = world;
  const { items } = (await server.api('/api/v1/evidence/exports')).body;
  const one = items.find(({ hosts, frameworks }: any) => hosts === null && frameworks.length === 1);
  const whole = readFileSync(world.file);
  const again = join(folder, 'again.zip');
  writeFileSync(`${again}.part`, whole.subarray(0, 1000));
  const { exit } = await command(['export', '--id', one.id, '-o', again], server);
  assert.equal(exit, EXIT.ok);
  assert.deepEqual(readFileSync(again), whole);
  const bad = join(folder, 'bad.zip');
  writeFileSync(`${bad}.part`, Buffer.alloc(1000));
  await assert.rejects(command(['export', '--id', one.id, '-o', bad], server), { code: 'EXPORT_DIGEST' });
  await assert.rejects(command(['export', '--id', one.id, '-o', again], server), /it is there already/);
  const ask = (range: string) =>
    server.server.app.request(`/api/v1/evidence/exports/${one.id}/file`, {
      headers: { authorization: `Bearer ${server.admin}`, range },
    });
  const part = await ask('bytes=10-19');
  assert.deepEqual(
    [part.status, part.headers.get('content-range'), Buffer.from(await part.arrayBuffer())],
    [206, `bytes 10-19/${whole.length}`, whole.subarray(10, 20)],
  );
  assert.deepEqual(Buffer.from(await (await ask('bytes=-5')).arrayBuffer()), whole.subarray(-5));
  assert.equal((await ask(`bytes=${whole.length}-`)).status, 416);
});

test('what cannot be exported is refused with what to do', async () => {
  const { server } = world;
  const ask = async (body: object) => {
    const { status, body: answer } = await server.api('/api/v1/evidence/exports', { method: 'POST', body });
    return [status, answer.code];
  };
  const good = { from: iso(FROM), to: iso(TO) };
  assert.deepEqual(await ask({ ...good, to: iso(TO + 1e9) }), [422, 'EVIDENCE_PERIOD']);
  assert.deepEqual(await ask({ from: iso(TO), to: iso(FROM) }), [422, 'EVIDENCE_PERIOD']);
  assert.deepEqual(await ask({ ...good, hosts: 'sev:high' }), [422, 'EVIDENCE_HOSTS']);
  assert.deepEqual(await ask({ ...good, frameworks: ['nope'] }), [422, 'EVIDENCE_FRAMEWORK']);
  assert.deepEqual(await ask({ to: iso(TO) }), [400, 'BODY_INVALID']);
  assert.equal((await server.api('/api/v1/evidence/exports/ev_x')).status, 404);
});

test('what was purged under retention is told as that, and all else verifies', async () => {
  const { server } = world;
  const { exports, store } = server.server;
  const admin = principalOf({ id: 'admin', name: 'admin' }, [{ role: 'admin', groups: null }]);
  while ((await store.retention.count(500)) > 0);
  const by = { actor: 'job:retention', at: server.time.now };
  const step = { rule: { kind: 'age', days: 1 }, before: TO - 24 * 3_600_000, after: null, bytes: null } as const;
  let purged = 0;
  for (const kind of ['report', 'judgement', 'act'] as const)
    purged += (await store.retention.purge({ of: kind, ...step }, by)).payloads;
  assert.ok(purged > 3, String(purged));
  const asked = { from: FROM, to: TO, hosts: null, frameworks: ['nist-800-53'], sampling: null, parameters: {} };
  const { id } = await exports.create(asked, admin);
  assert.equal((await over(server, id)).state, 'done');
  const found = await verify(await saved(await exports.file(id, admin)));
  assert.deepEqual([failed(found), found.ok], [[], true]);
  assert.match(found.notChecked.join('\n'), /reports that were purged under retention/);
});

test('the page lists bundles, gives them away, and takes a period without a script', async () => {
  const { server } = world;
  const { page, send, visit } = await visitor(server);
  const shown = await page('/evidence');
  const [one] = (await server.api('/api/v1/evidence/exports?limit=1')).body.items;
  assert.match(shown.html, new RegExp(`href="/evidence/${one.id}/file"`));
  assert.match(shown.text, new RegExp(`bootproof evidence verify FILE --key ${world.key}`));
  const file = await visit(`/evidence/${one.id}/file`);
  assert.equal((await file.arrayBuffer()).byteLength, one.file.bytes);
  assert.match(file.headers.get('content-disposition')!, /evidence-2026-11-24-2026-11-28\.zip/);
  server.time.now += 1000;
  const bad = await send('/evidence', { from: '2026-11-24', to: '2026-11-23', hosts: '' });
  assert.deepEqual([bad.status, /last day comes before the first/.test(bad.text)], [422, true]);
  const odd = await send('/evidence', { from: '2026-11-24', to: '2026-11-25', hosts: 'sev:high' });
  assert.match(odd.text, /is not about hosts/);
  const sent = await send('/evidence', { from: '2026-11-24', to: '2026-11-25', hosts: 'host:web-1' });
  assert.deepEqual([sent.status, sent.location], [303, '/evidence?did=asked']);
  const [made] = (await server.api('/api/v1/evidence/exports?limit=1')).body.items;
  assert.deepEqual([made.hosts, made.to], ['host:web-1', '2026-11-26T00:00:00.000Z']);
  assert.equal((await over(server, made.id)).state, 'done');
});

test('deleted, an export and its file are gone, and the trail says by whom', async () => {
  const { server, folder } = world;
  const { items } = (await server.api('/api/v1/evidence/exports')).body;
  for (const { id } of items)
    assert.equal((await server.api(`/api/v1/evidence/exports/${id}`, { method: 'DELETE' })).status, 200);
  assert.deepEqual(readdirSync(join(folder, 'evidence')), []);
  const { body } = await server.api(`/api/v1/audit?object=${encodeURIComponent(`evidence:${items[0].id}`)}`);
  // At one moment of the test's clock: their order is by chance.
  const told = body.items.map(({ action, actor }: any) => `${action} by ${actor}`);
  assert.deepEqual(told.toSorted(), ['evidence.delete by admin', 'evidence.export by admin']);
});
