/** Verifying a bundle (docs/evidence.md 4): a good one passes, and each way of bending it is named by the step that is there for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toBase64 } from '#src/bytes.ts';
import { formatInstant } from '#src/clock.ts';
import { openZip } from '#src/evidence/zip.ts';
import { writeZip } from '#src/evidence/zipwriter.ts';
import { verifyBundle, type Brought, type Verification } from '#src/evidence/verify.ts';
import { KEPT_PAYLOAD_TYPE } from '#src/evidence/kept.ts';
import { PORTABLE } from '#src/log/proof.ts';
import { printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { fingerprintOf, type Signer } from '#src/signing/ed25519.ts';
import { cosignNote, noteKey, parseNote, printNote } from '#src/signing/note.ts';
import { nodeSigner, pkcs8OfSeed, verifyByKey, verifyInPool } from '#src/signing/node.ts';
import { AUTHORITY, issue, stampOf } from '../signing/tsa.ts';
import {
  bundleOf,
  checkpointAt,
  forkAt,
  FROM,
  goodParts,
  hostIds,
  server,
  signers,
  sha256,
  sourceOf,
  TO,
  type Bent,
  type Cut,
} from './madebundle.ts';

const key = fingerprintOf(server.publicKey);
const NOTHING: Brought = {
  keys: [key],
  logs: [],
  witnesses: [],
  tsas: [],
  known: [],
  consistency: [],
  from: undefined,
  to: undefined,
};

const verify = (bytes: Uint8Array, brought: Partial<Brought> = {}) =>
  verifyBundle(
    sourceOf(bytes),
    { ...NOTHING, ...brought },
    { verify: verifyInPool, verifyBy: verifyByKey, sha256, tree: PORTABLE },
  );
const failed = ({ steps }: Verification) => steps.filter(({ ok }) => !ok).map(({ check }) => check);
const detail = ({ steps }: Verification, check: string) => steps.find((step) => step.check === check)?.detail ?? '';

const good = await goodParts();
const goodBytes = await bundleOf(good);

for (const cut of ['whole', 'period', 'part'] as const satisfies Cut[])
  test(`a good bundle of ${cut} passes`, async () => {
    const parts = await goodParts(cut);
    const result = await verify(await bundleOf(parts));
    assert.deepEqual(failed(result), [], JSON.stringify(result.steps, null, 1));
    assert.deepEqual([result.ok, result.incomplete, result.level], [true, false, 0]);
  });

test('without a key that came another way nothing is called verified', async () => {
  const result = await verify(goodBytes, { keys: [] });
  assert.deepEqual([failed(result), result.ok, result.incomplete], [[], false, true]);
  assert.match(result.notChecked.join('\n'), /whose bundle this is/);
});

test('a bundle that was signed again by another key is refused by the key alone', async () => {
  const other = nodeSigner(pkcs8OfSeed(new Uint8Array(32).fill(99)));
  const result = await verify(await bundleOf({ ...good, signer: other }));
  assert.deepEqual(failed(result), ['key', 'manifests', 'reports']);
  assert.equal(result.ok, false);
});

// ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The same zip with members changed, as somebody would do who has no key. */
async function repacked(change: (members: Map<string, Uint8Array>) => void): Promise<Uint8Array> {
  const zip = await openZip(sourceOf(goodBytes));
  const members = new Map<string, Uint8Array>();
  for (const { name } of zip.members) {
    const pieces: Uint8Array[] = [];
    for await (const piece of zip.open(name)) pieces.push(piece);
    members.set(name, new Uint8Array(Buffer.concat(pieces)));
  }
  change(members);
  const out: Uint8Array[] = [];
  for await (const piece of writeZip([...members].map(([name, content]) => ({ name, content })))) out.push(piece);
  return new Uint8Array(Buffer.concat(out));
}

test('packed again without a change it is the same bundle', async () => {
  assert.equal((await verify(await repacked(() => {}))).ok, true);
});

