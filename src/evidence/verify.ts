/**
 * Verifies an evidence bundle (docs/evidence.md 4): pure, offline, in one walk over the log and flat memory. Each check is a step that says what
 * it found; what could not be told is said too, and nothing is called verified without a key that came another way.
 */
import type { Instant } from '#src/clock.ts';
import { parseInstant } from '#src/clock.ts';
import { fromBase64, toBase64, toHex } from '#src/bytes.ts';
import type { Sha256 } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { LOG_DISORDER_MS } from '#src/limits.ts';
import { openCheckpoint, readCheckpoint, type Checkpoint, type OpenCheckpoint } from '#src/log/checkpoint.ts';
import { ProofError, sameBytes, verifyConsistency, type TreeHash } from '#src/log/proof.ts';
import { parseConsistencyFile } from '#src/log/prooffile.ts';
import type { Envelope } from '#src/signing/dsse.ts';
import { verifyEnvelope } from '#src/signing/dsse.ts';
import { fingerprintOf, publicKeyFromSpki, type PublicKey, type Verify } from '#src/signing/ed25519.ts';
import { parseVkey, type NoteKey } from '#src/signing/note.ts';
import {
  isTaken,
  LISTS,
  LogEdge,
  openStatement,
  readStatement,
  REQUIRED_MEMBERS,
  STATEMENT_MEMBER,
  type Statement,
} from './bundle.ts';
import { csvCheck } from './csvcheck.ts';
import { FactCheck } from './factcheck.ts';
import {
  DecisionFact,
  FindingFact,
  HostFact,
  ImageFact,
  PolicyFact,
  ReconciliationFact,
  type BundleHead,
  type Facts,
} from './facts.ts';
import { HostCheck } from './hostcheck.ts';
import { openKept, type KeptCheckpoint } from './kept.ts';
import { valueOf } from './lines.ts';
import { checkManifests } from './manifestcheck.ts';
import { Purges } from './purges.ts';
import { BundleReader } from './reader.ts';
import { Faults, type Step } from './steps.ts';
import { edgesOf, walkLog, type Walk } from './walk.ts';
import type { RunningHash } from './writer.ts';
import { openZip, type ZipSource } from './zip.ts';

/** What the auditor brings, by other ways than the bundle. */
export type Brought = {
  /** Fingerprints of the server's key (docs/report.md 2.7); none: nobody vouches for the bundle. */
  readonly keys: readonly string[];
  /** The log's own keys, where they are known besides: else the server's word for its log's key counts. */
  readonly logs: readonly NoteKey[];
  readonly witnesses: readonly NoteKey[];
  /** Checkpoints that somebody kept: notes, or what `bootproof agent checkpoint` prints. */
  readonly known: readonly { readonly name: string; readonly text: string }[];
  /** Consistency proofs that were fetched since, for checkpoints that lie outside what the bundle holds. */
  readonly consistency: readonly { readonly name: string; readonly text: string }[];
  /** The period that was asked for; what is undefined is not held against the bundle's own. */
  readonly from: Instant | undefined;
  readonly to: Instant | undefined;
};

export type VerifyDeps = {
  readonly verify: Verify;
  readonly sha256: () => RunningHash;
  readonly tree: TreeHash;
  /** Results of controls out of facts, as the bundle's `controls/results.json` has them; undefined: not computed again. */
  readonly recompute?: (facts: Facts, read: (member: string) => Promise<string>) => Promise<string>;
  /** The step `signatures`: proofs of images judged again; undefined: not judged. */
  readonly images?: (
    images: AsyncIterable<ImageFact>,
    policies: AsyncIterable<PolicyFact>,
    read: (member: string) => Promise<Uint8Array>,
  ) => Promise<Step>;
  /** Hears each step as it is done. */
  readonly tell?: (step: Step) => void;
};

export type Verification = {
  /** Every step is, and a key that came another way signed it. */
  readonly ok: boolean;
  readonly steps: readonly Step[];
  readonly notChecked: readonly string[];
  /** Guarantee level that was shown (docs/log.md 1); 0 where only the server's word is there. */
  readonly level: 0 | 1 | 2;
  /** Nothing is wrong, but something that was asked for could not be told. */
  readonly incomplete: boolean;
};

