import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Drift, Hole } from '#src/drift/drift.ts';
import { evaluate, type Evidence } from '#src/policy/evaluate.ts';
import { pathChanges } from '#src/policy/files.ts';
import { signatureOf } from '#src/policy/judgement.ts';
import { NO_HOST } from '#src/policy/host.ts';
import { judgeSilence } from '#src/policy/state.ts';
import {
  added,
  DEFAULT,
  DEPLOYMENT,
  file,
  folder,
  hidden,
  IMAGE,
  INTACT,
  modified,
  overlay,
  policyOf,
  program,
  READY,
  removed,
  replaced,
  sha,
  symlink,
} from './evidence.ts';

const NOTHING = policyOf('');
const run = (evidence: Partial<Evidence>, policy = NOTHING) => evaluate({ ...INTACT, ...evidence }, policy);
const rulesOf = (evidence: Partial<Evidence>, policy = NOTHING) =>
  run(evidence, policy).judgements.map(({ rule, subject }) => `${rule} ${subject}`);

test('an untouched host: no judgement, nothing allowed, everything told', () => {
  const { judgements, facts, seen, policy } = run({});
  assert.deepEqual(judgements, []);
  for (const count of [facts.allowed, facts.local, facts.variants]) assert.deepEqual(count, { usr: 0, etc: 0 });
  assert.deepEqual(seen.trees, { usr: { told: true, holes: [] }, etc: { told: true, holes: [] } });
  assert.equal(policy, NOTHING.digest);
});

test('what no rule names is a finding: a policy with a gap is loud', () => {
  const evidence = {
    drift: [added('/usr/x'), removed('/etc/x')],
    deployment: {
      ...DEPLOYMENT,
      overlays: [overlay('/usr', 'sysext'), overlay('/opt', 'state-overlay')],
      booted: { ...DEPLOYMENT.booted!, layered: ['vim'] },
      contradictions: ['a'],
    },
    trees: {
      ...INTACT.trees,
      etc: { holes: [{ path: '/etc/h', kind: 'unstable', detail: '' } as Hole], holesCapped: false },
    },
    flags: ['cloned'] as const,
  };
  assert.deepEqual(rulesOf(evidence), [
    'unnamed-usr /usr/x',
    'unnamed-etc /etc/x',
    'unnamed-overlay /usr',
    'unnamed-layered vim',
    'unnamed-contradiction a',
    'unnamed-hole /etc/h',
    'unnamed-report host',
  ]);
  assert.deepEqual(rulesOf({ manifest: { state: 'unknown', image: 'x', code: 'IMAGE_UNKNOWN', detail: null } }), [
    'unnamed-manifest x',
  ]);
});

test('the first rule whose paths and conditions match decides', () => {
  const policy = policyOf(`files:
  - {id: narrow, paths: [/etc/a], when: {change: [added]}, effect: allowed, reason: x}
  - {id: local, paths: ['/etc/{a,b}'], effect: expected-local, reason: x}
  - {id: rest, paths: ['/etc/**'], effect: forbidden, severity: low, verdict: none, reason: x, controls: ['f:1']}
`);
  const { judgements, facts } = run({ drift: [added('/etc/a'), removed('/etc/b'), added('/etc/c')] }, policy);
  assert.deepEqual([facts.allowed.etc, facts.local.etc], [1, 1]);
  assert.deepEqual(judgements, [
    {
      rule: 'rest',
      kind: 'drift',
      subject: '/etc/c',
      signature: `added;type=file;mode=0644;uid=0;gid=0;sha256=${sha('a')}`,
      severity: 'low',
      verdict: 'none',
      controls: ['f:1'],
      reason: 'x',
      detail: {
        change: {
          path: '/etc/c',
          change: 'added',
          attributes: [],
          actual: { type: 'file', mode: '0644', uid: 0, gid: 0, size: 1, sha256: sha('a') },
        },
      },
    },
  ]);
});