const names = (await openZip(sourceOf(goodBytes))).members.map(({ name }) => name);
test('one byte changed in any member is named', async () => {
  for (const name of names) {
    const bytes = await repacked((members) => {
      const content = Uint8Array.from(members.get(name)!);
      const middle = content.length >> 1;
      if (content.length > 0) content[middle]! ^= 1;
      members.set(name, content.length === 0 ? Uint8Array.of(0) : content);
    });
    const result = await verify(bytes);
    assert.equal(result.ok, false, name);
    if (name === 'statement.dsse.json')
      assert.ok(['statement', 'signature'].includes(failed(result)[0]!), String(failed(result)));
    else assert.match(detail(result, 'members'), new RegExp(`^${name.replaceAll('.', '\\.')} was changed$`));
  }
});
test('any member that is missing is named', async () => {
  for (const name of names) {
    const result = await verify(await repacked((members) => members.delete(name)));
    assert.equal(result.ok, false, name);
    if (name !== 'statement.dsse.json') assert.equal(detail(result, 'members'), `${name} is missing`);
  }
});
test('a member that nobody signed is named, whatever it is called', async () => {
  for (const name of ['report/extra.html', 'README', 'records/acts-00002.ndjson']) {
    const result = await verify(await repacked((members) => members.set(name, Uint8Array.of(1))));
    assert.deepEqual(
      [failed(result), detail(result, 'members')],
      [['members'], `${name} is unknown: the statement does not name it`],
    );
  }
});

// ── what a server that lies would sign ───────────────────────────────────────────────────────────────────────────────

