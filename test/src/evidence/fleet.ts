/** Facts of a fleet for tests of what is computed from them: mostly well, with one of each thing that goes wrong. */
import { createHash } from 'node:crypto';
import { formatInstant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import {
  factsOf,
  type BundleHead,
  type DecisionFact,
  type Facts,
  type FindingFact,
  type HostInScope,
  type ImageFact,
  type PolicyFact,
} from '#src/evidence/facts.ts';
import { HostId } from '#src/wire/hostid.ts';

export const FROM = Date.UTC(2026, 6, 1);
export const DAY = 86_400_000;
export const DAYS = 92;
export const TO = FROM + DAYS * DAY;
/** A time of the period: days after its begin, and hours. */
export const on = (day: number, hours = 0): string => formatInstant(FROM + day * DAY + hours * 3_600_000);

const hash = (text: string) => createHash('sha256').update(text).digest();
export const digest = (text: string): Digest => `sha256:${hash(text).toString('hex')}` as Digest;

/** Ids that rise with their number. */
export function hostId(n: number): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz234567';
  let out = '';
  for (let rest = n, i = 0; i < 26; i++, rest = Math.floor(rest / 26)) out = letters[rest % 26]! + out;
  return HostId.parse(`h_${out}`);
}

export const IMAGES = [digest('core 20260601'), digest('core 20260815'), digest('edge 20260701')] as const;

export const head = (over: Partial<BundleHead> = {}): BundleHead => ({
  server: { version: '0.1.0', name: 'bootproof.example.net' },
  exportedAt: on(93, 8.2),
  exportedBy: 'Ines Carvalho',
  period: { from: on(0), to: on(DAYS) },
  selection: { hosts: 'all' },
  frameworks: ['nist-800-53', 'pci-dss-4'],
  parameters: { completenessMin: 0.95, answerHours: 72 },
  log: {
    origin: 'bootproof.example.net/log',
    key: 'bootproof.example.net/log+00000000+AQ==',
    size: 48_202,
    root: hash('root').toString('base64'),
    from: 21_007,
    level: 1,
  },
  notices: { delivered: 61, failed: 1 },
  sampling: { method: 'sha256-order/1', seed: '2026-Q3 audit', size: 5 },
  ...over,
});

const EXPECTED = DAYS * 96;

export const host = (n: number, over: Partial<HostInScope> = {}): HostInScope => ({
  host: hostId(n),
  inScope: true,
  name: `web-${String(n).padStart(4, '0')}.fra.example.net`,
  group: n % 3 === 0 ? 'edge' : 'core',
  labels: [{ key: 'env', value: 'prod' }],
  key: hash(`key ${n}`).toString('hex'),
  enrolment: 100 + n,
  enrolledAt: on(-60),
  retiredAt: null,
  intervalSeconds: 900,
  checkIns: { expected: EXPECTED, received: EXPECTED - (n % 7), longestSeconds: 1100 },
  gaps: [],
  standing: {
    verdict: 'compliant',
    integrity: 'intact',
    provenance: 'trusted',
    freshness: 'current',
    allowed: 12,
    waived: 0,
  },
  deployments: [
    { image: IMAGES[0], rule: null, enforced: true, from: on(-20), to: on(45, 3) },
    { image: IMAGES[1], rule: null, enforced: true, from: on(45, 3), to: null },
  ],
  staged: null,
  rollback: IMAGES[0],
  ...over,
});

export const image = (of: string, over: Partial<ImageFact['trust']> = {}): ImageFact => ({
  image: of,
  names: ['quay.example/core/centos:20260815'],
  builtAt: on(-30),
  trust: {
    state: 'trusted',
    by: 'release@example.net',
    policy: 'core-release',
    why: null,
    since: null,
    verifiedAt: on(1),
    ...over,
  },
  signatures: [],
  manifests: [],
});

export const finding = (n: number, over: Partial<FindingFact> = {}): FindingFact => ({
  host: hostId(n),
  group: 'fg_sshd',
  rule: 'usr-program',
  kind: 'drift',
  subject: '/usr/sbin/sshd',
  severity: 'critical',
  controls: ['nist-800-53:SI-7', 'nist-800-53:CM-7', 'pci-dss-4:11.5.2'],
  firstSeen: on(13, 2),
  open: true,
  disposition: 'none',
  waiver: null,
  answeredAt: null,
  history: [{ index: 23_118, at: on(13, 2), transition: 'new', episode: 1, severity: 4, why: null }],
  ...over,
});

/** A history out of transitions and the times of them. */
export const history = (
  ...steps: readonly (readonly [FindingFact['history'][number]['transition'], string, string?])[]
) =>
  steps.map(([transition, at, why], i) => ({
    index: 30_000 + i,
    at,
    transition,
    episode: 1,
    severity: 2,
    why: why ?? null,
  }));