/** Which lines a condition takes. */
const conditions: [when: string, takes: Drift[], leaves: Drift[]][] = [
  ['{change: [added, removed]}', [added('/etc/x'), removed('/etc/x')], [replaced('/etc/x')]],
  [
    '{type: [symlink]}',
    [added('/etc/x', symlink('y')), removed('/etc/x', symlink('y'))],
    [added('/etc/x'), modified('/etc/x', { type: 'file' }, symlink('y'))],
  ],
  [
    '{attributes: [mode, uid]}',
    [modified('/etc/x', { mode: 0o600 }), modified('/etc/x', { uid: 1, sha256: sha('b') })],
    [replaced('/etc/x'), added('/etc/x')],
  ],
  [
    '{only: [content]}',
    [replaced('/etc/x'), modified('/etc/x', { size: 9, sha256: sha('c') })],
    [modified('/etc/x', { sha256: sha('b'), mode: 0o600 }), added('/etc/x')],
  ],
  [
    '{only: [content], change: [added, modified]}',
    [replaced('/etc/x'), added('/etc/x')],
    [modified('/etc/x', { mode: 0 }), removed('/etc/x')],
  ],
  [
    '{has: [setuid, setgid]}',
    [removed('/etc/x', file({ mode: 0o4755 })), modified('/etc/x', { mode: 0o2755 })],
    [added('/etc/x', folder(0o2755)), added('/etc/x')],
  ],
  [
    '{gains: [setuid]}',
    [added('/etc/x', file({ mode: 0o4755 })), modified('/etc/x', { mode: 0o4755 })],
    [replaced('/etc/x', file({ mode: 0o4755 })), removed('/etc/x', file({ mode: 0o4755 }))],
  ],
  [
    '{gains: [capability]}',
    [modified('/etc/x', { capability: 'AQ==' })],
    [modified('/etc/x', { capability: 'AQ==' }, file({ capability: 'Ag==' }))],
  ],
  [
    '{gains: [executable]}',
    [modified('/etc/x', { mode: 0o654 })],
    [modified('/etc/x', { mode: 0o700 }, program()), added('/etc/x', folder())],
  ],
  [
    '{gains: [world-writable]}',
    [modified('/etc/x', { mode: 0o646 }), added('/etc/x', folder(0o777))],
    [added('/etc/x', folder(0o1777)), added('/etc/x', symlink('y'))],
  ],
  [
    '{gains: [device]}',
    [added('/etc/x', { type: 'char', mode: 0o600, uid: 0, gid: 0, device: '1:3' })],
    [added('/etc/x', { type: 'fifo', mode: 0o600, uid: 0, gid: 0 })],
  ],
  [
    '{gains: [not-root-owned]}',
    [modified('/etc/x', { uid: 5 })],
    [modified('/etc/x', { gid: 5 }), modified('/etc/x', { uid: 6 }, file({ uid: 5 }))],
  ],
  [
    '{modeWithin: "0640"}',
    [added('/etc/x', file({ mode: 0o600 })), modified('/etc/x', { mode: 0o040 })],
    [
      added('/etc/x', file({ mode: 0o644 })),
      added('/etc/x', file({ mode: 0o4640 })),
      removed('/etc/x', file({ mode: 0 })),
    ],
  ],
  [
    '{uid: [0, 7]}',
    [added('/etc/x'), modified('/etc/x', { uid: 7 })],
    [modified('/etc/x', { uid: 8 }), removed('/etc/x')],
  ],
  [
    '{link: [/usr/lib/*]}',
    [added('/etc/x', symlink('/usr/lib/a'))],
    [added('/etc/x', symlink('/usr/lib/..')), removed('/etc/x', symlink('/usr/lib/a')), added('/etc/x')],
  ],
  [
    `{sha256: ['${sha('b')}']}`,
    [replaced('/etc/x'), added('/etc/x', file({ sha256: sha('b') }))],
    [added('/etc/x'), removed('/etc/x', file({ sha256: sha('b') }))],
  ],
  [
    '{change: [modified], uid: [0], modeWithin: "0644"}',
    [replaced('/etc/x')],
    [added('/etc/x'), modified('/etc/x', { mode: 0o666 })],
  ],
];
for (const [when, takes, leaves] of conditions)
  test(`the condition ${when} holds where all of it does`, () => {
    const policy = policyOf(`files:\n  - {id: a, paths: [/etc/x], when: ${when}, effect: allowed, reason: x}\n`);
    for (const line of takes) assert.equal(run({ drift: [line] }, policy).facts.allowed.etc, 1, JSON.stringify(line));
    for (const line of leaves) assert.equal(run({ drift: [line] }, policy).facts.allowed.etc, 0, JSON.stringify(line));
  });