type Bend = readonly [name: string, step: string, says: RegExp, bend: (parts: Bent) => void];
const set = <T>(list: T[], index: number, change: Partial<T>) => {
  list[index] = { ...list[index]!, ...change };
};
const bends: readonly Bend[] = [
  [
    'an entry changed',
    'log',
    /another root/,
    ({ entries }) => {
      const text = new TextDecoder().decode(entries[0]).replace('"count":24', '"count":23');
      entries[0] = new TextEncoder().encode(text);
    },
  ],
  ['an entry removed', 'log', /it holds entries up to/, ({ entries }) => entries.pop()],
  ['two entries in another order', 'log', /another root/, ({ entries }) => entries.unshift(...entries.splice(1, 1))],
  ['another left edge', 'log', /another root/, ({ left }) => (left[0] = new Uint8Array(32))],
  [
    'a checkpoint of a fork',
    'checkpoint',
    /not the one that the statement names/,
    (parts) => (parts.checkpoint = fork),
  ],
  ['a report left out', 'records', /a report of h_.*left out/, ({ records }) => records.reports.splice(4, 1)],
  ['a judgement left out', 'records', /a judgement of h_.*left out/, ({ records }) => records.judgements.splice(0, 1)],
  [
    'an act left out',
    'records',
    /a act: what it is about was left out|an act/,
    ({ records }) => records.acts.splice(-2, 1),
  ],
  [
    'a report that was put in its place',
    'records',
    /not what was logged/,
    ({ records }) => set(records.reports, 4, { payload: records.reports[5]!.payload }),
  ],
  [
    'another salt',
    'records',
    /not what was logged/,
    ({ records }) => set(records.acts, 0, { salt: toBase64(new Uint8Array(32)) }),
  ],
  [
    'an earlier record without its proof',
    'records',
    /has no proof/,
    ({ records }) => set(records.acts, 0, { proven: null }),
  ],
  [
    'an earlier record with another proof',
    'records',
    /is not in the tree/,
    ({ records }) =>
      set(records.acts, 0, { proven: { ...records.acts[0]!.proven!, proof: records.acts[1]!.proven!.proof } }),
  ],
  [
    'a host dropped with all its records',
    'population',
    /was dropped/,
    (parts) => {
      const [host] = parts.hosts.splice(0, 1);
      const of = (index: number) =>
        new TextDecoder().decode(parts.entries[index - parts.head.log.from]).includes(host!.host);
      parts.records.reports = parts.records.reports.filter(({ index, proven }) => proven === null && !of(index));
    },
  ],
  [
    'a host said to be out of scope',
    'population',
    /left out of a bundle of every host/,
    ({ hosts }) => (hosts[0] = { host: hosts[0]!.host, inScope: false }),
  ],
  ['another key for a host', 'population', /with another key/, ({ hosts }) => set(hosts, 0, { key: server.publicKey })],
  ['no enrolment', 'population', /with another key or place/, ({ hosts }) => set(hosts, 0, { enrolment: 4000 })],
  [
    'an image that is not said',
    'reports',
    /not among the host's deployments/,
    ({ hosts }) => set(hosts, 0, { deployments: [] }),
  ],
  [
    'more check-ins than numbers',
    'completeness',
    /80 check-ins are claimed/,
    ({ hosts }) => set(hosts, 0, { checkIns: { expected: 72, received: 80, longestSeconds: 1 } }),
  ],
  [
    'fewer check-ins expected',
    'completeness',
    /by its interval it is 72/,
    ({ hosts }) => set(hosts, 0, { checkIns: { expected: 60, received: 60, longestSeconds: 1 } }),
  ],
  ['a finding left out', 'findings', /left out of the findings/, ({ findings }) => findings.pop()],
  [
    'a finding softened',
    'findings',
    /not logged in entry/,
    ({ findings }) => {
      const { history } = findings[0]!;
      set(findings, 0, { history: history.map((one) => ({ ...one, severity: 1 })) });
    },
  ],
  [
    'a finding said to be closed',
    'findings',
    /it is closed, its history ends with new/,
    ({ findings }) => set(findings, 0, { history: findings[0]!.history.slice(0, 1) }),
  ],
  [
    'a better standing',
    'findings',
    /what was logged last/,
    ({ hosts }) => {
      const host = hosts.find((one) => one.host === hostIds[1])!;
      set(hosts, hosts.indexOf(host), {
        standing: { ...(host as never as { standing: object }).standing, verdict: 'drifted' },
      } as never);
    },
  ],
  ['a waiver left out', 'decisions', /waiver.request of waiver:W-1 is left out/, ({ decisions }) => decisions.pop()],
  [
    'a waiver of somebody else',
    'decisions',
    /by bob/,
    ({ decisions }) => set(decisions, 0, { history: [{ ...decisions[0]!.history[0]!, actor: 'carol' }] }),
  ],
  [
    'a policy dated back',
    'policies',
    /policy.apply of policy:1/,
    ({ policies }) => set(policies, 0, { inForce: { from: formatInstant(FROM - 1), to: null } }),
  ],
  ['a policy of nowhere', 'policies', /is not in the bundle/, ({ policies }) => set(policies, 0, { index: 4000 })],
  [
    'a manifest by another key',
    'manifests',
    /not signed by the server's key/,
    ({ headers }) => (headers[0] = foreignHeader),
  ],
  [
    'a text swapped',
    'manifests',
    /another digest/,
    ({ files }) => {
      const texts = files.filter(({ name }) => name.startsWith('manifests/'));
      const [a, b] = texts.slice(0, 2).map((text) => files.indexOf(text)) as [number, number];
      [files[a], files[b]] = [
        { ...files[a]!, content: files[b]!.content },
        { ...files[b]!, content: files[a]!.content },
      ];
    },
  ],
  [
    'a text missing',
    'manifests',
    /is missing/,
    ({ files }) =>
      files.splice(
        files.findIndex(({ name }) => name.startsWith('manifests/')),
        1,
      ),
  ],
  ['no manifest', 'reports', /which is not in the bundle/, ({ headers }) => headers.pop()],
  [
    'a policy rewritten',
    'documents',
    /not the document/,
    ({ files }) => replace(files, 'policies/1-default.yaml', () => 'other'),
  ],
  [
    'a row too few',
    'csv',
    /has 2 hosts/,
    ({ files }) => replace(files, 'csv/population.csv', (text) => text.replace(/h_[^\n]*\n/, '')),
  ],
  [
    'another sample',
    'csv',
    /is not what its seed/,
    ({ files }) => replace(files, 'csv/sample.csv', (text) => text.replace(/h_[^\n]*\n/, '')),
  ],
  [
    'an older log for a newer period',
    'log',
    /an older log/,
    (parts) => {
      parts.head = {
        ...parts.head,
        period: { ...parts.head.period, to: formatInstant(TO + 5 * 3_600_000) },
        exportedAt: formatInstant(TO + 6 * 3_600_000),
      };
    },
  ],
  [
    'a period that is not over',
    'period',
    /before the period/,
    (parts) => (parts.head = { ...parts.head, exportedAt: formatInstant(TO - 1) }),
  ],
  [
    'entries of the period before its first',
    'log',
    /within the period/,
    (parts) => {
      parts.head = { ...parts.head, period: { ...parts.head.period, from: formatInstant(FROM - 48 * 3_600_000) } };
    },
  ],
  [
    'a name that bundles do not have',
    'members',
    /no member of a bundle/,
    ({ files }) => files.push({ name: 'other', content: new Uint8Array() }),
  ],
];
function replace(files: Bent['files'], name: string, change: (text: string) => string): void {
  const index = files.findIndex((file) => file.name === name);
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(files[index]!.content as Uint8Array);
  files[index] = { name, content: new TextEncoder().encode(change(text)) };
}
const fork = await forkAt(good.head.log.size);
const foreignHeader = good.headers[0]!.replace(/"sig":"[^"]*"/, `"sig":"${toBase64(new Uint8Array(64))}"`);

