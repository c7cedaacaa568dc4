/**
 * Verifies an evidence bundle (docs/evidence.md 4): pure, offline, in one walk over the log and flat memory. Each check is a step that says what
 * it found; what could not be told is said too, and nothing is called verified without a key that came another way.
 */
import type { Instant } from '#src/clock.ts';
import { parseInstant } from '#src/clock.ts';
import { fromBase64, toBase64, toHex } from '#src/bytes.ts';
import { digestOf } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { openCheckpoint, type OpenCheckpoint } from '#src/log/checkpoint.ts';
import { levelOf, type Level } from '#src/log/level.ts';
import type { TreeHash } from '#src/log/proof.ts';
import type { Envelope } from '#src/signing/dsse.ts';
import { verifyEnvelope } from '#src/signing/dsse.ts';
import { fingerprintOf, publicKeyFromSpki, type PublicKey, type Verify } from '#src/signing/ed25519.ts';
import { parseVkey, type NoteKey } from '#src/signing/note.ts';
import type { Certificate, VerifyBy } from '#src/signing/x509.ts';
import {
  isTaken,
  LISTS,
  openStatement,
  readStatement,
  REQUIRED_MEMBERS,
  STATEMENT_MEMBER,
  type Statement,
} from './bundle.ts';
import { checkContent } from './contentcheck.ts';
import { csvCheck } from './csvcheck.ts';
import { ImageFact, PolicyFact, type BundleHead, type Facts } from './facts.ts';
import { checkManifests } from './manifestcheck.ts';
import { BundleReader } from './reader.ts';
import { checkStamps, stampsIn } from './stampcheck.ts';
import { counted, Faults, type Step } from './steps.ts';
import type { RunningHash } from './writer.ts';
import { openZip, type ZipSource } from './zip.ts';