test('a secret is judged once, with what is known of it in the open', () => {
  const policy = policyOf(`files:
  - {id: content, paths: [/etc/shadow], when: {only: [content], uid: [0], modeWithin: '0640', type: [file]}, effect: expected-local, reason: x}
`);
  const secrets = [{ path: '/etc/shadow', state: 'differs' }] as const;
  assert.equal(run({ secrets }, policy).facts.local.etc, 1);
  const opened = modified('/etc/shadow', { mode: 0o644 }, hidden(0));
  const { judgements, facts } = run({ secrets, drift: [opened] }, policy);
  assert.equal(facts.local.etc, 0);
  assert.equal(judgements.length, 1);
  assert.deepEqual(
    [judgements[0]!.kind, judgements[0]!.signature, judgements[0]!.detail.secret],
    ['secret', 'modified;differs;mode=0644', 'differs'],
  );
  assert.deepEqual(rulesOf({ secrets: [{ path: '/etc/shadow', state: 'same' }] }, policy), []);
  // A digest can be pinned only where it may be known.
  const pinned = policyOf(
    `files:\n  - {id: a, paths: [/etc/shadow], when: {sha256: ['${sha('a')}']}, effect: allowed, reason: x}\n`,
  );
  assert.equal(run({ secrets }, pinned).facts.allowed.etc, 0);
});

test('secrets without a drift line follow the lines, in the order of their paths', () => {
  const changes = pathChanges(
    [added('/etc/b', hidden(0)), added('/etc/z')],
    [
      { path: '/etc/y', state: 'differs' },
      { path: '/etc/b', state: 'added' },
      { path: '/etc/a', state: 'removed' },
      { path: '/etc/c', state: 'same' },
    ],
  );
  assert.deepEqual(
    changes.map(({ path, secret }) => [path, secret]),
    [
      ['/etc/b', 'added'],
      ['/etc/z', undefined],
      ['/etc/a', 'removed'],
      ['/etc/y', 'differs'],
    ],
  );
});