export async function verifyBundle(source: ZipSource, brought: Brought, deps: VerifyDeps): Promise<Verification> {
  return new Verifier(brought, deps).run(source);
}

class Verifier {
  readonly #brought: Brought;
  readonly #deps: VerifyDeps;
  readonly #steps: Step[] = [];
  readonly #notChecked: string[] = [];
  #level: 0 | 1 | 2 = 0;
  #incomplete = false;

  constructor(brought: Brought, deps: VerifyDeps) {
    this.#brought = brought;
    this.#deps = deps;
  }

  async run(source: ZipSource): Promise<Verification> {
    await this.#all(source);
    const ok = this.#steps.every((step) => step.ok) && this.#brought.keys.length > 0;
    return {
      ok,
      steps: this.#steps,
      notChecked: this.#notChecked,
      level: this.#level,
      incomplete: this.#incomplete || this.#brought.keys.length === 0,
    };
  }

  #tell(step: Step): boolean {
    this.#steps.push(step);
    this.#deps.tell?.(step);
    return step.ok;
  }

  /** A step whose refusals are its outcome. Undefined where it was refused. */
  async #step<T>(
    check: string,
    work: () => Promise<{ readonly good: string; readonly value: T }>,
  ): Promise<T | undefined> {
    try {
      const { good, value } = await work();
      this.#tell({ check, ok: true, detail: good });
      return value;
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      this.#tell({ check, ok: false, detail: `${error.message} [${error.code}]` });
      return undefined;
    }
  }

  /** 1 to 4: nothing else is looked at unless these hold, but for the key. */
  async #all(source: ZipSource): Promise<void> {
    const archive = await this.#step('archive', async () => {
      const zip = await openZip(source);
      return { good: `${zip.members.length} members, and nothing besides`, value: zip };
    });
    if (archive === undefined) return this.#skipped('the archive');
    const reader = new BundleReader(archive);
    const opened = await this.#step('statement', async () => {
      const envelope = openStatement(await reader.bytes(STATEMENT_MEMBER));
      const statement = readStatement(envelope);
      return { good: `an in-toto statement over ${statement.subject.length} members`, value: { envelope, statement } };
    });
    if (opened === undefined) return this.#skipped('the statement');
    await this.#key(reader, opened.envelope);
    if (!(await this.#members(reader, opened.statement))) return this.#skipped('the members');
    await this.#content(reader, opened.statement);
  }

  #skipped(what: string): void {
    this.#incomplete = true;
    this.#notChecked.push(`everything that follows from ${what}: it is not as it was signed`);
  }

  async #key(reader: BundleReader, envelope: Envelope): Promise<void> {
    const { keys } = this.#brought;
    const key = await this.#step('signature', async () => {
      const own = await serverKey(reader);
      if (!(await verifyEnvelope(envelope, own, this.#deps.verify)))
        throw new KeptError('SIGNATURE_INVALID', 'the statement is not signed by the key in server.pub.pem');
      return {
        good: `the statement is signed by the key ${fingerprintOf(own)} that lies in the bundle itself`,
        value: own,
      };
    });
    const found = key === undefined ? undefined : fingerprintOf(key);
    if (keys.length === 0)
      this.#notChecked.push(
        `whose bundle this is: no key was given that came another way, and the one inside proves nothing (--key or --trusted-root)`,
      );
    else
      this.#tell(
        found !== undefined && keys.includes(found)
          ? { check: 'key', ok: true, detail: `that is the key which was given: ${found}` }
          : {
              check: 'key',
              ok: false,
              detail: `signed by ${found ?? 'nobody'}, not by ${keys.join(' or ')}: somebody else's bundle, or one that was signed again`,
            },
      );
  }

  async #members(reader: BundleReader, { subject }: Statement): Promise<boolean> {
    const faults = new Faults();
    const wanted = new Map(subject.map(({ name, digest }) => [name, digest.sha256]));
    if (wanted.size !== subject.length) faults.add('a member is named twice in the statement');
    for (const name of wanted.keys()) {
      if (!reader.names.has(name)) faults.add(`${name} is missing`);
      if (!isTaken(name)) faults.add(`${name} is no member of a bundle of this version`);
    }
    for (const name of REQUIRED_MEMBERS) if (!wanted.has(name)) faults.add(`${name} is missing from the statement`);
    for (const name of reader.names) {
      if (name === STATEMENT_MEMBER) continue;
      const digest = wanted.get(name);
      if (digest === undefined) {
        faults.add(`${name} is unknown: the statement does not name it`);
        continue;
      }
      try {
        const hash = this.#deps.sha256();
        for await (const piece of reader.open(name)) hash.update(piece);
        if (toHex(hash.digest()) !== digest) faults.add(`${name} was changed`);
      } catch (error) {
        if (!(error instanceof BootproofError)) throw error;
        faults.add(error.message);
      }
    }
    return this.#tell(
      faults.step('members', `${wanted.size} members, each to the byte as it was signed, none missing, none added`),
    );
  }

  async #content(reader: BundleReader, statement: Statement): Promise<void> {
    const { head } = statement.predicate;
    this.#period(head);
    const checkpoint = await this.#step('checkpoint', () => this.#checkpoint(reader, head));
    if (checkpoint === undefined) return this.#skipped('the checkpoint');
    this.#witnessed(checkpoint, head);
    const manifests = await this.#step('manifests', async () => {
      const own = await serverKey(reader);
      const found = await checkManifests(reader, own, this.#deps);
      return { good: `${found.size} signed headers of file manifests, and every text that they name`, value: found };
    });
    await this.#log(reader, head, checkpoint, manifests ?? new Map());
    await this.#rest(reader, statement);
  }

  #period({ period, exportedAt, selection }: BundleHead): void {
    const faults = new Faults();
    const [from, to, at] = [period.from, period.to, exportedAt].map((text) => parseInstant(text)!) as [
      number,
      number,
      number,
    ];
    if (from >= to) faults.add('the period ends before it begins');
    if (at < to) faults.add(`it was exported at ${exportedAt}, before the period that it is said to be about was over`);
    const { from: askedFrom, to: askedTo } = this.#brought;
    if (askedFrom !== undefined && from > askedFrom)
      faults.add(`asked for from ${iso(askedFrom)}; it begins at ${period.from}`);
    if (askedTo !== undefined && to < askedTo) faults.add(`asked for until ${iso(askedTo)}; it ends at ${period.to}`);
    const scope = selection.hosts === 'all' ? 'all hosts' : `the hosts of: ${selection.filter}`;
    this.#tell(faults.step('period', `${period.from} to ${period.to}, ${scope}, exported ${exportedAt}`));
    if (askedFrom === undefined && askedTo === undefined)
      this.#notChecked.push('whether that is the period which you asked for (--from, --to)');
    if (selection.hosts === 'part')
      this.#notChecked.push(
        'whether a host was left out: the bundle is of a part of the fleet, and shows nothing of the others',
      );
  }

  async #checkpoint(reader: BundleReader, { log }: BundleHead) {
    const key = parseVkey(log.key);
    if ((await reader.text('log/key')) !== `${log.key}\n`)
      throw new KeptError('KEY_MISMATCH', 'log/key is not the key of the statement');
    const { logs } = this.#brought;
    if (
      logs.length > 0 &&
      !logs.some(({ name, id, publicKey }) => name === key.name && id === key.id && publicKey === key.publicKey)
    )
      throw new KeptError(
        'KEY_MISMATCH',
        `the log ${key.name} (${key.id}) is none of those that the trusted root names`,
      );
    const checkpoint = await openCheckpoint(
      await reader.text('log/checkpoint'),
      key,
      this.#deps.verify,
      this.#brought.witnesses,
    );
    if (checkpoint.origin !== log.origin || checkpoint.size !== log.size || toBase64(checkpoint.root) !== log.root)
      throw new KeptError('KEY_MISMATCH', 'the checkpoint is not the one that the statement names');
    return { good: `${checkpoint.origin}, ${checkpoint.size} entries, signed by its log`, value: checkpoint };
  }

  #witnessed({ witnesses, note }: OpenCheckpoint, { log }: BundleHead): void {
    const others = note.signatures.length - 1 - witnesses.length;
    if (witnesses.length > 0) {
      this.#level = 2;
      this.#tell({
        check: 'witness',
        ok: true,
        detail: witnesses.map(({ key, time }) => `${key.name} saw it at ${iso(1000 * time!)}`).join(', '),
      });
    }
    if (others > 0)
      this.#notChecked.push(`${others} more signatures on the checkpoint: their keys were not given (--trusted-root)`);
    if (log.level === 2 && witnesses.length === 0)
      this.#notChecked.push(
        'level 2, which the bundle claims: no key of a witness was given, and timestamps are checked with openssl (VERIFY.md)',
      );
  }

  async #log(
    reader: BundleReader,
    head: BundleHead,
    checkpoint: Checkpoint,
    manifests: Awaited<ReturnType<typeof checkManifests>>,
  ): Promise<void> {
    const { tree, verify } = this.#deps;
    const period = { from: parseInstant(head.period.from)!, to: parseInstant(head.period.to)! };
    const exportedAt = parseInstant(head.exportedAt)!;
    const whole = head.selection.hosts === 'all';
    const faults = {
      log: new Faults(),
      records: new Faults(),
      population: new Faults(),
      reports: new Faults(),
      completeness: new Faults(),
      findings: new Faults(),
      decisions: new Faults(),
      policies: new Faults(),
    };
    const kept = await this.#known(parseVkey(head.log.key));
    const walk: Walk = {
      size: checkpoint.size,
      root: checkpoint.root,
      from: head.log.from,
      left: await reader.bytes('log/left'),
      tree,
      sha256: (bytes) => {
        const hash = this.#deps.sha256();
        hash.update(bytes);
        return hash.digest();
      },
      sizes: new Set(kept.map(({ size }) => size)),
      roots: new Map(),
      log: faults.log,
      records: faults.records,
    };
    const hosts = new HostCheck({ period, whole, manifests }, faults, { verify, hash: this.#hash });
    const facts = new FactCheck(period, faults);
    await this.#guarded(faults.population, async () => {
      for await (const fact of reader.list('facts/hosts', HostFact)) {
        hosts.host(fact);
        if (fact.inScope) facts.host(fact);
      }
    });
    await this.#guarded(faults.findings, async () => {
      for await (const fact of reader.list('facts/findings', FindingFact))
        facts.finding(fact, hosts.inScope(fact.host));
    });
    await this.#guarded(faults.decisions, async () => {
      for await (const fact of reader.list('facts/decisions', DecisionFact)) facts.decision(fact);
    });
    await this.#guarded(faults.policies, async () => {
      for await (const fact of reader.list('facts/policies', PolicyFact)) facts.policy(fact);
      for await (const fact of reader.list('facts/reconciliations', ReconciliationFact)) facts.reconciliation(fact);
    });
    const purges = new Purges();
    let lastAt: Instant | undefined;
    await this.#guarded(faults.log, async () => {
      const edges = edgesOf(walk, valueOf(await reader.text('log/edge.json'), 'log/edge.json', LogEdge));
      if (edges.before !== null && parseInstant(edges.before.at)! >= period.from)
        faults.log.add(`entry ${walk.from - 1}, which is not in it, is of ${edges.before.at}: within the period`);
      if (edges.last !== null) lastAt = parseInstant(edges.last.at)!;
      let newest = -Infinity;
      for await (const walked of walkLog(walk, reader.entries(), reader.records())) {
        const { index, entry, record } = walked;
        const at = parseInstant(entry.at)!;
        if (at < newest - LOG_DISORDER_MS)
          faults.log.add(`entry ${index} is of ${entry.at}, long before one that precedes it`);
        newest = Math.max(newest, at);
        if (index === walk.size - 1) lastAt = at;
        hosts.seen(entry, at);
        const within = at >= period.from && at < period.to;
        purges.seen(walked, at);
        if (record === undefined) {
          if (within && this.#needed(entry, hosts, whole))
            faults.records.add(
              `entry ${index}, a ${entry.kind}${entry.host === null ? '' : ` of ${entry.host}`}: what it is about was left out`,
            );
          continue;
        }
        if (entry.kind === 'report') await hosts.report(walked, at);
        else if (entry.kind === 'judgement') facts.judgement(walked, at);
        else {
          const act = facts.act(walked, at);
          if (act?.action === 'host.enrol' && entry.host !== null) hosts.enrolled(entry.host, index, act.after);
        }
      }
    });
    await hosts.finish(exportedAt);
    facts.finish();
    purges.finish(faults.records);
    if (lastAt === undefined ? checkpoint.size > 0 : lastAt < period.to)
      faults.log.add(
        `its last entry is of ${lastAt === undefined ? 'no time that is shown' : iso(lastAt)}, the period ends at ${head.period.to}: an older log, passed off for a newer period`,
      );
    const { counts: h } = hosts;
    const { counts: f } = facts;
    this.#tell(faults.log.step('log', `entries ${walk.from} to ${walk.size} lead to the signed root`));
    this.#keptAgainst(kept, walk);
    this.#tell(
      faults.records.step('records', `every report, judgement and act of the period is there, as it was logged`),
    );
    this.#tell(
      faults.population.step(
        'population',
        `${h.inScope} hosts; every host that the log knows of in the period is among them`,
      ),
    );
    this.#tell(faults.reports.step('reports', `${h.reports} reports (${h.full} full), each by its host's own key`));
    this.#tell(
      faults.completeness.step(
        'completeness',
        'expected and received check-ins fit what was logged, and every silent day is a gap',
      ),
    );
    this.#tell(
      faults.findings.step(
        'findings',
        `${f.findings} findings with ${f.transitions} transitions, as ${f.judgements} judgements logged them`,
      ),
    );
    this.#tell(faults.decisions.step('decisions', `${f.decisions} waivers and acknowledgements, as they were logged`));
    this.#tell(faults.policies.step('policies', `${f.policies} policies in force, as they were logged`));
    const note = (count: number, what: string) => {
      if (count > 0) this.#notChecked.push(`${count} ${what}`);
    };
    note(h.purged, 'reports that were purged under retention: their entries are there, what they said is not');
    note(h.unlinked, 'reports that say "unchanged" of a full report which is older than the bundle');
    note(
      h.breaks,
      'full reports that do not follow the one before in the bundle: dropped by the host, or forks; findings say which',
    );
    note(h.keysUnlogged, "hosts that were enrolled before the log began: their keys are the server's word");
    note(
      h.uncompared,
      'full reports with differences: that these make up the digests of the trees was checked by the server alone',
    );
    note(f.unlogged, 'events that are older than the log, and told by the server alone');
  }

  #hash: Sha256 = (data) => {
    const hash = this.#deps.sha256();
    hash.update(typeof data === 'string' ? new TextEncoder().encode(data) : data);
    return toHex(hash.digest());
  };

  async #guarded(faults: Faults, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      faults.add(error.message);
    }
  }

  /** What must be there of an entry of the period. */
  #needed(
    { kind, host }: { readonly kind: string; readonly host: string | null },
    hosts: HostCheck,
    whole: boolean,
  ): boolean {
    if (kind === 'report' || kind === 'judgement') return hosts.inScope(host);
    return kind === 'act' && (host === null ? whole : hosts.inScope(host));
  }

  /** Checkpoints that were brought, as far as they can be read; each other one is a failed step. */
  async #known(log: NoteKey): Promise<KeptCheckpoint[]> {
    const out: KeptCheckpoint[] = [];
    for (const { name, text } of this.#brought.known) {
      try {
        out.push(await openKept(name, text, log, this.#deps.verify));
      } catch (error) {
        if (!(error instanceof BootproofError)) throw error;
        this.#tell({ check: 'known-checkpoint', ok: false, detail: `${name}: ${error.message} [${error.code}]` });
      }
    }
    if (this.#brought.known.length === 0)
      this.#notChecked.push(
        'whether the server rewrote its log: no checkpoint that somebody else kept was given (--known-checkpoint; `bootproof agent checkpoint` on some hosts prints one)',
      );
    return out;
  }

  /** Checkpoints from elsewhere against the tree: by the walk where it passed their size, else by a proof that was brought. */
  #keptAgainst(kept: readonly KeptCheckpoint[], walk: Walk): void {
    for (const known of kept) {
      const { name, size, root } = known;
      const at = walk.roots.get(size);
      const proven = at === undefined ? this.#consistent(known, walk) : sameBytes(at, root);
      if (proven === undefined) {
        this.#incomplete = true;
        const why =
          size > walk.size
            ? `is newer (size ${size}) than the bundle's own`
            : `lies before what the bundle holds (size ${size})`;
        this.#notChecked.push(
          `${name}: that checkpoint ${why}; bring a proof: bootproof log consistency (--consistency)`,
        );
      } else if (proven) {
        if (this.#level === 0) this.#level = 1;
        this.#tell({
          check: 'known-checkpoint',
          ok: true,
          detail: `${name}: the log is the one that was seen at ${size} entries`,
        });
      } else
        this.#tell({
          check: 'known-checkpoint',
          ok: false,
          detail: `${name}: at ${size} entries the log was another one: it was FORKED or rewritten. Keep this file: it is the evidence`,
        });
    }
  }

  #consistent({ size, root }: KeptCheckpoint, walk: Walk): boolean | undefined {
    for (const { text } of this.#brought.consistency) {
      try {
        const { old, proof, checkpoint } = parseConsistencyFile(text);
        const newer = readCheckpoint(checkpoint);
        const [low, high] = size < walk.size ? [{ size, root }, walk] : [walk, { size, root }];
        if (old !== low.size || newer.size !== high.size) continue;
        verifyConsistency(low, high, proof, walk.tree);
        return true;
      } catch (error) {
        if (!(error instanceof BootproofError)) throw error;
        if (error instanceof ProofError && error.code === 'PROOF_ROOT') return false;
      }
    }
    return undefined;
  }

  async #rest(reader: BundleReader, { predicate }: Statement): Promise<void> {
    const { head, counts } = predicate;
    await this.#images(reader);
    const lines = new Faults();
    for (const { list, lines: said } of counts) {
      const found = reader.lines.get(list);
      // A list that could not be read to its end has its own fault.
      if (found !== undefined && found !== said) lines.add(`${list} has ${found} lines, the statement says ${said}`);
    }
    this.#tell(lines.step('counts', `the statement counts ${LISTS.length} lists, and so they are`));
    await this.#step('csv', async () => ({ good: await csvCheck(reader, head), value: null }));
    await this.#controls(reader, head);
  }

  async #images(reader: BundleReader): Promise<void> {
    const images = reader.list('facts/images', ImageFact);
    const { images: judge } = this.#deps;
    if (judge === undefined) {
      await this.#step('images', async () => {
        let count = 0;
        for await (const _ of images) count++;
        return { good: `${count} images`, value: count };
      });
      this.#notChecked.push(
        'signatures of images: that they verify was judged by the server, and not again here; the proofs lie in signatures/ (cosign checks them)',
      );
      return;
    }
    try {
      this.#tell(await judge(images, reader.list('facts/policies', PolicyFact), (member) => reader.bytes(member)));
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      this.#tell({ check: 'signatures', ok: false, detail: `${error.message} [${error.code}]` });
    }
  }

  async #controls(reader: BundleReader, head: BundleHead): Promise<void> {
    const { recompute } = this.#deps;
    const member = 'controls/results.json';
    if (!reader.names.has(member)) {
      this.#notChecked.push('results of controls: the bundle has none');
      return;
    }
    if (recompute === undefined) {
      this.#notChecked.push('results of controls: computed by the server, not again here');
      return;
    }
    await this.#step('controls', async () => {
      const facts = reader.facts(
        head,
        this.#steps.every(({ check, ok }) => check !== 'log' || ok),
      );
      const again = await recompute(facts, (name) => reader.text(name));
      if (again !== (await reader.text(member)))
        throw new KeptError('CONTROLS_DIFFER', `${member} is not what the facts of the bundle come to`);
      return { good: 'the results of every control follow from the facts', value: null };
    });
  }
}

export class KeptError extends BootproofError<
  /** The statement is not by the key that lies beside it. */
  | 'SIGNATURE_INVALID'
  /** Another key, or another checkpoint, than the statement or the trusted root names. */
  | 'KEY_MISMATCH'
  /** Results of controls that do not follow from the facts. */
  | 'CONTROLS_DIFFER'
> {}

const iso = (at: Instant): string => new Date(at).toISOString();

/** The key in `server.pub.pem`: whose it is, only the auditor knows. @throws {KeptError | KeyError} */
async function serverKey(reader: BundleReader): Promise<PublicKey> {
  const match = /^-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=]{60})\n-----END PUBLIC KEY-----\n$/.exec(
    await reader.text('server.pub.pem'),
  );
  if (match === null) throw new KeptError('KEY_MISMATCH', 'server.pub.pem holds no Ed25519 key');
  return publicKeyFromSpki(fromBase64(match[1]!));
}
