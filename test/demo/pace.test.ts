/** A slow machine gets longer times, and is told what is not as it must be. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FleetHost } from '#demo/fleet.ts';
import { DEMO_HOSTS } from '#demo/host.ts';
import { pacedPolicy, paceOf } from '#demo/pace.ts';
import { asExpected, fleetJson, fleetTable } from '#demo/show.ts';

test('the longer a round takes, the longer are all times; without end nobody waits', () => {
  assert.deepEqual([0, 12_000, 12_001, 40_000, 3_600_000].map(paceOf), [1, 1, 2, 4, 32]);
});

test('the policy at a pace has its own times, each as often, and nothing else', () => {
  const text = readFileSync(join(import.meta.dirname, '../../demo/policy.yaml'), 'utf8');
  const times = (policy: string) => [...policy.matchAll(/: (\d+)s$/gm)].map(([, seconds]) => Number(seconds));
  assert.equal(pacedPolicy(text, 1), text);
  assert.equal(times(text).length, 6);
  assert.deepEqual(
    times(pacedPolicy(text, 4)),
    times(text).map((seconds) => 4 * seconds),
  );
});

test('what is not as expected is said host by host, in the table and in the document', () => {
  const hosts = DEMO_HOSTS.map(({ name, verdict }) => ({
    name,
    verdict,
    integrity: { state: 'intact' },
    provenance: { state: 'trusted' },
    freshness: { state: 'live' },
    reasons: [],
    sentence: 'it is so',
  })) as unknown as FleetHost[];
  assert.ok(asExpected(hosts));
  assert.doesNotMatch(fleetTable(hosts), /expected/);
  assert.ok(!('unexpected' in fleetJson(hosts)));
  const wrong = hosts
    .slice(1)
    .map((host) =>
      host.name === 'ci-1' ? { ...host, verdict: 'silent', reasons: [{ text: 'not heard of' }] } : host,
    ) as unknown as FleetHost[];
  assert.ok(!asExpected(wrong));
  assert.match(fleetTable(wrong), /^ {2}web-1: expected compliant, is not there, because: it did not enrol$/m);
  assert.match(fleetTable(wrong), /^ {2}ci-1: expected compliant, is silent, because: not heard of$/m);
  assert.deepEqual(
    (fleetJson(wrong) as { unexpected: { name: string; verdict: string | null }[] }).unexpected.map((u) => [
      u.name,
      u.verdict,
    ]),
    [
      ['web-1', null],
      ['ci-1', 'silent'],
    ],
  );
});