const signatures: [
  what: string,
  drift: Drift | undefined,
  secret: 'differs' | 'added' | 'removed' | undefined,
  signature: string,
][] = [
  ['an added file', added('/etc/x'), undefined, `added;type=file;mode=0644;uid=0;gid=0;sha256=${sha('a')}`],
  ['an added folder', added('/etc/x', folder()), undefined, 'added;type=dir;mode=0755;uid=0;gid=0'],
  [
    'an added link, whatever it holds',
    added('/etc/x', symlink('a;b c\n')),
    undefined,
    'added;type=symlink;uid=0;gid=0;link=a\\073b\\040c\\012',
  ],
  [
    'an added device',
    added('/etc/x', { type: 'char', mode: 0o600, uid: 0, gid: 0, device: '1:3' }),
    undefined,
    'added;type=char;mode=0600;uid=0;gid=0;device=1:3',
  ],
  ['a removed file, whatever it was', removed('/etc/x'), undefined, 'removed'],
  ['other content', replaced('/etc/x'), undefined, `modified;sha256=${sha('b')}`],
  [
    'other content of the same size',
    modified('/etc/x', { sha256: sha('c') }),
    undefined,
    `modified;sha256=${sha('c')}`,
  ],
  ['mode and owner', modified('/etc/x', { mode: 0o4755, uid: 1, gid: 2 }), undefined, 'modified;mode=4755;uid=1;gid=2'],
  ['a capability lost', modified('/etc/x', {}, file({ capability: 'AQ==' })), undefined, 'modified'],
  ['a link', modified('/etc/x', { link: '/b' }, symlink('/a')), undefined, 'modified;link=/b'],
  [
    'another type, with all that is known of it',
    modified('/etc/x', symlink('/a'), file({ mode: 0 })),
    undefined,
    `modified;type=symlink;uid=0;gid=0;sha256=${sha('a')};link=/a`,
  ],
  ['a secret that differs', undefined, 'differs', 'differs'],
  ['a secret that is new', undefined, 'added', 'added'],
  ['a secret that is gone', removed('/etc/x', hidden(0)), 'removed', 'removed'],
  ['a new secret with its mode', added('/etc/x', hidden(0o600)), 'added', 'added;type=file;mode=0600;uid=0;gid=0'],
];
for (const [what, drift, secret, signature] of signatures)
  test(`change signature: ${what}`, () => assert.equal(signatureOf({ path: '/etc/x', drift, secret }), signature));

test('a capability that was lost shows as a dash', () => {
  const { capability: _, ...without } = file({ capability: 'AQ==' });
  const drift: Drift = { path: '/etc/x', change: 'modified', expected: file({ capability: 'AQ==' }), actual: without };
  assert.equal(signatureOf({ path: '/etc/x', drift, secret: undefined }), 'modified;capability=-');
});

test('the signature does not tell the image: other expectations, same observation, same signature', () => {
  const a = signatureOf({ path: '/etc/x', drift: replaced('/etc/x'), secret: undefined });
  const b = signatureOf({
    path: '/etc/x',
    drift: replaced('/etc/x', file({ sha256: sha('9'), size: 7 })),
    secret: undefined,
  });
  assert.equal(a, b);
});

test('without a manifest nothing is drift, and nothing in the trees may resolve', () => {
  for (const state of ['pending', 'failed', 'unknown', 'not-allowed'] as const) {
    const manifest = { state, image: IMAGE, code: 'MANIFEST_PENDING', detail: 'because' };
    const { judgements, facts, seen } = run(
      { manifest, drift: [added('/usr/x')], secrets: [{ path: '/etc/shadow', state: 'differs' }] },
      DEFAULT,
    );
    assert.ok(judgements.every(({ kind }) => kind === 'manifest'));
    assert.deepEqual(facts.manifest, manifest);
    assert.ok(!seen.trees.usr.told && !seen.trees.etc.told);
    assert.ok(seen.kinds.includes('overlay') && seen.kinds.includes('manifest'));
  }
});

test("a difference that another importer's rule explains is a label, not drift; a changed secret is never one", () => {
  const drift = [modified('/usr/lib/x', { mode: 0o700 }, folder()), added('/etc/hostname', file({ size: 0 }))];
  const secrets = [{ path: '/etc/shadow', state: 'differs' }] as const;
  const variant = (line: Drift) => (line.path === '/etc/other' ? undefined : 'ostree/1-debris');
  const { judgements, facts } = run({ drift: [...drift, added('/etc/other')], secrets, variant });
  assert.deepEqual(
    judgements.map(({ subject }) => subject),
    ['/etc/other', '/etc/shadow'],
  );
  assert.deepEqual(facts.variants, { usr: 1, etc: 1 });
});

