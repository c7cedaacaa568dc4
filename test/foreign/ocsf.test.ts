/**
 * OCSF's published schema judges our events (docs/notices.md 6): one of each kind that is told, against the JSON schema that the PyPI
 * package ocsf-json-schema makes of the released version. `PYTHON` names an interpreter that has it and jsonschema.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { notice, type About, type NoticeType } from '../../server/notices/notice.ts';
import { ocsfEvent } from '../../server/notices/shapes.ts';
import type { Severity } from '../../server/store/records.ts';

const PYTHON = process.env['PYTHON'] ?? 'python3';
const AT = Date.UTC(2026, 10, 25, 6);

const group: About['group'] = {
  id: `fg_${'0'.repeat(40)}`,
  rule: 'usr-bin',
  kind: 'drift',
  subject: '/usr/bin/sshd',
  what: '/usr/bin/sshd: content differs',
  severity: 'critical',
  firstSeen: '2026-11-24T06:00:00.000Z',
  hosts: { open: 3, acknowledged: 1, waived: 0 },
  link: 'https://bootproof.example/findings/x',
};
const MORE: Readonly<Record<NoticeType, Partial<About>>> = {
  'finding.new': { group },
  'finding.spread': { group },
  'finding.regressed': { group },
  'finding.returned': { group, why: 'waiver_expired' },
  'finding.resolved': { group, why: 'reverted' },
  'finding.overdue': { group },
  'host.verdict': { verdict: { to: 'drifted' } },
  'image.trust': { image: { digest: `sha256:${'1'.repeat(64)}`, state: 'rejected', change: 'trust.change' } },
  'waiver.expiring': {
    waiver: { id: 'W-3', title: 'odd', expiresAt: '2026-12-01T00:00:00.000Z', requestedBy: 'a', decidedBy: 'b' },
  },
  'waiver.waiting': {
    waiver: { id: 'W-4', title: 'odd', expiresAt: '2026-12-01T00:00:00.000Z', requestedBy: 'a', decidedBy: null },
  },
  'fleet.digest': {
    digest: {
      day: '2026-11-25',
      hosts: { compliant: 3 },
      open: { critical: 1 },
      since: { new: 1, regressed: 0, resolved: 2 },
      waivers: null,
    },
  },
  'fleet.mass_change': { groups: [group], moreGroups: 4 },
  'fleet.summary': {},
  'log.alarm': {},
  'channel.test': {},
};
const HOSTS = [
  { id: 'h_1', name: 'web-1', group: 'prod/web', episode: 1 },
  { id: 'h_2', name: 'lab', group: null, episode: 1 },
];

test('every event that is told keeps to the published schema', (t) => {
  const known = spawnSync(PYTHON, ['-c', 'import jsonschema, ocsf_json_schema'], { encoding: 'utf8' });
  if (known.status !== 0)
    return t.skip(`${PYTHON} has no ocsf-json-schema: pip install ocsf-json-schema==1.2.0 jsonschema==4.26.0`);
  const events = Object.entries(MORE).flatMap(([type, more], at) =>
    [[], HOSTS].map((hosts) => {
      const about = {
        type: type as NoticeType,
        text: `${type} of a test`,
        link: 'https://bootproof.example/',
        ...more,
      };
      return ocsfEvent(
        notice(AT, (at % 5) as Severity, hosts, { ...about, dedupe: `c_1/x/y/1/${at}` }),
        `msg_${type}_${hosts.length}`,
      );
    }),
  );
  const script = join(import.meta.dirname, 'ocsf.py');
  const judge = (lines: readonly object[]) =>
    spawnSync(PYTHON, [script], { input: lines.map((one) => JSON.stringify(one)).join('\n'), encoding: 'utf8' });
  const ran = judge(events);
  assert.equal(ran.stderr, '');
  assert.equal(ran.stdout, '');
  // And it judges: a severity that there is not, and a class without what it demands.
  const [event] = events as Record<string, unknown>[];
  const { finding_info: _, ...without } = event!;
  const wrong = judge([{ ...event, severity_id: 77 }, without]).stdout;
  assert.match(wrong, /severity_id/);
  assert.match(wrong, /'finding_info' is a required property/);
});
