/** The report that a person reads: complete, escaped, without script, the same to the byte, and of bounded length. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { prepare } from '#src/evidence/controls.ts';
import { derivedMembers } from '#src/evidence/derived.ts';
import { isTaken } from '#src/evidence/bundle.ts';
import type { BundleHead, Facts } from '#src/evidence/facts.ts';
import { factsOf } from '#src/evidence/facts.ts';
import { reportDocument } from '#src/evidence/report.ts';
import { counted, html, number, periodText, Top } from '#src/evidence/reportmarkup.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { REPORT_ROWS_MAX } from '#src/limits.ts';
import { finding, fleet, head, hostId, host, on, waiver } from './fleet.ts';

const shipped = await shippedFrameworks();
const mappings = shipped.map(({ framework }) => framework);
const fingerprint = 'ab'.repeat(32);

async function reportOf(facts: Facts): Promise<string> {
  let out = '';
  for await (const piece of reportDocument(await prepare(facts, mappings), { fingerprint })) out += piece;
  return out;
}
const of = (size: number, over: Partial<BundleHead> = {}) => reportOf(fleet(size, over));

test('it says what it is about, by whose key, how much it proves, and that mappings are drafts', async () => {
  const text = await of(80);
  for (const part of [
    'All hosts, 1 July to 30 September 2026',
    fingerprint,
    'Level 1: hosts kept checkpoints',
    'All of the 55 mappings',
    '<span class="mark">draft</span>',
    'Ines Carvalho',
    'Not answered for',
    'What it does not prove',
    'same person',
  ])
    assert.ok(text.includes(part), part);
});

test('level 0 is called the word of the server', async () => {
  const { log } = head();
  const text = await of(2, { log: { ...log, level: 0 } });
  assert.match(text, /Level 0: the server’s word/);
  assert.match(text, /Without one, this bundle is the server’s word alone/);
});

test('it holds no script, fetches nothing, and its policy allows just its own styles', async () => {
  const text = await of(80);
  assert.doesNotMatch(text, /<script|javascript:|\son[a-z]+=|style="|<link|<img|src=|url\(|@import/i);
  const policy = /Content-Security-Policy"\s+content="([^"]*)"/.exec(text)![1]!.replaceAll('&#39;', "'");
  assert.ok(policy.startsWith("default-src 'none'; style-src 'sha256-"));
  const styles = [...text.matchAll(/<style>([\s\S]*?)<\/style>/g)].map(([, css]) => css!);
  assert.equal(styles.length, 2);
  for (const css of styles) assert.ok(policy.includes(`'sha256-${createHash('sha256').update(css).digest('base64')}'`));
});

test('whatever strangers wrote is text, wherever it stands', async () => {
  const evil = `"><script>alert(1)</script>' \u202E</style>\u0007&amp;`;
  const facts = factsOf({
    head: head({
      exportedBy: evil,
      server: { version: '1', name: evil },
      selection: { hosts: 'part', filter: evil },
      log: { ...head().log, origin: evil },
      sampling: { method: 'sha256-order/1', seed: evil, size: 1 },
    }),
    hosts: [
      host(1, {
        name: evil,
        group: evil,
        gaps: [
          { from: on(1), to: on(2), why: evil },
          { from: on(3), to: on(4), why: null },
        ],
        checkIns: { expected: 9, received: 1, longestSeconds: 9e5 },
      }),
    ],
    findings: [
      finding(1, { subject: evil, rule: evil, history: [] }),
      finding(1, { group: 'fg_w', disposition: 'waived', waiver: 'W-1', history: [] }),
    ],
    decisions: [
      waiver('W-1', {
        title: evil,
        justification: evil,
        covers: evil,
        requestedBy: evil,
        decidedBy: evil,
        ticket: evil,
      }),
    ],
    reconciliations: [{ source: evil, at: on(1), index: null, theirs: 1, ours: 1, onlyTheirs: [evil], onlyOurs: [] }],
  });
  const text = await reportOf(facts);
  assert.ok(!text.includes('<script') && !text.includes('\u202E') && !text.includes('\u0007'));
  assert.equal(text.split('</style>').length, 3, 'no style was ended but ours');
  assert.ok(text.split('&lt;script&gt;').length > 12, 'and it is shown');
});

test('its length has a bound, and what is beyond is counted', async () => {
  const size = REPORT_ROWS_MAX + 150;
  const hosts = Array.from({ length: size }, (_, n) =>
    host(n, { gaps: [{ from: on(1), to: on(2, n / 1000), why: null }] }),
  );
  const text = await reportOf(factsOf({ head: head({ frameworks: [] }), hosts }));
  assert.match(text, /150 more lines, in <code>csv\/exceptions\.csv<\/code>/);
  assert.ok(text.includes(`web-0${size - 1}.`) && !text.includes('web-0001.'), 'the longest are shown');
});

test('the same exception of many hosts is one line', async () => {
  const hosts = Array.from({ length: 60 }, (_, n) => host(n));
  const findings = hosts.map((_, n) => finding(n));
  const text = await reportOf(factsOf({ head: head({ frameworks: [] }), hosts, findings }));
  assert.equal(text.split('<code>/usr/sbin/sshd</code>').length - 1, 2, 'the difference, and that nobody answered it');
});

test('a bundle without hosts, frameworks and anything else is a report too', async () => {
  const text = await reportOf(factsOf({ head: head({ frameworks: [] }) }));
  assert.match(text, /No host was in scope in this period, so nothing was assessed/);
});

test('members that are computed have names that a bundle takes, and are the same each time', async () => {
  const all = async () => {
    const out: [string, string][] = [];
    for await (const { name, content } of derivedMembers(fleet(40), shipped, { fingerprint })) {
      const hash = createHash('sha256');
      for await (const piece of content instanceof Uint8Array ? [content] : content) hash.update(piece);
      out.push([name, hash.digest('hex')]);
    }
    return out;
  };
  const first = await all();
  assert.ok(
    first.every(([name]) => isTaken(name)),
    JSON.stringify(first),
  );
  assert.equal(new Set(first.map(([name]) => name)).size, first.length);
  assert.deepEqual(await all(), first);
});

test('words for numbers and times', () => {
  assert.equal(number(1_234_567), '1,234,567');
  assert.equal(number(0.95), '0.95');
  assert.equal(counted(1, 'host'), '1 host');
  assert.equal(html`<b title="${'"'}">${['a<', 1, null, false]}</b>`.text, '<b title="&quot;">a&lt;1</b>');
  const period = (from: string, to: string) => periodText({ from: `${from}T00:00:00.000Z`, to: `${to}T00:00:00.000Z` });
  assert.equal(period('2026-07-01', '2026-10-01'), '1 July to 30 September 2026');
  assert.equal(period('2026-07-01', '2026-07-11'), '1 to 10 July 2026');
  assert.equal(period('2026-12-01', '2027-02-01'), '1 December 2026 to 31 January 2027');
  assert.equal(period('2026-07-01', '2026-07-02'), '1 July 2026');
});

test('the first of a stream in order, the others counted', () => {
  const top = new Top<number>(3, (a, b) => b - a);
  for (const n of [1, 9, 3, 7, 9, 2]) top.offer(n);
  assert.deepEqual([top.items, top.seen, top.beyond], [[9, 9, 7], 6, 3]);
  assert.equal(hostId(1) < hostId(27), true);
});