export const waiver = (id: string, over: Partial<DecisionFact> = {}): DecisionFact => ({
  id,
  kind: 'waiver',
  state: 'active',
  title: 'Vendor tuning for the database hosts',
  justification: 'The vendor supports only these values; they move into the image with its October build.',
  ticket: 'CHG-4471',
  covers: '{"subject":{"exact":"/etc/sysctl.d/99-tuning.conf"},"content":"any"}',
  requestedBy: 'J. Brandt',
  requestedAt: on(1, 9),
  decidedBy: 'M. Okafor',
  decidedAt: on(2, 9),
  alone: false,
  startsAt: on(2, 9),
  endsAt: on(DAYS + 30),
  history: [],
  ...over,
});

export const policy = (over: Partial<PolicyFact> = {}): PolicyFact => ({
  kind: 'host',
  version: 9,
  digest: digest('policy 9'),
  name: 'house',
  documents: [],
  inForce: { from: on(-40), to: null },
  by: 'A. Lindqvist',
  note: 'Chrony until it comes by image',
  index: 20_400,
  ...over,
});

const drifted = {
  verdict: 'drifted',
  integrity: 'drifted',
  provenance: 'trusted',
  freshness: 'current',
  allowed: 12,
  waived: 0,
} as const;

/** `size` hosts, of which some differ, some waived, some were silent. */
export function fleet(size: number, over: Partial<BundleHead> = {}): Facts {
  const hosts: HostInScope[] = [];
  const findings: FindingFact[] = [];
  for (let n = 0; n < size; n++) {
    const kind = n % 40;
    if (kind === 7) {
      hosts.push(host(n, { standing: { ...drifted, verdict: 'compliant', integrity: 'intact', waived: 1 } }));
      findings.push(
        finding(n, {
          group: 'fg_sysctl',
          rule: 'etc-other',
          subject: '/etc/sysctl.d/99-tuning.conf',
          severity: 'medium',
          controls: ['nist-800-53:CM-6', 'pci-dss-4:11.5.2'],
          disposition: 'waived',
          waiver: 'W-17',
          answeredAt: on(2, 9),
          history: history(['new', on(1, 2)], ['waived', on(2, 9)]),
        }),
      );
    } else if (kind === 11) {
      hosts.push(
        host(n, {
          gaps: [{ from: on(33, 22), to: on(35, 6), why: n === 11 ? null : 'Power work in hall 2, CHG-4502' }],
          checkIns: { expected: EXPECTED, received: EXPECTED - 128, longestSeconds: 115_200 },
        }),
      );
    } else if (kind === 19) {
      hosts.push(host(n));
      const day = 5 + (n % 71);
      findings.push(
        finding(n, {
          group: 'fg_journald',
          rule: 'etc-other',
          subject: '/etc/systemd/journald.conf',
          severity: 'medium',
          controls: ['nist-800-53:CM-6', 'pci-dss-4:11.5.2'],
          open: false,
          answeredAt: on(day, 30),
          history: history(
            ['new', on(day, 7)],
            ['acknowledged', on(day, 30)],
            ['resolved', on(day + 7, 5), 'host_updated'],
          ),
        }),
      );
    } else if (n === 23) {
      hosts.push(host(n, { standing: drifted }));
      findings.push(finding(n));
    } else if (n === 31) {
      hosts.push(
        host(n, {
          checkIns: { expected: EXPECTED, received: 4100, longestSeconds: 40 * 86_400 },
          gaps: [{ from: on(50), to: on(90), why: null }],
          standing: { ...drifted, verdict: 'silent', integrity: 'intact', freshness: 'silent' },
        }),
      );
    } else if (n === 35) {
      hosts.push(
        host(n, {
          deployments: [{ image: IMAGES[2], rule: null, enforced: false, from: on(20), to: null }],
          name: '<script>alert(1)</script>\u202Egnp.exe',
          standing: { ...drifted, verdict: 'unsigned', integrity: 'intact', provenance: 'unsigned' },
        }),
      );
    } else hosts.push(host(n));
  }
  return factsOf({
    head: head(over),
    hosts: [...hosts, { host: hostId(size), inScope: false }],
    findings,
    images: [
      image(IMAGES[0]),
      image(IMAGES[1]),
      image(IMAGES[2], { state: 'unsigned', by: null, policy: null, why: 'no signature is attached', since: on(20) }),
    ],
    decisions: [
      waiver('W-17'),
      waiver('W-22', {
        title: 'node exporter until October',
        alone: true,
        decidedBy: 'J. Brandt',
        covers: '{"subject":{"exact":"/etc/cron.d/node-exporter"},"content":"any","hosts":{"groups":["edge"]}}',
      }),
    ],
    policies: [
      policy(),
      policy({ kind: 'image', version: 3, name: 'core-release', digest: digest('images 3'), note: null }),
    ],
    reconciliations: [
      {
        source: 'CMDB, export of 28 September',
        at: on(89, 9),
        index: 47_000,
        theirs: size + 1,
        ours: size,
        onlyTheirs: ['db-legacy-02'],
        onlyOurs: [],
      },
    ],
  });
}
