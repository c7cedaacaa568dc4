/** A small fleet over three days, and its evidence bundle: real keys, signed reports, a log. Each part can be bent before it is written. */
import { createHash } from 'node:crypto';
import { toBase64 } from '#src/bytes.ts';
import { formatInstant } from '#src/clock.ts';
import { digestOf, type Digest } from '#src/digest.ts';
import type { LogEdge, LogRecord, ProvenEntry } from '#src/evidence/bundle.ts';
import {
  factsOf,
  type BundleHead,
  type DecisionFact,
  type FindingFact,
  type HostFact,
  type ImageFact,
  type PolicyFact,
} from '#src/evidence/facts.ts';
import { drawSample } from '#src/evidence/sample.ts';
import { writeBundle, type BundleParts } from '#src/evidence/writer.ts';
import type { NewMember, ZipSource } from '#src/evidence/zip.ts';
import { signCheckpoint } from '#src/log/checkpoint.ts';
import { encodeEntry, saltedDigest, type LogEntry } from '#src/log/entry.ts';
import { PORTABLE, proveInclusion, rootAt, subtreesOf, type HashReader } from '#src/log/proof.ts';
import { rootOfWhole } from '#src/log/tile.ts';
import { MANIFEST_HEADER_TYPE } from '#src/manifest/header.ts';
import type { FullReport, SameReport } from '#src/report/report.ts';
import { sealReport, stateDigest } from '#src/report/seal.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import { noteKey, printVkey } from '#src/signing/note.ts';
import { hostIdFrom } from '#src/wire/hostid.ts';
import { full, manifest } from '../report/vectors.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
export const FROM = Date.parse('2026-07-01T00:00:00.000Z');
export const TO = FROM + 3 * DAY;
const ORIGIN = 'bootproof.example/log';
const encoder = new TextEncoder();

const signerOf = (n: number): Signer => nodeSigner(pkcs8OfSeed(new Uint8Array(32).fill(n)));
export const server = signerOf(1);
const logSigner = signerOf(2);
export const logKey = noteKey(ORIGIN, 1, logSigner.publicKey);
export const hostIds = [3, 4, 5].map((n) => hostIdFrom(new Uint8Array(16).fill(n)));
export const signers = [3, 4, 5].map(signerOf);

/** The parts that tests bend. */
export type Bent = {
  head: BundleHead;
  hosts: HostFact[];
  images: ImageFact[];
  findings: FindingFact[];
  decisions: DecisionFact[];
  policies: PolicyFact[];
  records: Record<'reports' | 'judgements' | 'acts', LogRecord[]>;
  entries: Uint8Array[];
  left: Uint8Array[];
  edge: LogEdge;
  checkpoint: string;
  headers: string[];
  files: NewMember[];
  signer: Signer;
};

class LogMaker {
  readonly logged: { readonly entry: LogEntry; readonly payload: string; readonly salt: Uint8Array }[] = [];

  add(said: { kind: string; host: string | null; facts: unknown }, at: number, payload: string): number {
    const index = this.logged.length;
    const salt = createHash('sha256').update(`salt ${index}`).digest();
    const digest = saltedDigest(salt, encoder.encode(payload));
    this.logged.push({ entry: { v: 1, at: formatInstant(at), digest, ...said } as LogEntry, payload, salt });
    return index;
  }

  act(action: string, object: string, at: number, after: unknown = null, actor = 'alice'): number {
    const host = /^host:(.*)$/.exec(object)?.[1] ?? null;
    const id = `a_${this.logged.length}`;
    const trail = {
      id,
      at: formatInstant(at),
      actor,
      action,
      object,
      note: null,
      before: 'null',
      after: JSON.stringify(after),
    };
    return this.add({ kind: 'act', host, facts: { action } }, at, JSON.stringify(trail));
  }
}

const { image, rule } = manifest.header;