test('what lies over the image masks it: told by the host, or met by the walk', () => {
  const holes = {
    ...INTACT.trees,
    usr: { holes: [{ path: '/usr/bin/sudo', kind: 'mount', detail: 'xfs' } as Hole], holesCapped: false },
  };
  const masksOf = (evidence: Partial<Evidence>) =>
    run(evidence, DEFAULT).facts.masks.map(({ path, kind, effect }) => `${path} ${kind} ${effect}`);
  const over = (...overlays: (typeof DEPLOYMENT)['overlays']) => ({ deployment: { ...DEPLOYMENT, overlays } });
  assert.deepEqual(masksOf({ trees: holes }), ['/usr/bin/sudo other forbidden']);
  assert.deepEqual(masksOf({ trees: holes, ...over(overlay('/usr/bin/sudo', 'bind')) }), [
    '/usr/bin/sudo bind forbidden',
  ]);
  assert.deepEqual(masksOf(over(overlay('/usr', 'sysext'))), ['/usr sysext forbidden']);
  assert.deepEqual(masksOf(over(overlay('/etc', 'transient-etc', { masks: false }))), []);
  // The walk stopped there although it should hide nothing: then nothing was seen.
  const etc = {
    ...INTACT.trees,
    etc: { holes: [{ path: '/etc', kind: 'mount', detail: '' } as Hole], holesCapped: false },
  };
  assert.deepEqual(masksOf({ trees: etc, ...over(overlay('/etc', 'transient-etc', { masks: false })) }), [
    '/etc transient-etc allowed',
  ]);
  // A look beneath ends it.
  assert.deepEqual(masksOf(over(overlay('/usr', 'sysext', { beneath: 'image' }))), []);
  assert.deepEqual(masksOf(over(overlay('/usr', 'sysext', { beneath: 'altered' }))), ['/usr sysext forbidden']);
});

test('an overlay is taken by kind, place, access, effect on the image and detail', () => {
  const policy = policyOf(`state:
  - {id: ours, on: overlay, when: {kinds: [sysext], paths: [/usr], writable: false, masks: true, detail: ['system extensions ours']}, effect: allowed, reason: x}
`);
  const judge = (o: ReturnType<typeof overlay>) => run({ deployment: { ...DEPLOYMENT, overlays: [o] } }, policy);
  const ours = overlay('/usr', 'sysext', { detail: 'system extensions ours' });
  assert.deepEqual(judge(ours).judgements, []);
  assert.deepEqual(judge(ours).facts.masks, [{ path: '/usr', kind: 'sysext', effect: 'allowed' }]);
  for (const other of [
    { ...ours, detail: 'system extensions ours, theirs' },
    { ...ours, writable: true },
    { ...ours, path: '/usr/lib' },
    { ...ours, kind: 'confext' as const },
    { ...ours, masks: false },
  ])
    assert.equal(judge(other).judgements[0]?.rule, 'unnamed-overlay');
  // Another set of extensions is another finding.
  const [a, b] = [ours, { ...ours, detail: 'x;y' }].map(
    (o) => run({ deployment: { ...DEPLOYMENT, overlays: [o] } }).judgements[0]!,
  );
  assert.equal(a!.signature, 'sysext;ro;system\\040extensions\\040ours');
  assert.equal(b!.signature, 'sysext;ro;x\\073y');
});

test('kernel arguments: present ones by pattern, missing ones by pattern, none at all if they could not be read', () => {
  const policy = policyOf(`state:
  - {id: fine, on: karg, when: {present: [selinux=0x]}, effect: allowed, reason: x}
  - {id: bad, on: karg, when: {present: ['selinux=*', 'init=*']}, effect: forbidden, severity: high, reason: x}
  - {id: fips, on: karg, when: {missing: [fips=1, 'audit=*']}, effect: forbidden, severity: low, reason: x}
`);
  const kargs = (...list: string[]) => rulesOf({ deployment: { ...DEPLOYMENT, kargs: list } }, policy);
  assert.deepEqual(kargs('selinux=0', 'selinux=0', 'selinux=0x', 'audit=1'), ['bad selinux=0', 'fips fips=1']);
  assert.deepEqual(kargs('fips=1', 'audit=0', 'init=/bin/sh\u001b[0m'), ['bad init=/bin/sh\\x1b[0m']);
  assert.deepEqual(kargs(), []);
  assert.ok(!run({ deployment: { ...DEPLOYMENT, kargs: [] } }, policy).seen.kinds.includes('karg'));
});

