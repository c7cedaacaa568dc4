/** How hosts stood at a moment, as known at another: lives of hosts through the real server, on both engines (docs/posture.md). */
import assert from 'node:assert/strict';
import { sql } from 'kysely';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { formatInstant } from '#src/clock.ts';
import type { FullReport } from '#src/report/report.ts';
import { decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { policySource } from '#server/prepare.ts';
import { openEngine } from '#server/store/open.ts';
import { onPostgres } from '#test/postgres.ts';
import { ALICE, BOB, deciding, NEXT, odd, ODD, OS, shows } from './decisions/people.ts';
import { BASE, enrol, folder, HOUR, serverFor, T0, type TestHost, type TestServer } from './fleet.ts';

function onBoth(title: string, body: (server: TestServer, url: string) => Promise<void>): void {
  const run = async (t: TestContext, url: string): Promise<void> => {
    const policy = await policySource(undefined);
    await body(await serverFor(t, { images: [OS, NEXT], policy, storeUrl: url }), url);
  };
  test(`sqlite: ${title}`, (t) => run(t, `sqlite:${join(folder(t), 'store.db')}`));
  onPostgres(title, run);
}

const moment = (hours: number): string => formatInstant(T0 + Math.round(hours * HOUR));

/** Moves the clock, and lets everything happen that is due by then. */
async function at(server: TestServer, hours: number): Promise<void> {
  server.time.now = T0 + Math.round(hours * HOUR);
  await server.settle();
}

/** Until all that was logged has its place. */
async function placed(server: TestServer): Promise<void> {
  do await server.server.evidence.turn();
  while ((await server.server.store.log.pending()).count > 0);
}

async function posture(server: TestServer, host: TestHost, then: number, known?: number): Promise<any> {
  await placed(server);
  const query = new URLSearchParams({ at: moment(then), ...(known === undefined ? {} : { known: moment(known) }) });
  const { status, body } = await server.api(`/api/v1/hosts/${host.id}/posture?${query.toString()}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

/** `verdict; finding disposition waiver …`, or why not. */
const shortly = ({ verdict, findings }: any): string =>
  [
    verdict.value ?? verdict.unknown.code,
    ...(findings.value ?? [{ subject: findings.unknown.code, disposition: 'unknown', waiver: null }]).map(
      ({ kind, subject, disposition, waiver }: any) =>
        `${subject === 'host' ? kind : subject} ${disposition}${waiver === null ? '' : ` ${waiver}`}`,
    ),
  ].join('; ');

async function joined(server: TestServer, name: string): Promise<TestHost> {
  const host = await enrol(server, OS, { name });
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  await host.sendFull();
  return host;
}

const ALLOWED = `format: bootproof.policy/1\nname: mine\nextends: default\nfiles:\n  - id: odd\n    paths: [${ODD}]\n    effect: allowed\n    reason: It is ours.\n`;

/** A report that waits on the host: made then, sent later. */
async function made(
  server: TestServer,
  hours: number,
  host: TestHost,
  ...more: Parameters<typeof shows>[1][]
): Promise<FullReport> {
  const now = server.time.now;
  server.time.now = T0 + Math.round(hours * HOUR);
  host.entries = [...BASE, ...more].sort((a, b) => (a.path < b.path ? -1 : 1));
  const report = host.fullReport();
  server.time.now = now;
  host.full = { digest: (await host.seal(report)).digest, report };
  return report;
}

onBoth('what was decided and judged later changes what is known now, and not what was known then', async (server) => {
  const host = await joined(server, 'web-1');
  await at(server, 1);
  await shows(host, odd());
  await at(server, 2);
  const deps = deciding(server);
  const waiver = await requestWaiver(
    {
      kind: 'accepted_risk',
      title: 'odd',
      justification: 'because',
      compensating: null,
      ticket: null,
      selector: { subject: { exact: ODD }, content: 'pinned' },
      ceiling: null,
      startsAt: null,
      expiresAt: T0 + 48 * HOUR,
    },
    ALICE,
    deps,
  );
  await at(server, 3);
  const approved = await decideWaiver(waiver.id, waiver.revision, { kind: 'approve', note: null }, BOB, deps);
  await at(server, 5);
  await decideWaiver(waiver.id, approved.waiver.revision, { kind: 'revoke', reason: 'no more' }, BOB, deps);
  await at(server, 6);
  await server.api('/api/v1/policies', { method: 'POST', body: { documents: [{ file: 'mine.yaml', text: ALLOWED }] } });
  await at(server, 6.1);
  await at(server, 7);
  await server.api(`/api/v1/hosts/${host.id}`, { method: 'PATCH', body: { name: 'web-one', group: 'prod' } });
  await at(server, 9);
  await server.api(`/api/v1/hosts/${host.id}/retire`, { method: 'POST' });
  await at(server, 10);

  for (const [then, known, expected] of [
    [0.5, 0.5, 'compliant'],
    [0.5, undefined, 'compliant'],
    // Drift, and then a policy that allows it.
    [1.5, 1.5, `drifted; ${ODD} none`],
    [1.5, 4, `drifted; ${ODD} none`],
    [1.5, undefined, 'compliant'],
    // Under the waiver, which is revoked later, and needless under the policy after that.
    [4, 4, `compliant; ${ODD} waived W-1`],
    [4, 5.5, `compliant; ${ODD} waived W-1`],
    [4, undefined, 'compliant'],
    [5.5, 5.5, `drifted; ${ODD} none`],
    [6.5, 6.5, 'compliant'],
    [9.5, 9.5, 'compliant'],
  ] as const)
    assert.equal(shortly(await posture(server, host, then, known)), expected, `at ${then}, known ${known ?? 'now'}`);

  const asThen = await posture(server, host, 4, 4);
  assert.deepEqual(
    asThen.waivers.map(({ id, from, until, covers }: any) => [id, from, until, covers]),
    [['W-1', moment(3), moment(48), 1]],
  );
  const asNow = await posture(server, host, 4);
  assert.deepEqual(
    asNow.waivers.map(({ id, until, covers }: any) => [id, until, covers]),
    [['W-1', moment(5), 0]],
    'as known now it was revoked at 5',
  );
  assert.deepEqual([asThen.policy.value.version, asNow.policy.value.version, asNow.judgedBy?.version], [1, 1, 2]);
  assert.match(asNow.reasons.join('\n'), /judged again at .*, from the same report/);
  assert.deepEqual((await posture(server, host, 1, 1)).waivers, []);

  // Names and state as they were.
  for (const [then, expected] of [
    [0.5, ['web-1', null, 'active']],
    [8, ['web-one', 'prod', 'active']],
    [9.5, ['web-one', 'prod', 'retired']],
  ] as const) {
    const { value } = (await posture(server, host, then)).host;
    assert.deepEqual([value.name, value.group, value.state], expected);
  }

  // Every statement names the entry that it rests on, and that entry says so.
  for (const [one, kind, index] of [
    [asThen.verdict, 'judgement', 0],
    [asNow.verdict, 'judgement', 0],
    [asThen.report, 'report', 0],
    [asThen.policy, 'act', 0],
    [asThen.waivers[0], 'act', 0],
    [asThen.findings.value[0], 'judgement', 0],
    [asThen.findings.value[0], 'judgement', 1],
  ] as const) {
    const rest = one.entries[index];
    assert.equal(rest.kind, kind);
    const { body } = await server.api(`/api/v1/log/entries/${rest.index}`);
    assert.equal(body.entry.kind, kind);
    assert.equal(body.entry.at, rest.at);
    assert.equal(body.entry.kind === 'act' ? host.id : body.entry.host, host.id);
  }
  const told = await server.api(`/api/v1/log/entries/${asThen.verdict.entries[0].index}`);
  const payload = JSON.parse(Buffer.from(told.body.payload, 'base64').toString());
  assert.equal(payload.after.told, 'compliant');
  assert.equal(asThen.image.value.digest, OS.digest);
  assert.equal(asThen.report.value.seq, 3);

  // Waivers of a period.
  const during = async (query: Record<string, string>): Promise<string[]> => {
    const { status, body } = await server.api(`/api/v1/waivers?${new URLSearchParams(query).toString()}`);
    assert.equal(status, 200, JSON.stringify(body));
    return body.items.map(({ id, state }: any) => `${id} ${state}`);
  };
  assert.deepEqual(await during({ 'active-from': moment(0), 'active-to': moment(3) }), []);
  assert.deepEqual(await during({ 'active-from': moment(0), 'active-to': moment(3.1) }), ['W-1 revoked']);
  assert.deepEqual(await during({ 'active-from': moment(4), known: moment(4) }), ['W-1 active']);
  assert.deepEqual(await during({ 'active-from': moment(5), known: moment(6) }), []);
  assert.deepEqual(
    await during({ 'active-from': moment(5), known: moment(4.5) }),
    ['W-1 active'],
    'nobody knew better',
  );
  assert.deepEqual(await during({ 'active-from': moment(2.5), known: moment(2.5) }), [], 'asked for, and no more');
  for (const [query, text] of [
    [{ 'active-from': moment(4), 'active-to': moment(4) }, /a period begins before it ends/],
    [{ 'active-from': moment(4), state: 'active' }, /state asks for what is so now/],
  ] as const) {
    const { status, body } = await server.api(`/api/v1/waivers?${new URLSearchParams(query).toString()}`);
    assert.deepEqual([status, body.code], [400, 'QUERY_INVALID']);
    assert.match(body.detail, text);
  }

  for (const [query, text] of [
    [`at=${moment(11)}`, /at lies in the future/],
    [`at=${moment(4)}&known=${moment(3)}`, /known is before `at`/],
    [`at=${moment(4)}&known=${moment(11)}`, /known lies in the future/],
    ['at=yesterday', /at:/],
    ['', /at:/],
  ] as const) {
    const { status, body } = await server.api(`/api/v1/hosts/${host.id}/posture?${query}`);
    assert.equal(status, 400, JSON.stringify(body));
    assert.match(body.detail, text);
  }
  assert.equal((await server.api(`/api/v1/hosts/h_${'a'.repeat(26)}/posture?at=${moment(1)}`)).status, 404);
});

test('what was looked at and let go again was never excepted', async (t) => {
  const server = await serverFor(t, { images: [OS], policy: await policySource(undefined) });
  const host = await joined(server, 'web-1');
  await at(server, 1);
  const more = '/usr/bin/more';
  await shows(host, odd(), odd('x', more));
  const [{ id: group }] = (await server.api(`/api/v1/groups?subject=${more}`)).body.items;
  for (const [hours, act] of [
    [2, 'acknowledge'],
    [3, 'unacknowledge'],
  ] as const) {
    await at(server, hours);
    const done = await server.api(`/api/v1/groups/${group}/${act}`, { method: 'POST', body: {} });
    assert.equal(done.body.changed, 1);
  }
  await at(server, 4);
  await server.api('/api/v1/policies', { method: 'POST', body: { documents: [{ file: 'mine.yaml', text: ALLOWED }] } });
  await at(server, 4.1);
  assert.equal(shortly(await posture(server, host, 1.5)), `drifted; ${more} none`);
});

onBoth('a report that waited on its host says what was so, from when it came', async (server) => {
  const host = await joined(server, 'edge-1');
  // Off the network from now on; it looks at itself all the same.
  const spool = [await made(server, 10, host, odd()), await made(server, 11, host)];
  await at(server, 13);
  for (const report of spool) assert.equal((await host.send(report)).status, 200);
  for (const [then, known, expected] of [
    [10.5, 10.5, 'compliant'],
    [10.5, 12, 'compliant'],
    [10.5, undefined, `drifted; ${ODD} none`],
    [11.5, 11.5, 'compliant'],
    [11.5, undefined, 'compliant'],
    [9, undefined, 'compliant'],
  ] as const)
    assert.equal(shortly(await posture(server, host, then, known)), expected, `at ${then}, known ${known ?? 'now'}`);
  const { report, reasons, findings } = await posture(server, host, 10.5);
  assert.deepEqual(
    [report.value.seq, report.value.class, report.value.cameLater, report.value.madeAt, report.value.receivedAt],
    [3, 'late', true, moment(10), moment(13)],
  );
  assert.match(reasons.join('\n'), /report 3 was made before then and came at 2026-11-25 01:00:00 UTC/);
  assert.equal(findings.value[0].since, moment(10));
  // Logged when the server wrote it, not when the host says that it was so.
  assert.ok(findings.value[0].entries.every(({ at: when }: any) => when === moment(13)));
  assert.equal((await posture(server, host, 9)).report.value.cameLater, false);

  // Silent by the clock, until what it had written down arrives.
  await at(server, 24.1);
  while ((await server.server.store.hosts.get(host.id))?.freshness.silenceNoted !== true)
    await new Promise((resolve) => setTimeout(resolve, 5));
  await at(server, 26);
  assert.equal((await posture(server, host, 25.9, 25.9)).verdict.value, 'silent');
  const late = await made(server, 24.5, host, odd('y'));
  await at(server, 60);
  assert.equal((await host.send(late)).status, 200);
  for (const [then, known, expected] of [
    [25.9, 40, 'silent'],
    [25.9, undefined, 'drifted'],
    // A day and more after the newest that is known of it.
    [50, undefined, 'silent'],
  ] as const)
    assert.equal(shortly(await posture(server, host, then, known)).split(';')[0], expected, `at ${then}, ${known}`);
  assert.match((await posture(server, host, 25.9)).reasons.join('\n'), /nothing had been heard/);
});

onBoth('an image leads to the hosts that ran it in a period', async (server) => {
  const hosts: TestHost[] = [];
  for (const name of ['a', 'b', 'c']) hosts.push(await joined(server, name));
  const [first, second, third] = hosts as [TestHost, TestHost, TestHost];
  await at(server, 5);
  await second.sendFull();
  await shows(third, odd());
  await at(server, 10);
  second.booted = NEXT.digest;
  second.entries = [...NEXT.rules.values()][0]!;
  second.manifest = null;
  await second.sendFull();
  await at(server, 20);
  await server.api(`/api/v1/hosts/${third.id}/retire`, { method: 'POST' });
  await first.sendFull();
  assert.equal(shortly(await posture(server, third, 6)), `drifted; ${ODD} none`, 'retired later, with what it showed');
  const ran = async (image: string, query: Record<string, string>): Promise<string[]> => {
    await placed(server);
    const out: string[] = [];
    let cursor: string | null = null;
    do {
      const page: any = await server.api(
        `/api/v1/images/${encodeURIComponent(image)}/hosts?${new URLSearchParams({ ...query, limit: '1', ...(cursor === null ? {} : { cursor }) }).toString()}`,
      );
      assert.equal(page.status, 200, JSON.stringify(page.body));
      out.push(...page.body.items.map(({ name, stays }: any) => `${name} ${stays[0].to ?? 'runs it'}`));
      for (const { stays } of page.body.items) assert.equal(stays[0].entry.kind, 'report');
      cursor = page.body.next;
    } while (cursor !== null);
    return out.sort();
  };
  const heard = moment(5);
  assert.deepEqual(await ran(OS.digest, {}), [`a runs it`, `b ${heard}`, 'c runs it']);
  assert.deepEqual(await ran(OS.digest, { from: moment(6) }), ['a runs it'], 'c was last heard before');
  assert.deepEqual(await ran(OS.digest, { from: moment(4), to: moment(5) }), ['a runs it', `b ${heard}`, 'c runs it']);
  assert.deepEqual(
    await ran(OS.config, { from: moment(4), to: moment(5) }),
    ['a runs it', `b ${heard}`, 'c runs it'],
    'by any name',
  );
  assert.deepEqual(await ran(NEXT.digest, { to: moment(10) }), []);
  assert.deepEqual(await ran(NEXT.digest, { from: moment(15) }), ['b runs it']);
  const unknown = await server.api(`/api/v1/images/sha256:${'0'.repeat(64)}/hosts`);
  assert.deepEqual([unknown.status, unknown.body.code], [404, 'IMAGE_UNKNOWN']);
});

onBoth('what the log does not reach is unknown, and says why', async (server, url) => {
  const host = await joined(server, 'old-1');
  await at(server, 1);
  await shows(host, odd());
  await at(server, 30);
  // The first takes a new challenge, under which the second is live.
  await shows(host, odd());
  await shows(host, odd());
  assert.deepEqual((await posture(server, host, -1)).verdict.unknown.code, 'not-enrolled');
  assert.match((await posture(server, host, -1)).verdict.unknown.text, /enrolled later, at 2026-11-24 12:00:00 UTC/);
  const before = await posture(server, host, 2);
  assert.equal(shortly(before), `drifted; ${ODD} none`);

  const engine = await openEngine(url);
  try {
    // Purged: what a judgement said is gone, and its entry still says which verdict it told.
    const judged = before.verdict.entries[0].index;
    await engine.write(async ({ db }) => {
      await sql`update log_payload set salt = null, body = null, purged_at = ${T0 + 20 * HOUR}
        where id in (select id from log_entry where idx = ${judged})`.execute(db);
      await sql`delete from report where host_id = ${host.id} and seq = 3`.execute(db);
    });
    const purged = await posture(server, host, 2);
    assert.equal(purged.verdict.value, 'drifted');
    assert.deepEqual([purged.image.value, purged.image.unknown.code], [null, 'purged']);
    assert.deepEqual([purged.report.value.seq, purged.report.value.madeAt], [3, null]);
    assert.deepEqual([purged.findings.value[0].severity, purged.findings.value[0].disposition], [null, 'none']);

    // A store that is older than its log.
    await engine.write(async ({ db }) => {
      await sql`update log_head set began_at = ${T0 + 31 * HOUR}`.execute(db);
      await sql`delete from log_entry where at < ${T0 + 31 * HOUR}`.execute(db);
    });
  } finally {
    await engine.close();
  }
  await at(server, 32);
  assert.equal((await posture(server, host, 19)).verdict.unknown.code, 'before-log');
  const quiet = await posture(server, host, 31.5);
  assert.deepEqual([quiet.verdict.value, quiet.verdict.unknown.code], [null, 'before-log']);
  assert.deepEqual(
    [quiet.findings.unknown.code, quiet.report.unknown.code, quiet.image.unknown.code],
    ['before-log', 'before-log', 'before-log'],
  );
  await at(server, 33);
  await shows(host, odd());
  assert.deepEqual(
    (await posture(server, host, 33)).findings.value
      .filter(({ kind }: any) => kind === 'drift')
      .map(({ subject, disposition, entries }: any) => [subject, disposition, entries]),
    [[ODD, null, []]],
    'it stands, and the log does not tell of its opening',
  );
  // The next change says what was before it: that is known from then on.
  await at(server, 40);
  await shows(host);
  assert.equal((await posture(server, host, 31.5)).verdict.value, 'drifted');
  assert.equal((await posture(server, host, 31.5, 39)).verdict.unknown.code, 'before-log');
  assert.equal((await posture(server, host, 40.0)).verdict.value, 'compliant');
});