for (const [name, step, says, bend] of bends)
  test(`signed by the server itself, ${name} is refused`, async () => {
    const parts: Bent = structuredClone({ ...good, signer: null }) as never;
    parts.signer = server;
    bend(parts);
    const result = await verify(await bundleOf(parts));
    assert.ok(failed(result).includes(step), JSON.stringify(result.steps, null, 1));
    assert.match(detail(result, step), says);
    assert.equal(result.ok, false);
  });

// ── what the auditor brings ──────────────────────────────────────────────────────────────────────────────────────────

test('a checkpoint that somebody kept raises the level, and one of a fork is refused', async () => {
  const whole = await goodParts('whole');
  const bytes = await bundleOf(whole);
  const kept = await checkpointAt(whole, 9);
  const result = await verify(bytes, { known: [{ name: 'kept', text: kept }] });
  assert.deepEqual([result.ok, result.level], [true, 1]);
  const forked = await verify(bytes, {
    known: [
      { name: 'kept', text: kept },
      { name: 'other', text: await forkAt(9) },
    ],
  });
  assert.deepEqual([failed(forked), forked.ok], [['known-checkpoint'], false]);
  const newer = await verify(bytes, { known: [{ name: 'newer', text: await forkAt(whole.head.log.size + 5) }] });
  assert.deepEqual([failed(newer), newer.incomplete, newer.level], [[], true, 0]);
  const unsigned = kept.replace('\n9\n', '\n8\n');
  for (const text of ['no checkpoint', unsigned])
    assert.deepEqual(failed(await verify(bytes, { known: [{ name: 'none', text }] })), ['known-checkpoint']);
  const printed = async (signer: Signer) => {
    const document = {
      version: 1,
      host: hostIds[0]!,
      at: formatInstant(TO),
      checkpoint: kept,
      past: [],
      refused: null,
    };
    return `${printEnvelope(await signEnvelope(KEPT_PAYLOAD_TYPE, canonicalJson(document), signer))}\n`;
  };
  const byHost = await verify(bytes, { known: [{ name: 'host', text: await printed(signers[0]!) }] });
  assert.deepEqual([byHost.ok, byHost.level], [true, 1]);
  const byOther = await verify(bytes, { known: [{ name: 'host', text: await printed(signers[1]!) }] });
  assert.deepEqual([failed(byOther), byOther.level], [['known-checkpoint'], 0]);
});

/** A bundle of the whole log whose checkpoint others signed and stamped, the stamps of these sizes, by these authorities. */
async function anchored(
  stamps: readonly (readonly [name: string, size: number, tsa?: typeof AUTHORITY.tsa])[],
  cosigned = false,
) {
  const parts = await goodParts('whole');
  const { size } = parts.head.log;
  for (const [name, at, tsa = AUTHORITY.tsa] of stamps) {
    const text = parseNote(at === size ? parts.checkpoint : await checkpointAt(parts, at)).text;
    const hash = sha256().update(text).digest();
    parts.files.push({ name: `log/timestamps/${name}`, content: stampOf(hash, tsa, { time: TO + at }) });
  }
  if (cosigned) {
    const note = parseNote(parts.checkpoint);
    const line = await cosignNote(note.text, 'w.example', signers[2]!, 1_800_000_000);
    parts.checkpoint = printNote({ ...note, signatures: [...note.signatures, line] });
  }
  return { parts, size };
}
const told = { tsas: [AUTHORITY.root.read] };

test('a timestamp over the checkpoint, or one of an earlier size, is level 2 for who trusts its authority', async () => {
  const { size } = (await goodParts('whole')).head.log;
  const { parts } = await anchored([
    ['tsa.tsr', size],
    [`tsa.${size}.tsr`, size],
    ['tsa.9.tsr', 9],
  ]);
  parts.head = { ...parts.head, log: { ...parts.head.log, level: 2 } };
  const bytes = await bundleOf(parts);
  const result = await verify(bytes, told);
  assert.deepEqual([failed(result), result.level], [[], 2]);
  assert.match(result.notChecked.join(), /whether a certificate of a timestamp authority was revoked/);
  assert.match(detail(result, 'timestamps'), new RegExp(`TSA stamped ${size} entries at .* TSA stamped 9 entries`));
  const without = await verify(bytes);
  assert.deepEqual([failed(without), without.level], [[], 0]);
  assert.match(without.notChecked.join(), /3 timestamps: certificates of their authorities were not given.*level 2/);
  const stranger = await verify(bytes, { tsas: [issue({ name: 'Other', issuer: null, path: null }).read] });
  assert.deepEqual([failed(stranger), stranger.level], [[], 0]);
  assert.match(stranger.notChecked.join(), /3 timestamps by authorities that the trusted root does not name/);
});