test('verity, transient root and enforcement speak only where a rule asks, and only of what is known', () => {
  const policy = policyOf(`state:
  - {id: v, on: verity, effect: forbidden, severity: high, reason: x}
  - {id: t, on: transient-root, effect: forbidden, severity: low, reason: x}
  - {id: e, on: enforcement, effect: forbidden, severity: low, reason: x}
`);
  const booted = DEPLOYMENT.booted!;
  const signed = { ...booted, image: { ...booted.image!, signature: 'containerPolicy' } };
  const of = (more: Partial<typeof DEPLOYMENT>) => rulesOf({ deployment: { ...DEPLOYMENT, ...more } }, policy);
  assert.deepEqual(of({ verity: false, transientRoot: true }), ['v host', 't host', 'e host']);
  assert.deepEqual(of({ verity: null, transientRoot: null, booted: signed }), []);
  assert.deepEqual(of({ verity: true, booted: null }), []);
});

test('holes, manifests and flags are taken by their kinds', () => {
  const policy = policyOf(`state:
  - {id: logs, on: hole, when: {kinds: [unstable], paths: [/etc/log/*]}, effect: allowed, reason: x}
  - {id: wait, on: manifest, when: {codes: [MANIFEST_PENDING]}, effect: allowed, reason: x}
  - {id: gap, on: report, when: {flags: [chain-gap]}, effect: allowed, reason: x}
`);
  const holes = [
    { path: '/etc/log/a', kind: 'unstable', detail: '' },
    { path: '/etc/log/b', kind: 'unreadable', detail: '' },
    { path: '/etc/c\n', kind: 'unstable', detail: '' },
  ] as Hole[];
  const trees = { ...INTACT.trees, etc: { holes, holesCapped: false } };
  assert.deepEqual(rulesOf({ trees, flags: ['chain-gap', 'cloned'] }, policy), [
    'unnamed-hole /etc/log/b',
    'unnamed-hole /etc/c\\012',
    'unnamed-report host',
  ]);
  const manifest = (code: string) => ({ manifest: { state: 'pending', image: 'x', code, detail: null } as const });
  assert.deepEqual(rulesOf(manifest('MANIFEST_PENDING'), policy), []);
  assert.deepEqual(rulesOf(manifest('COMPARISON_PENDING'), policy), ['unnamed-manifest x']);
});

test('figures stand beside the flags that need them', () => {
  const { judgements } = run({
    truncated: { added: 1, removed: 2, modified: 3 },
    skewMs: 6 * 60_000,
    trees: { ...INTACT.trees, usr: { holes: [], holesCapped: true } },
  });
  assert.deepEqual(
    judgements.map(({ signature, detail }) => [signature, detail.note]),
    [
      ['clock-skew', '6 min ahead'],
      ['drift-truncated', 'added 1, removed 2, modified 3'],
      ['holes-capped', undefined],
    ],
  );
  assert.deepEqual(rulesOf({ skewMs: 5 * 60_000 }), []);
  assert.deepEqual(rulesOf({ skewMs: null }), []);
});