/** What the auditor brings, by other ways than the bundle. */
export type Brought = {
  /** Fingerprints of the server's key (docs/report.md 2.7); none: nobody vouches for the bundle. */
  readonly keys: readonly string[];
  /** The log's own keys, where they are known besides: else the server's word for its log's key counts. */
  readonly logs: readonly NoteKey[];
  readonly witnesses: readonly NoteKey[];
  /** Certificates of timestamp authorities, or of who certified them. */
  readonly tsas: readonly Certificate[];
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
  /** For timestamps; undefined: not checked. */
  readonly verifyBy?: VerifyBy;
  /** Results of controls out of facts, as the bundle's `controls/results.json` has them; undefined: not computed again. */
  readonly recompute?: (facts: Facts, read: (member: string) => Promise<string>) => Promise<string>;
  /** The step `signatures`: proofs of images judged again; undefined: not judged. */
  readonly images?: (
    images: AsyncIterable<ImageFact>,
    policies: AsyncIterable<PolicyFact>,
    read: (member: string) => Promise<Uint8Array>,
    members: ReadonlySet<string>,
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
  readonly level: Level;
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
  /** Who else saw the log, as far as it was shown. */
  #outside = false;
  #kept = false;
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
      level: levelOf({ outside: this.#outside, kept: this.#kept }),
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
      return { good: `${counted(zip.members.length, 'member')}, and nothing besides`, value: zip };
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
        throw new BundleRefusal('SIGNATURE_INVALID', 'the statement is not signed by the key in server.pub.pem');
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
    const stamps = stampsIn(reader.names, checkpoint.size);
    this.#witnessed(checkpoint, head, stamps.length);
    const manifests = await this.#step('manifests', async () => {
      const own = await serverKey(reader);
      const found = await checkManifests(reader, own, this.#deps);
      return { good: `${found.size} signed headers of file manifests, and every text that they name`, value: found };
    });
    const found = await checkContent(
      reader,
      head,
      { checkpoint, manifests: manifests ?? new Map() },
      this.#brought,
      new Set(stamps.map(({ size }) => size)),
      this.#deps,
    );
    for (const step of found.steps) this.#tell(step);
    this.#notChecked.push(...found.notChecked);
    if (found.incomplete) this.#incomplete = true;
    if (found.seen) this.#kept = true;
    const stamped = await checkStamps(stamps, (name) => reader.bytes(name), checkpoint, found.roots, {
      trusted: this.#brought.tsas,
      verify: this.#deps.verifyBy,
    });
    if (stamped.step !== undefined) this.#tell(stamped.step);
    this.#notChecked.push(...stamped.notChecked);
    if (stamped.seen) this.#outside = true;
    if (head.log.level === 2 && !this.#outside)
      this.#notChecked.push(
        'level 2, which the bundle claims: bring the key of a witness, or the certificate of a timestamp authority, that you trust (--trusted-root)',
      );
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
      throw new BundleRefusal('KEY_MISMATCH', 'log/key is not the key of the statement');
    const { logs } = this.#brought;
    if (
      logs.length > 0 &&
      !logs.some(({ name, id, publicKey }) => name === key.name && id === key.id && publicKey === key.publicKey)
    )
      throw new BundleRefusal(
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
      throw new BundleRefusal('KEY_MISMATCH', 'the checkpoint is not the one that the statement names');
    return { good: `${checkpoint.origin}, ${checkpoint.size} entries, signed by its log`, value: checkpoint };
  }

  #witnessed({ witnesses, note }: OpenCheckpoint, { log }: BundleHead, stamps: number): void {
    const others = note.signatures.length - 1 - witnesses.length;
    if (witnesses.length > 0) {
      this.#outside = true;
      this.#tell({
        check: 'witness',
        ok: true,
        detail: witnesses.map(({ key, time }) => `${key.name} saw it at ${iso(1000 * time!)}`).join(', '),
      });
    }
    if (others > 0)
      this.#notChecked.push(`${others} more signatures on the checkpoint: their keys were not given (--trusted-root)`);
    if (log.level === 2 && note.signatures.length === 1 && stamps === 0)
      this.#tell({
        check: 'witness',
        ok: false,
        detail: 'the statement says level 2, and nobody but the log signed or stamped its checkpoint',
      });
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
    this.#notChecked.push(
      'the report, OSCAL and tables of the bundle: they are as they were signed, and not computed again here (bootproof evidence verify --write DIR computes them from the facts, to compare)',
    );
  }

  /** Documents of policies lie there as they were written, and signatures of images are what they are said to be. */
  async #images(reader: BundleReader): Promise<void> {
    await this.#step('documents', async () => {
      let count = 0;
      for await (const { documents } of reader.list('facts/policies', PolicyFact))
        for (const { member, digest } of documents) {
          if (!reader.names.has(member) || digestOf(await reader.bytes(member)) !== digest)
            throw new BundleRefusal(
              'DOCUMENT_DIFFERS',
              `${member} is missing, or not the document that a policy names`,
            );
          count++;
        }
      return { good: `${counted(count, 'document')} of policies, as they were written`, value: count };
    });
    const images = reader.list('facts/images', ImageFact);
    const { images: judge } = this.#deps;
    if (judge !== undefined) {
      const policies = reader.list('facts/policies', PolicyFact);
      this.#tell(await judge(images, policies, (member) => reader.bytes(member), reader.names));
      return;
    }
    await this.#step('images', async () => {
      let count = 0;
      for await (const _ of images) count++;
      return { good: counted(count, 'image'), value: count };
    });
    this.#notChecked.push(
      'signatures of images: the proofs lie in the bundle, and the command bootproof evidence verify judges them again',
    );
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
        throw new BundleRefusal('CONTROLS_DIFFER', `${member} is not what the facts of the bundle come to`);
      return { good: 'the results of every control follow from the facts', value: null };
    });
  }
}

export class BundleRefusal extends BootproofError<
  /** The statement is not by the key that lies beside it. */
  | 'SIGNATURE_INVALID'
  /** Another key, or another checkpoint, than the statement or the trusted root names. */
  | 'KEY_MISMATCH'
  /** A document of a policy that is missing or another. */
  | 'DOCUMENT_DIFFERS'
  /** Results of controls that do not follow from the facts. */
  | 'CONTROLS_DIFFER'
> {}

const iso = (at: Instant): string => new Date(at).toISOString();

/** The key in `server.pub.pem`: whose it is, only the auditor knows. @throws {BundleRefusal | KeyError} */
async function serverKey(reader: BundleReader): Promise<PublicKey> {
  const match = /^-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=]{60})\n-----END PUBLIC KEY-----\n$/.exec(
    await reader.text('server.pub.pem'),
  );
  if (match === null) throw new BundleRefusal('KEY_MISMATCH', 'server.pub.pem holds no Ed25519 key');
  return publicKeyFromSpki(fromBase64(match[1]!));
}
