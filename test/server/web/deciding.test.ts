/** What people decide on pages, by forms alone: acts on many with their preview, waivers from the request to the end, and every refusal with what was typed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { serverFor } from '#test/server/fleet.ts';
import { ALICE, BOB, DAY, deciding, fleet, groupAt, hostAs, NEXT, ODD, odd, OS, shows } from '../decisions/people.ts';
import { visitor } from './visitor.ts';

const dayAt = (instant: number): string => new Date(instant).toISOString().slice(0, 10);

test('selected changes are acknowledged in two steps, told, and taken back', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  await fleet(server);
  const { id } = await groupAt(server);
  const { page, send } = await visitor(server);
  const step = await send('/findings/bulk', { action: 'acknowledge', g: id, tab: 'open', q: '' });
  assert.equal(step.status, 200);
  assert.match(step.text, /Acknowledge 2 findings on 2 hosts/);
  assert.equal((await groupAt(server)).hosts.acknowledged, 0, 'a preview does nothing');
  const token = /action="\/findings\/bulk\/(b_[0-9a-f]{40})\/apply"/.exec(step.html)![1]!;
  const until = dayAt(server.time.now + 3 * DAY);
  // Another day than the preview had: it covers the same findings all the same.
  const done = await send(`/findings/bulk/${token}/apply`, {
    action: 'acknowledge',
    until,
    note: 'I look',
    selected: '1',
  });
  assert.equal(done.status, 303);
  assert.match(done.location!, /^\/findings\?done=b_/);
  assert.equal((await groupAt(server)).hosts.acknowledged, 2);
  const told = await page(done.location!);
  assert.match(told.text, /You acknowledged 2 findings until/);
  assert.match((await page(`/findings/${id}`)).text, /I look/);
  const act = /done=(b_[0-9a-f]+)/.exec(done.location!)![1]!;
  const undone = await send(`/findings/bulk/${act}/undo`, {});
  assert.equal(undone.status, 303);
  assert.equal((await groupAt(server)).hosts.open, 2);
  assert.match((await page(undone.location!)).text, /You took back what was done to 2 findings/);
});

test('what cannot be done says why, and keeps what was typed', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  await fleet(server);
  const { id } = await groupAt(server);
  const { send, visit } = await visitor(server);
  const nothing = await send('/findings/bulk', { action: 'acknowledge', tab: 'open', q: '' });
  assert.equal(nothing.status, 422);
  assert.match(nothing.text, /Nothing was selected/);
  const far = dayAt(server.time.now + 60 * DAY);
  const late = await send(`/findings/${id}/acknowledge`, { until: far, note: 'typed <b>before</b>' });
  assert.equal(late.status, 422);
  assert.match(late.text, /30 days at most/);
  assert.ok(late.html.includes(`value="${far}"`) && late.text.includes('typed <b>before</b>'), 'the input stands');
  for (const [fields, said] of [
    [{ expires: dayAt(server.time.now + 5 * DAY), reason: 'ok' }, /Write one full sentence/],
    [
      { expires: dayAt(server.time.now + 400 * DAY), reason: 'It stays like this for ever and ever.' },
      /may be waived for 90 days/,
    ],
    [{ expires: 'soon', reason: 'It stays like this until then.' }, /Expected a day/],
  ] as const) {
    const refused = await send(`/findings/${id}/waiver`, { kind: 'mitigated', ...fields });
    assert.equal(refused.status, 422);
    assert.match(refused.text, said);
    assert.ok(refused.text.includes(fields.reason), 'the reason stands');
  }
  assert.equal((await server.api('/api/v1/waivers')).body.items.length, 0);
  // The API's own limits: one more than what it takes is said beside the field, with the rest of the form as it was.
  const long = 'x'.repeat(4097);
  for (const [path, fields, field, said] of [
    [`/findings/${id}/comment`, { text: long }, 'text', /At most 4,096 characters: these are 4,097/],
    [`/findings/${id}/assign`, { assignee: 'a'.repeat(201), revision: '0' }, 'assignee', /At most 200 characters/],
    [`/findings/${id}/acknowledge`, { until: dayAt(server.time.now + DAY), note: long }, 'note', /4,096/],
    ['/findings/bulk', { action: 'acknowledge', g: id, note: long }, 'note', /4,096/],
    ['/findings/bulk', { action: 'assign', g: id, assignee: 'a'.repeat(201) }, 'assignee', /At most 200 characters/],
  ] as const) {
    const refused = await send(path, fields);
    assert.equal(refused.status, 422, path);
    assert.match(refused.text, said, path);
    assert.ok(refused.html.includes((fields as Record<string, string>)[field]!), `${path}: the input stands`);
  }
  assert.match((await send(`/findings/${id}/comment`, { text: 'bell \u0007' })).text, /nobody can see/);
  assert.equal((await send('/theme', { theme: 'zzz' })).status, 422);
  assert.deepEqual([(await groupAt(server)).hosts.acknowledged, (await groupAt(server)).assignee], [0, null]);
  for (const path of ['/findings?tab=zz', '/findings?cursor=zzz', '/findings?after=zz', '/hosts?verdict=zz&foo=1']) {
    const text = await (await visit(path)).text();
    for (const [, one] of path.matchAll(/[?&]([^&]+)/g))
      assert.ok(
        /was left out/.test(text) && text.includes(`<code>${one}</code>`),
        `${path} says that ${one} narrows nothing`,
      );
  }
  assert.doesNotMatch(await (await visit('/findings?tab=all&sort=recent&more=rule&q=')).text(), /was left out/);
  const wrong = await visit('/findings?q=sev:awful');
  assert.equal(wrong.status, 422);
  const text = await wrong.text();
  assert.ok(text.includes('value="sev:awful"') && /there are info, low, medium, high, critical/.test(text));
});

test('a waiver is previewed, asked for, not approved by the asker, approved by another, and follows to the verdict', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  const [host] = await fleet(server);
  const { id } = await groupAt(server);
  const { page, send } = await visitor(server);
  const fields = {
    kind: 'mitigated',
    expires: dayAt(server.time.now + 13 * DAY),
    reason: 'Hotfix of the on-call until the next image.',
    pin: 'pinned',
  };
  const preview = await send(`/findings/${id}/waiver/preview`, fields);
  assert.equal(preview.status, 200);
  assert.match(preview.text, /2 findings on 2 hosts are waived until 7 Dec 2026 2 hosts become compliant/);
  assert.equal((await server.api('/api/v1/waivers')).body.items.length, 0, 'a preview asks for nothing');
  const asked = await send(`/findings/${id}/waiver`, fields);
  assert.equal(asked.location, '/waivers/W-1?done=requested');
  const own = await page(asked.location);
  assert.match(own.text, /You asked for W-1/);
  assert.match(own.text, /another person decides/);
  assert.ok(!own.html.includes('action="/waivers/W-1/approve"'), 'no button that would be refused');
  const forced = await send('/waivers/W-1/approve', { revision: '1', note: '' });
  assert.equal(forced.status, 422);
  assert.match((await page('/waivers')).text, /1 waiver waits for a decision/);
  assert.match((await page(`/findings/${id}`)).text, /W-1, asked for by .* waits for a decision/);
  await decideWaiver('W-1', 1, { kind: 'approve', note: 'fine' }, BOB, deciding(server));
  assert.match((await page('/waivers/W-1')).text, /is waived on 2 hosts until 7 Dec 2026/);
  assert.equal((await host.told()).verdict, 'compliant');
  assert.match((await page('/findings?tab=waived')).text, /1 change is waived/);
  // Its day comes: nobody does anything, and it is open again.
  server.time.now += 14 * DAY;
  const later = await visitor(server);
  assert.match((await later.page('/waivers/W-1')).text, /was waived until 7 Dec 2026/);
  assert.match((await later.page('/waivers?tab=expired')).text, /1 waiver ended by itself/);
});

test('somebody else’s waiver is approved, given more time, and revoked; an old page is refused', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  await fleet(server);
  const deps = deciding(server);
  const { id } = await requestWaiver(
    {
      kind: 'accepted_risk',
      title: 'odd',
      justification: 'Needed by <i>the</i> vendor.',
      compensating: null,
      ticket: null,
      selector: { subject: { exact: ODD }, content: 'pinned' },
      ceiling: null,
      startsAt: null,
      expiresAt: server.time.now + 5 * DAY,
    },
    ALICE,
    deps,
  );
  const { page, send } = await visitor(server);
  assert.match((await page(`/waivers/${id}`)).text, /alice asks to waive .*odd until/);
  const noReason = await send(`/waivers/${id}/reject`, { revision: '1', note: '' });
  assert.equal(noReason.status, 422);
  assert.match(noReason.text, /Say why/);
  const approved = await send(`/waivers/${id}/approve`, { revision: '1', note: '' });
  assert.equal(approved.location, `/waivers/${id}?done=approve`);
  assert.match((await page(approved.location)).text, /You approved W-1. It covers findings on 2 hosts/);
  const stale = await send(`/waivers/${id}/revoke`, { revision: '1', note: 'seen too late' });
  assert.equal(stale.status, 422);
  assert.match(stale.text, /changed meanwhile.*look again/);
  const more = await send(`/waivers/${id}/extend`, {
    revision: '2',
    expires: dayAt(server.time.now + 20 * DAY),
    note: 'the vendor is late',
  });
  assert.equal(more.location, `/waivers/${id}?done=extend`);
  assert.match((await page('/waivers')).text, /1 waiver waits for a decision/);
  assert.equal((await decideWaiver(id, 3, { kind: 'approve', note: null }, BOB, deps)).waiver.revision, 4);
  const revoked = await send(`/waivers/${id}/revoke`, { revision: '4', note: 'no longer true' });
  assert.equal(revoked.location, `/waivers/${id}?done=revoke`);
  assert.match((await page(revoked.location)).text, /You revoked W-1. What it covered is open again/);
});

test('a change gets an owner, a remark, and a saved view of its own', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  await fleet(server);
  const { id } = await groupAt(server);
  const { page, send } = await visitor(server);
  assert.equal((await send(`/findings/${id}/assign`, { revision: '0', to: 'me' })).status, 303);
  assert.match((await page(`/findings/${id}?done=assigned`)).text, /You look after it now/);
  const again = await send(`/findings/${id}/assign`, { revision: '0', assignee: 'bob' });
  assert.equal(again.status, 422);
  assert.match(again.text, /assigned to .* meanwhile/);
  await send(`/findings/${id}/comment`, { text: 'seen & <u>understood</u>' });
  assert.match((await page(`/findings/${id}`)).text, /seen & <u>understood<\/u>/);
  const saved = await send('/findings/views', { name: 'Mine & more', q: 'is:assigned sev:high' });
  assert.equal(saved.location, '/findings?q=is%3Aassigned+sev%3Ahigh&saved=1');
  const list = await page(saved.location);
  assert.match(list.text, /Mine & more/);
  assert.match(list.text, /1 change explains 2 open findings/);
  const bad = await send('/findings/views', { name: '', q: 'nosuch:thing' });
  assert.equal(bad.status, 422);
});

test('a list that nothing matches names the word that is in the way', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  await fleet(server);
  const { page } = await visitor(server);
  const none = await page('/findings?q=sev:high%20is:regressed');
  assert.match(none.text, /Without is:regressed there is 1/);
  assert.ok(none.links.some((link) => link === '/findings?q=sev%3Ahigh'));
  assert.match((await page('/findings?tab=resolved')).text, /Nothing is resolved/);
});

test('a whole page of selected changes is one act', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  const host = await hostAs(server, 'web-1');
  await shows(host, ...Array.from({ length: 50 }, (_, n) => odd(`${n}`, `/usr/bin/odd-${n}`)));
  const ids = (await server.api('/api/v1/groups?limit=50')).body.items.map(({ id }: { id: string }) => id);
  assert.equal(ids.length, 50);
  const { send } = await visitor(server);
  const step = await send('/findings/bulk', {
    action: 'acknowledge',
    g: ids,
    tab: 'open',
    q: 'sev:high path:/usr/bin/**',
  });
  assert.match(step.text, /Acknowledge 50 findings on 1 host/);
});