/** A host that lists no difference: its digests are the manifest's. */
function fullOf(host: string, seq: number, at: number): FullReport {
  const tree = (name: 'usr' | 'etc') => {
    const { main, extra, entries } = manifest.header.trees[name];
    return { main: main.comparison, extra, entries, holes: [], holesCapped: false };
  };
  const booted = full.document.deployment.booted!;
  return {
    ...full.document,
    host,
    seq,
    startedAt: formatInstant(at - 1000),
    finishedAt: formatInstant(at),
    previous: null,
    manifest: { image, rule },
    deployment: { ...full.document.deployment, booted: { ...booted, image: { ...booted.image!, digest: image } } },
    trees: { usr: tree('usr'), etc: tree('etc') },
    drift: [],
    secrets: [],
    secretPaths: { id: manifest.header.secretPaths, added: [] },
    challenge: null,
  };
}

function sameOf(report: FullReport, fullDigest: Digest, count: number, at: number): SameReport {
  const { version, host, bootId, challenge, checkpoint, dropped, trees } = report;
  const digests = ({ main, extra }: FullReport['trees']['usr']) => ({ main, extra });
  return {
    version,
    host,
    seq: 1 + count,
    bootId,
    challenge,
    checkpoint,
    dropped,
    startedAt: formatInstant(at - 1000),
    finishedAt: formatInstant(at),
    kind: 'same',
    full: fullDigest,
    count,
    trees: { usr: digests(trees.usr), etc: digests(trees.etc) },
    state: stateDigest(report.deployment),
  };
}

type Story = Pick<Bent, 'hosts' | 'findings' | 'decisions' | 'policies'>;

/** A day before the period: a policy, three hosts, their full reports. Then three days of them, a finding that comes and goes, a waiver. */
async function story(log: LogMaker, echo: string | null): Promise<Story> {
  const enrolledAt = FROM - DAY;
  const policyAt = enrolledAt - HOUR;
  const applied = log.act('policy.apply', 'policy:1', policyAt, { version: 1 });
  const enrolments = hostIds.map((host, i) =>
    log.act('host.enrol', `host:${host}`, enrolledAt, { publicKey: signers[i]!.publicKey }),
  );
  const heads: { readonly report: FullReport; readonly digest: Digest }[] = [];
  for (const [i, host] of hostIds.entries()) {
    const report = fullOf(host, 1, enrolledAt + HOUR);
    const { text, digest } = await sealReport(report, signers[i]!);
    log.add({ kind: 'report', host, facts: { report: 'full', seq: 1, copy: 0, count: null } }, enrolledAt + HOUR, text);
    heads.push({ report, digest });
  }
  const history: FindingFact['history'] = [];
  const judge = (host: string, at: number, transition: 'new' | 'resolved', from: string, to: string) => {
    const finding = { group: 'fg_1', episode: 1, transition, severity: 3, why: null };
    const turned = { before: { verdict: from, told: from }, after: { verdict: to, told: to } };
    const payload = { host, revision: history.length, at: formatInstant(at), seq: 2, ...turned, findings: [finding] };
    const facts = { findings: 1, verdict: { from, to } };
    const index = log.add({ kind: 'judgement', host, facts }, at, JSON.stringify(payload));
    history.push({ index, at: formatInstant(at), transition, episode: 1, severity: 3, why: null });
  };
  const asked: DecisionFact['history'] = [];
  for (let day = 0; day < 3; day++)
    for (const [i, host] of hostIds.entries()) {
      const at = FROM + day * DAY + 23 * HOUR + i * 1000;
      if (i === 1 && day === 1) judge(host, at, 'new', 'compliant', 'drifted');
      const count = 24 * (day + 1);
      const { text } = await sealReport(
        { ...sameOf(heads[i]!.report, heads[i]!.digest, count, at), checkpoint: echo },
        signers[i]!,
      );
      log.add({ kind: 'report', host, facts: { report: 'same', seq: 1 + count, copy: 0, count } }, at, text);
      if (i === 1 && day === 2) judge(host, at, 'resolved', 'drifted', 'compliant');
      if (i !== 0 || day !== 1) continue;
      const index = log.act('waiver.request', 'waiver:W-1', at, null, 'bob');
      asked.push({ index, at: formatInstant(at), actor: 'bob', action: 'waiver.request', note: null });
    }
  log.act('session.begin', 'account:alice', TO - HOUR);
  log.act('evidence.export', 'evidence', TO + HOUR);
  const host = (id: string, i: number): HostFact => ({
    host: id,
    inScope: true,
    name: `web-${i}`,
    group: 'web',
    labels: [],
    key: signers[i]!.publicKey,
    enrolment: enrolments[i]!,
    enrolledAt: formatInstant(enrolledAt),
    retiredAt: null,
    intervalSeconds: 3600,
    checkIns: { expected: 72, received: 72, longestSeconds: 3600 },
    gaps: [],
    standing: {
      verdict: 'compliant',
      integrity: 'intact',
      provenance: 'not-assessed',
      freshness: 'current',
      allowed: 0,
      waived: 0,
    },
    deployments: [{ image, rule, enforced: null, from: formatInstant(enrolledAt), to: null }],
    staged: null,
    rollback: null,
  });
  return {
    hosts: hostIds.map(host).sort((a, b) => (a.host < b.host ? -1 : 1)),
    findings: [
      {
        host: hostIds[1]!,
        group: 'fg_1',
        rule: 'usr-bin',
        kind: 'drift',
        subject: '/usr/bin/x',
        severity: 'high',
        controls: ['nist-800-53:SI-7'],
        firstSeen: history[0]!.at,
        open: false,
        disposition: 'none',
        waiver: null,
        answeredAt: history[1]!.at,
        history,
      },
    ],
    decisions: [
      {
        id: 'W-1',
        kind: 'waiver',
        state: 'requested',
        title: 'a',
        justification: 'b',
        ticket: null,
        covers: '{}',
        requestedBy: 'bob',
        requestedAt: asked[0]!.at,
        decidedBy: null,
        decidedAt: null,
        alone: false,
        startsAt: null,
        endsAt: null,
        history: asked,
      },
    ],
    policies: [
      {
        kind: 'host',
        version: 1,
        digest: digestOf('policy'),
        name: 'default',
        documents: [{ file: 'default.yaml', member: 'policies/1-default.yaml', digest: digestOf('policy\n') }],
        inForce: { from: formatInstant(policyAt), to: null },
        by: 'alice',
        note: null,
        index: applied,
      },
    ],
  };
}