test('what was told: a cut or implausible report resolves nothing, unread kinds are not told', () => {
  const everything = [
    'silence',
    'overlay',
    'layered',
    'karg',
    'contradiction',
    'transient-root',
    'enforcement',
    'hole',
    'manifest',
    'report',
    'provenance',
  ];
  assert.deepEqual(run({}).seen.kinds, everything);
  for (const cut of [{ truncated: { added: 1, removed: 0, modified: 0 } }, { flags: ['scan-implausible'] as const }]) {
    const { seen } = run(cut);
    // Who signed the image is no matter of this report.
    assert.deepEqual(seen.kinds, ['silence', 'provenance']);
    assert.ok(!seen.trees.usr.told && !seen.trees.etc.told);
  }
  const capped = run({ trees: { ...INTACT.trees, usr: { holes: [], holesCapped: true } } }).seen;
  assert.deepEqual([capped.trees.usr.told, capped.trees.etc.told, capped.kinds.includes('hole')], [false, true, false]);
  const untold = { provenance: { image: IMAGE, told: false, faults: [] } };
  assert.ok(!run(untold).seen.kinds.includes('provenance'));
  assert.ok(!run({ silence: 'untold' }).seen.kinds.includes('silence'));
  const silent = run({ silence: 'noted' });
  assert.deepEqual(
    silent.judgements.filter(({ kind }) => kind === 'silence').map(({ rule }) => rule),
    ['unnamed-silence'],
  );
  assert.ok(silent.seen.kinds.includes('silence'));
  assert.ok(run({ deployment: { ...DEPLOYMENT, verity: true } }).seen.kinds.includes('verity'));
  for (const via of ['none', 'option'] as const)
    assert.ok(!run({ deployment: { ...DEPLOYMENT, via } }).seen.kinds.includes('layered'), via);
});

test('silence is judged by who watches the clock; age and rollback by what the server knows of images', () => {
  assert.equal(judgeSilence(DEFAULT, NO_HOST)[0]!.rule, 'host-silent');
  assert.deepEqual(judgeSilence(DEFAULT, NO_HOST)[0]!.subject, 'host');
  assert.equal(judgeSilence(NOTHING, NO_HOST)[0]!.rule, 'unnamed-silence');
  const quiet = policyOf('state:\n  - {id: q, on: silence, effect: allowed, reason: x}\n');
  assert.deepEqual(judgeSilence(quiet, NO_HOST), []);
  const asked = policyOf('freshness: {imageAgeMax: 30d, behindTagAfter: 1d}\n');
  const DAY = 86_400_000;
  const old = { image: IMAGE, at: 100 * DAY, madeAt: 1 * DAY, behindTagSince: undefined };
  const found = evaluate({ ...INTACT, age: old, lineage: { stale: [], rollback: null } }, asked);
  assert.deepEqual(
    found.judgements.map(({ rule, kind, subject, signature }) => [rule, kind, subject, signature]),
    [['unnamed-outdated', 'outdated', IMAGE, 'too-old']],
  );
  // Whether the tag moved is not known: so nothing that was found of it is over, and the verdict says so.
  assert.ok(!found.seen.kinds.includes('outdated') && found.seen.kinds.includes('rollback'));
  assert.equal(found.facts.age!.untold, true);
  const current = evaluate({ ...INTACT, age: { ...old, madeAt: 99 * DAY, behindTagSince: null } }, asked);
  assert.deepEqual([current.judgements, current.facts.age!.untold], [[], false]);
  assert.ok(current.seen.kinds.includes('outdated') && !current.seen.kinds.includes('stale-config'));
});

test('no subject and no signature has a line break, whatever names a host brings', () => {
  const name = 'a\n\r\u2028\u001b\u0000b';
  const { judgements } = run({
    drift: [added('/etc/a\n\x00b'), added('/etc/l', symlink(name.slice(0, 3)))],
    deployment: {
      ...DEPLOYMENT,
      overlays: [overlay(`/usr/${name}`, 'sysext', { detail: name })],
      kargs: [name],
      booted: { ...DEPLOYMENT.booted!, layered: [name] },
      contradictions: [name],
    },
    manifest: READY,
  });
  assert.ok(judgements.length >= 5);
  for (const { subject, signature } of judgements) assert.match(subject + signature, /^[\x20-\x7e]*$/);
});