for (const [what, name, size, says] of [
  ['of another size than it says', 'tsa.8.tsr', 9, /tsa\.8\.tsr: the timestamp is over something else/],
  ['of an earlier size, passed off for the newest', 'tsa.tsr', 9, /over something else/],
] as const)
  test(`a timestamp ${what} is refused`, async () => {
    const { parts } = await anchored([[name, size]]);
    const result = await verify(await bundleOf(parts), told);
    assert.deepEqual([failed(result), result.level], [['timestamps'], 0]);
    assert.match(detail(result, 'timestamps'), says);
  });

test('what is no timestamp is refused where an authority is trusted, and one that lies before the bundle is left open', async () => {
  const { parts } = await anchored([]);
  parts.files.push({ name: 'log/timestamps/x.tsr', content: new Uint8Array([1, 2, 3]) });
  assert.deepEqual(failed(await verify(await bundleOf(parts), told)), ['timestamps']);
  const { parts: whole } = await anchored([['tsa.1.tsr', 1]]);
  const period = await goodParts('period');
  period.files.push(whole.files.at(-1)!);
  const result = await verify(await bundleOf(period), told);
  assert.deepEqual(failed(result), []);
  assert.match(result.notChecked.join(), /1 timestamp of sizes that lie outside/);
});

test('a witness that is trusted is level 2; a statement of level 2 with nobody else on the checkpoint is false', async () => {
  const { parts } = await anchored([], true);
  parts.head = { ...parts.head, log: { ...parts.head.log, level: 2 } };
  const bytes = await bundleOf(parts);
  const witnesses = [noteKey('w.example', 4, signers[2]!.publicKey)];
  const seen = await verify(bytes, { witnesses });
  assert.deepEqual([failed(seen), seen.level], [[], 2]);
  assert.match(detail(seen, 'witness'), /w\.example saw it at 2027-01-15/);
  const blind = await verify(bytes);
  assert.deepEqual([failed(blind), blind.level], [[], 0]);
  const alone = await goodParts('whole');
  alone.head = { ...alone.head, log: { ...alone.head.log, level: 2 } };
  assert.deepEqual(failed(await verify(await bundleOf(alone))), ['witness']);
});

test('a checkpoint that a host repeated in its report, and that the log signed for another tree, shows the fork', async () => {
  const fine = await verify(
    await bundleOf(await goodParts('whole', { echo: await checkpointAt(await goodParts('whole'), 5) })),
  );
  assert.equal(fine.ok, true, JSON.stringify(fine.steps, null, 1));
  assert.match(detail(fine, 'echoes'), /^1 checkpoint of/);
  const forked = await verify(await bundleOf(await goodParts('whole', { echo: await forkAt(5) })));
  assert.deepEqual(failed(forked), ['echoes']);
  // What a host makes up is its own word: it cannot bring the server's evidence down.
  const lie = (await forkAt(5)).replace(/\n[^\n]*=\n\n/, `\n${toBase64(new Uint8Array(32))}\n\n`);
  const lied = await verify(await bundleOf(await goodParts('whole', { echo: lie })));
  assert.equal(lied.ok, true);
  assert.match(lied.notChecked.join('\n'), /that this one never signed/);
  const refused = await verify(
    await bundleOf(await goodParts('whole', { echo: `\nrefused LOG_FORKED\n${await forkAt(5)}` })),
  );
  assert.deepEqual(failed(refused), ['echoes']);
});

test('the period that was asked for is held against the bundle', async () => {
  assert.equal((await verify(goodBytes, { from: FROM, to: TO })).ok, true);
  assert.deepEqual(failed(await verify(goodBytes, { to: TO + 1 })), ['period']);
  assert.deepEqual(failed(await verify(goodBytes, { from: FROM - 1 })), ['period']);
});

test('a purged report is told where the log tells of it, and else it was left out', async () => {
  const parts = await goodParts('period', { purged: 1 });
  set(parts.records.reports, 4, { salt: null, payload: null });
  const result = await verify(await bundleOf(parts));
  assert.equal(result.ok, true, JSON.stringify(result.steps, null, 1));
  assert.match(result.notChecked.join('\n'), /1 reports that were purged/);
  set(parts.records.reports, 5, { salt: null, payload: null });
  const more = await verify(await bundleOf(parts));
  assert.match(detail(more, 'records'), /2 reports are said to be purged; the log tells of 1/);
});

test('what is no zip, and what is cut off, is refused in the first step', async () => {
  for (const bytes of [new Uint8Array(), goodBytes.subarray(0, -1), goodBytes.subarray(1)])
    assert.deepEqual(failed(await verify(bytes)), ['archive']);
});