/** How the bundle is cut: with every entry of the log, those from the period on, or none of them but proofs. */
export type Cut = 'whole' | 'period' | 'part';

const readerOf =
  (leaves: readonly Uint8Array[]): HashReader =>
  ({ height, index }) =>
    rootOfWhole(leaves.slice(index * 2 ** height, (index + 1) * 2 ** height));

/** The good parts, before they are bent; the log tells that so many reports were purged, reports of the period repeat the checkpoint `echo`. */
export async function goodParts(
  cut: Cut = 'period',
  { purged = 0, echo = null }: { readonly purged?: number; readonly echo?: string | null } = {},
): Promise<Bent> {
  const log = new LogMaker();
  const facts = await story(log, echo);
  if (purged > 0) {
    const said = { of: 'report', count: purged, before: formatInstant(TO) };
    log.add({ kind: 'purge', host: null, facts: said }, TO + HOUR, '[]');
  }
  const bytes = log.logged.map(({ entry }) => encodeEntry(entry));
  const size = bytes.length;
  const read = readerOf(bytes.map((entry) => PORTABLE.leaf(entry)));
  const root = await rootAt(size, read);
  const first = log.logged.findIndex(({ entry }) => Date.parse(entry.at) >= FROM);
  const from = cut === 'whole' ? 0 : cut === 'part' ? size : first;
  const proven = async (index: number): Promise<ProvenEntry> => ({
    index,
    entry: toBase64(bytes[index]!),
    proof: (await proveInclusion(index, size, read)).map((hash) => toBase64(hash)),
  });
  const records: Bent['records'] = { reports: [], judgements: [], acts: [] };
  for (const [index, { entry, payload, salt }] of log.logged.entries()) {
    const list = entry.kind === 'report' ? 'reports' : entry.kind === 'judgement' ? 'judgements' : 'acts';
    const proof = index < from ? await proven(index) : null;
    records[list].push({ index, proven: proof, salt: toBase64(salt), payload });
  }
  const left: Uint8Array[] = [];
  for (const node of subtreesOf(0, from)) left.push(await read(node));
  const headers = [printEnvelope(await signEnvelope(MANIFEST_HEADER_TYPE, canonicalJson(manifest.header), server))];
  const table = (ids: readonly string[]) =>
    encoder.encode(`\uFEFFhost,name\r\n${ids.map((id) => `${id},x\r\n`).join('')}`);
  const files: NewMember[] = [
    { name: 'policies/1-default.yaml', content: encoder.encode('policy\n') },
    { name: 'csv/population.csv', content: table(facts.hosts.map(({ host }) => host)) },
    { name: 'csv/sample.csv', content: table(drawSample(hostIds, 'seed', 2)) },
  ];
  const texts = new Map<string, string>();
  for (const tree of ['usr', 'etc'] as const) {
    texts.set(manifest.header.trees[tree].main.full, manifest.trees[tree].main);
    texts.set(manifest.header.trees[tree].extra, manifest.trees[tree].extra);
  }
  for (const [digest, text] of texts) {
    const content = Uint8Array.from(text, (char) => char.charCodeAt(0));
    files.push({ name: `manifests/texts/${digest.slice('sha256:'.length)}`, content });
  }
  const head: BundleHead = {
    server: { version: '0.1.0', name: 'bootproof.example' },
    exportedAt: formatInstant(TO + HOUR),
    exportedBy: 'alice',
    period: { from: formatInstant(FROM), to: formatInstant(TO) },
    selection: cut === 'part' ? { hosts: 'part', filter: 'group:web' } : { hosts: 'all' },
    frameworks: ['nist-800-53'],
    parameters: { completenessMin: 0.9, answerHours: 24 },
    log: { origin: ORIGIN, key: printVkey(logKey), size, root: toBase64(root), from, level: 0 },
    notices: { delivered: 3, failed: 0 },
    sampling: { method: 'sha256-order/1', seed: 'seed', size: 2 },
  };
  const trust = { state: 'not-assessed', by: null, policy: null, why: null, since: null, verifiedAt: null } as const;
  return {
    head,
    ...facts,
    images: [
      {
        image,
        names: ['registry.example/os'],
        builtAt: null,
        trust,
        signatures: [],
        manifests: [digestOf(headers[0]!)],
      },
    ],
    records,
    entries: bytes.slice(from),
    left,
    headers,
    files,
    signer: server,
    edge: {
      before: from > 0 && from < size ? await proven(from - 1) : null,
      last: await proven(size - 1),
    },
    checkpoint: await signCheckpoint({ origin: ORIGIN, size, root }, logSigner),
  };
}

