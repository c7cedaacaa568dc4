/** `host posture`, `images hosts` and waivers of a period, against a real server: what they print, their exit codes, what they refuse. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { host as hostCommand } from '#cli/fleet.ts';
import { pastOption } from '#cli/posture.ts';
import { images } from '#cli/supply.ts';
import { waivers } from '#cli/waivers.ts';
import { formatInstant } from '#src/clock.ts';
import { UsageError } from '#src/terminal.ts';
import { policySource } from '#server/prepare.ts';
import { differencesOf, type Compared } from '#server/posturewords.ts';
import { BASE, enrol, file, HOUR, image, serverFor, T0 } from '#test/server/fleet.ts';
import { ran, type Main, type Ran } from '#test/ran.ts';

const OS = image('41');

test('how a host stood is told in two columns, with the entries of the log and what differs', async (t) => {
  const server = await serverFor(t, { images: [OS], policy: await policySource(undefined) });
  const run = (main: Main, ...args: string[]): Promise<Ran> =>
    ran(main, args, { env: { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin } });
  const at = (hours: number): string => formatInstant(T0 + hours * HOUR);
  const host = await enrol(server, OS, { name: 'web-1' });
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  await host.sendFull();
  host.entries = [...BASE, file('/usr/bin/odd', 'x', 0o755)];
  server.time.now = T0 + HOUR;
  await host.sendFull();
  server.time.now = T0 + 2 * HOUR;
  const allowed =
    'format: bootproof.policy/1\nname: mine\nextends: default\nfiles:\n  - id: odd\n    paths: [/usr/bin/odd]\n    effect: allowed\n    reason: It is ours.\n';
  await server.api('/api/v1/policies', { method: 'POST', body: { documents: [{ file: 'mine.yaml', text: allowed }] } });
  await server.settle();
  await server.api(`/api/v1/hosts/${host.id}/retire`, { method: 'POST' });
  do await server.server.evidence.turn();
  while ((await server.server.store.log.pending()).count > 0);

  const told = await run(hostCommand, 'posture', 'web-1', '--at', at(1.5));
  assert.equal(told.exit, 0, 'as known now');
  assert.match(told.out, /^web-1 at 2026-11-24 13:30:00Z: as known then, and as known now\n/);
  assert.match(
    told.out,
    /\n {12}AS KNOWN THEN +AS KNOWN NOW +LOG ENTRIES\nverdict +drifted +compliant +judgement \d+\n/,
  );
  assert.match(
    told.out,
    /\nintegrity +drifted +intact +judgement \d+\nprovenance +not-assessed +not-assessed +-\nfreshness +heard +heard +report \d+\n/,
  );
  assert.match(told.out, /\npolicy +version 1 +version 1, judged by 2 +act \d+\n/);
  assert.match(told.out, /\nfindings +1 +0 +-\n/);
  assert.match(told.out, /The verdict was told as drifted; as known later it is compliant\.\n/);
  assert.match(told.out, /\/usr\/bin\/odd: added file.*: no finding as known later\.\n/);
  assert.match(told.err, /^note: judged again at 2026-11-24 14:00:00 UTC, from the same report\n/);
  const then = await run(hostCommand, 'posture', host.id, '--at', at(1.5), '--known', at(1.5));
  assert.equal(then.exit, 1);
  assert.match(then.out, /\nhigh +none +2026-11-24 13:00:00Z +judgement \d+ +\/usr\/bin\/odd: added file/);
  assert.match(then.out, /Both answers say the same\.\n$/);
  const early = await run(hostCommand, 'posture', 'web-1', '--at', at(-1));
  assert.equal(early.exit, 2);
  assert.match(early.out, /verdict +unknown \(not-enrolled\)/);
  assert.match(early.err, /note: the host was enrolled later, at 2026-11-24 12:00:00 UTC/);
  const json = JSON.parse((await run(hostCommand, 'posture', 'web-1', '--at', at(1.5), '--json')).out);
  assert.deepEqual(
    [json.asKnownThen.verdict.value, json.asKnown.verdict.value, json.differences.length],
    ['drifted', 'compliant', 2],
  );

  const on = await run(images, 'hosts', OS.digest, '--from', at(0), '--to', at(1));
  assert.equal(on.exit, 0);
  assert.match(
    on.out,
    /^HOST +FROM +TO +LAST HEARD +LOG ENTRY +ID\nweb-1 \(retired\) +2026-11-24 12:00:00Z +runs it +/,
  );
  assert.equal((await run(images, 'hosts', OS.digest, '--to', at(-1))).err, 'no host ran it then\n');
  assert.equal((await run(waivers, '--active-from', at(0), '--active-to', at(1))).err, 'no waiver\n');
  await assert.rejects(run(waivers, '--active-from', at(0), '--expiring'), UsageError);
  await assert.rejects(run(hostCommand, 'posture', 'web-1', '--at', 'yesterday'), /--at yesterday: expected 90m/);
  await assert.rejects(run(hostCommand, 'posture', 'web-1', '--at', at(3)), /at lies in the future/);
});

test('a moment in the past is written as people write it', () => {
  for (const [text, expected] of [
    ['90m', formatInstant(T0 - 1.5 * HOUR)],
    ['7d', formatInstant(T0 - 7 * 24 * HOUR)],
    ['2026-09-30', '2026-09-30'],
    ['2026-09-30T18:00:00+02:00', '2026-09-30T18:00:00+02:00'],
  ] as const)
    assert.equal(pastOption('--at', text, T0), expected);
  for (const text of ['', 'now', '2026-9-1', '2026-13-01', '2026-09-30T18:00:00', '-1d', '0d', '1y'])
    assert.throws(() => pastOption('--at', text, T0), UsageError, text);
});

test('what two answers differ in is said in sentences', () => {
  const one = (what: string, disposition: string | null = 'none', waiver: string | null = null) => ({
    group: what,
    what,
    disposition,
    waiver,
  });
  const told = (more: Partial<Compared> = {}): Compared => ({
    verdict: { value: 'compliant' },
    report: { value: { seq: 4, cameLater: false } },
    image: { value: { digest: 'sha256:aa' } },
    findings: { value: [] },
    waivers: [],
    ...more,
  });
  for (const [then, now, expected] of [
    [told(), told(), []],
    [
      told(),
      told({
        verdict: { value: null },
        report: { value: { seq: 6, cameLater: true } },
        image: { value: { digest: 'sha256:bb' } },
      }),
      [
        'The verdict was told as compliant; as known later it is unknown.',
        'Report 6, made before that moment, came only after it; until then report 4 was the newest.',
        'It ran sha256:bb, not sha256:aa as was known then.',
      ],
    ],
    [
      told({ findings: { value: [one('b'), one('c')] } }),
      told({ findings: { value: [one('a'), one('c', 'waived', 'W-1')] }, waivers: [{ id: 'W-1', until: 5 }] }),
      [
        'A: not known then.',
        'B: no finding as known later.',
        'C: decided about in another way, as known later.',
        'W-1 was in force, which was not known then.',
      ],
    ],
    [
      told({
        waivers: [
          { id: 'W-1', until: 5 },
          { id: 'W-2', until: 5 },
        ],
      }),
      told({ waivers: [{ id: 'W-1', until: 4 }] }),
      ['W-1 ended at another time than was known then.', 'W-2 was not in force, as known later.'],
    ],
    [
      told(),
      told({ findings: { value: 'abcdefgh'.split('').map((what) => one(what)) }, waivers: null }),
      [...'ABCDE'.split('').map((what) => `${what}: not known then.`), '3 more of these: not known then.'],
    ],
    [told({ findings: { value: null } }), told({ findings: { value: [one('a')] } }), []],
  ] as const)
    assert.deepEqual(differencesOf(then, now), expected);
});
