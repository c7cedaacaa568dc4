/** Retention and legal holds of a server, from a terminal and on the page: what goes, what stays, who said so, and that every proof holds. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { main as evidence } from '#cli/evidence.ts';
import { hold } from '#cli/hold.ts';
import { main as log } from '#cli/log.ts';
import { retention } from '#cli/retention.ts';
import { ServerError } from '#cli/connection.ts';
import { UsageError } from '#src/terminal.ts';
import { serverKeys } from '#server/keys.ts';
import { KEEP_ALL } from '#server/retention.ts';
import { deep } from '#test/depth.ts';
import { visitor } from '#test/server/web/visitor.ts';
import { ran, type Main } from '#test/ran.ts';
import { BASE, enrol, file, folder, HOUR, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';

const OS = image('41');
const DAY = 24 * HOUR;

const run = (server: TestServer, main: Main, ...args: string[]) =>
  ran(main, args, { env: { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin } });

test('a night purges what is past its time, a hold keeps it, and the log holds before and after', async (t) => {
  const server = await serverFor(t, { images: [OS], retention: { ...KEEP_ALL, reports: 30, judgements: 30 } });
  const night = async (days: number) => {
    server.time.now += days * DAY;
    await server.settle();
    await server.server.evidence.turn();
  };
  const host = await enrol(server, OS);
  const sent: string[] = [];
  for (const [n, entries] of [BASE, [...BASE, file('/usr/bin/evil', 'evil')], BASE, BASE, BASE].entries()) {
    host.entries = entries;
    if (n > 0) host.compareWith(OS);
    sent.push((await host.sendFull()).text);
    server.time.now += DAY;
  }
  await server.server.evidence.turn();
  await night(0);
  const nothing = await run(server, retention, 'show');
  assert.match(nothing.out, /^reports +30 days; 5 held, .* KiB, oldest of 2026-11-24$/m);
  assert.match(nothing.out, /^settings +these since 2026-11-24 12:00:00Z; nothing goes under them for a day$/m);
  assert.match(nothing.out, /^legal holds +none stands$/m);
  assert.equal(nothing.err, 'nothing was ever purged\n');

  const asked = ['set', '--host', 'host-1', '--to', '2026-11-26', '--reason', 'case 7'];
  assert.match((await run(server, hold, ...asked)).out, /^H-1 stands on h_\w+: nothing that it is on is purged\n$/);
  await night(40);
  const first = await server.api(`/api/v1/retention/purges`);
  const [reports] = first.body.items.filter(({ of }: { of: string }) => of === 'report');
  // Of five reports the last is the newest; the first two lie under the hold, and one brought the verdict.
  assert.deepEqual([reports.payloads, reports.rule], [1, 'older than 30 days']);
  const gone = await server.api(`/api/v1/hosts/${host.id}/reports/4`);
  assert.deepEqual([gone.status, gone.body.code], [404, 'REPORT_UNKNOWN']);
  assert.match(gone.body.detail, /purged; its entry in the log stays/);
  // The same report again, as a spool may send it: not a fork, and no new one.
  const again = await host.post(sent[3]!);
  assert.equal(again.status, 200);
  assert.equal((await server.api(`/api/v1/hosts/${host.id}/reports/1`)).status, 200);
  const verified = await run(server, log, 'verify');
  assert.deepEqual([verified.exit, /payloads held, [1-9][0-9]* purged/.test(verified.out)], [0, true], verified.out);

  assert.match((await run(server, hold, 'release', 'H-1', '--reason', 'settled')).out, /^H-1 is released/);
  await night(1);
  assert.equal((await server.api(`/api/v1/hosts/${host.id}/reports/1`)).status, 404);
  assert.equal((await run(server, log, 'verify')).exit, 0);
  const told = await run(server, retention, 'show');
  assert.match(told.out, /^20\S+ \S+ +\d+ +\d+ reports? +20\S+ \S+ +older than 30 days$/m);
  const list = await run(server, hold, 'list');
  assert.match(list.out, /^H-1 +released 20\S+ \S+ by admin +h_\w+ +- +2026-11-26 .* admin +case 7$/m);
  const { items } = (await server.api(`/api/v1/audit?object=${encodeURIComponent('hold:H-1')}`)).body;
  assert.deepEqual(
    items.map(({ action, note }: { action: string; note: string }) => [action, note]),
    [
      ['hold.release', 'settled'],
      ['hold.set', 'case 7'],
    ],
  );
  if (deep(true, false)) {
    const until = new Date(server.time.now).toISOString().slice(0, 11);
    const body = { from: '2026-11-24T00:00:00.000Z', to: `${until}00:00:00.000Z`, frameworks: ['nist-800-53'] };
    const made = await server.api('/api/v1/evidence/exports', { method: 'POST', body });
    assert.equal(made.status, 202, JSON.stringify(made.body));
    const path = `/api/v1/evidence/exports/${made.body.id}`;
    while (!['done', 'failed'].includes((await server.api(path)).body.state)) await sleep(50);
    const authorization = `Bearer ${server.admin}`;
    const bundle = await server.server.app.request(`${path}/file`, { headers: { authorization } });
    const at = join(folder(t), 'bundle.zip');
    writeFileSync(at, Buffer.from(await bundle.arrayBuffer()));
    const { fingerprint } = await serverKeys(server.server.store, randomBytes);
    const checked = await ran(evidence, ['verify', at, '--key', fingerprint]);
    assert.equal(checked.exit, 0, checked.out + checked.err);
    assert.match(checked.out, /[1-9] reports that were purged under retention/);
  }
  const posture = await server.api(`/api/v1/hosts/${host.id}/posture?at=2026-11-24T13:00:00Z`);
  assert.equal(posture.body.image.unknown.code, 'purged');

  const reader = await visitor(server);
  assert.match((await reader.page('/settings')).text, /Retention and legal holds ?purged from 30 days on/);
  const page = await reader.page('/settings/retention');
  assert.match(page.text, /1 envelopes? of reports? from before|\d+ envelopes of reports from before/);
  assert.match(page.text, /released by admin/);
  assert.equal((await reader.visit(`/hosts/${host.id}/reports/1`)).status, 410);
});

test('holds on nothing, on what is not there, or on no time are refused, by the command and on the page', async (t) => {
  const server = await serverFor(t);
  const nobody = `h_${'a'.repeat(26)}`;
  for (const [args, code] of [
    [['set', '--reason', 'x'], 'USAGE'],
    [['set', '--all', '--host', nobody, '--reason', 'x'], 'USAGE'],
    [['set', '--all', '--from', 'soon', '--reason', 'x'], 'USAGE'],
    [['set', '--all'], 'USAGE'],
    [['set', '--host', 'web-1', '--reason', 'x'], 'HOST_UNKNOWN'],
    [['set', '--host', nobody, '--reason', 'x'], 'HOLD_INVALID'],
    [['set', '--all', '--from', '2026-02-01', '--to', '2026-01-01', '--reason', 'x'], 'HOLD_INVALID'],
    [['release', 'H-1', '--reason', 'x'], 'HOLD_UNKNOWN'],
  ] as const)
    await rejectsCode(() => run(server, hold, ...args), code === 'USAGE' ? UsageError : ServerError, code);
  await run(server, hold, 'set', '--all', '--reason', 'audit');
  await run(server, hold, 'release', 'H-1', '--reason', 'done');
  await rejectsCode(() => run(server, hold, 'release', 'H-1', '--reason', 'x'), ServerError, 'HOLD_OVER');

  const reader = await visitor(server);
  const form = { on: 'part', groups: 'prod lab', hosts: '', from: '2026-01-01', to: '2026-06-30', reason: 'case <8>' };
  for (const [fields, says] of [
    [{ ...form, reason: ' ' }, /One field needs you: Reason/],
    [{ ...form, groups: '' }, /name hosts or host groups/],
    [{ ...form, hosts: 'web-1' }, /web-1 is no id of a host/],
    [{ ...form, to: '2025-06-30' }, /ends before it begins/],
  ] as const) {
    const wrong = await reader.send('/settings/retention/hold', fields);
    assert.equal(wrong.status, 422);
    assert.match(wrong.text, says);
    assert.match(wrong.html, /value="2026-01-01"/, 'what was typed stands');
  }
  assert.equal((await reader.send('/settings/retention/hold', form)).location, '/settings/retention?did=set');
  const set = (await reader.page('/settings/retention?did=set')).text;
  assert.match(set, /The hold stands\..*1 legal hold stands.*H-2 stands on lab, prod, from .* before .*case <8>/);
  assert.equal((await reader.send('/settings/retention/release', { id: 'H-2', reason: '' })).status, 422);
  const released = await reader.send('/settings/retention/release', { id: 'H-2', reason: 'done' });
  assert.equal(released.location, '/settings/retention?did=released');
  assert.equal((await reader.send('/settings/retention/release', { id: 'H-2', reason: 'again' })).status, 422);
});