async function* each<T>(items: readonly T[]): AsyncIterable<T> {
  yield* items;
}

/** A bundle's bytes out of parts. */
export async function bundleOf(parts: Bent): Promise<Uint8Array> {
  const { head, records, entries, left, edge, checkpoint, headers, files, signer, ...lists } = parts;
  const all: BundleParts = {
    ...factsOf({ head, ...lists }),
    log: { checkpoint, left, entries: () => each(entries), edge, last: edge.last! },
    reports: () => each(records.reports),
    judgements: () => each(records.judgements),
    acts: () => each(records.acts),
    headers: () => each(headers),
    files: () => files,
  };
  const pieces: Uint8Array[] = [];
  for await (const piece of writeBundle(all, signer, sha256)) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}

export const sha256 = () => createHash('sha256');

export const sourceOf = (bytes: Uint8Array): ZipSource => ({
  size: bytes.length,
  read: (at, length) => Promise.resolve(bytes.subarray(at, at + length)),
});

/** A checkpoint by the log's key over these entries. */
async function signed(entries: readonly Uint8Array[]): Promise<string> {
  const root = await rootAt(entries.length, readerOf(entries.map((entry) => PORTABLE.leaf(entry))));
  return signCheckpoint({ origin: ORIGIN, size: entries.length, root }, logSigner);
}

/** Of a log that differs from the fleet's from its first entry on: a fork. */
export const forkAt = (size: number): Promise<string> =>
  signed(Array.from({ length: size }, (_, i) => encoder.encode(`other ${i}`)));

/** As the log was at an earlier size, out of a bundle of the whole log. */
export const checkpointAt = (parts: Bent, size: number): Promise<string> => signed(parts.entries.slice(0, size));
