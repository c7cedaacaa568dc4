/**
 * Writes an evidence bundle (docs/evidence.md 1), forward only and in flat memory: members as they are read, each hashed on its way, the signed
 * statement over all of them last.
 */
import { fromBase64, toBase64, toHex } from '#src/bytes.ts';
import { BUNDLE_PART_BYTES } from '#src/limits.ts';
import { printInclusionFile } from '#src/log/prooffile.ts';
import { printEntryBundle } from '#src/log/tile.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import { fingerprintOf, spkiOf, type Signer } from '#src/signing/ed25519.ts';
import {
  ENTRIES,
  LISTS,
  partName,
  PREDICATE_TYPE,
  STATEMENT_MEMBER,
  STATEMENT_PAYLOAD_TYPE,
  STATEMENT_TYPE,
  type ListName,
  type LogEdge,
  type LogRecord,
  type ProvenEntry,
  type Statement,
} from './bundle.ts';
import type { Facts } from './facts.ts';
import { verifyText } from './verifytext.ts';
import type { NewMember } from './zip.ts';
import { writeZip } from './zipwriter.ts';

/** SHA-256 of bytes that come in pieces. */
export type RunningHash = { update(bytes: Uint8Array): unknown; digest(): Uint8Array };

export type BundleParts = Omit<Facts, 'logHolds'> & {
  readonly log: {
    /** The checkpoint's note, with every cosignature. */
    readonly checkpoint: string;
    /** Hashes of the whole subtrees of the entries before `head.log.from`, left to right (`subtreesOf(0, from)`). */
    readonly left: readonly Uint8Array[];
    /** Entries from `head.log.from` to the checkpoint's size. */
    entries(): AsyncIterable<Uint8Array>;
    readonly edge: LogEdge;
    /** The last entry with its proof: for public tools. */
    readonly last: ProvenEntry;
  };
  /** What lies beside entries, by rising index, each in the list of its kind. */
  reports(): AsyncIterable<LogRecord>;
  judgements(): AsyncIterable<LogRecord>;
  acts(): AsyncIterable<LogRecord>;
  /** Signed manifest headers, each an envelope's text. */
  headers(): AsyncIterable<string>;
  /** The other members: `manifests/texts/…`, `signatures/…`, `trust-roots/…`, `policies/…`, `controls/…`, `oscal/…`, `csv/…`, `report/…`, `log/timestamps/…`, `log/consistency/…`. */
  files(): AsyncIterable<NewMember> | Iterable<NewMember>;
};

const encoder = new TextEncoder();

/** The bytes of a bundle. `signer` is the server's key, whose fingerprint auditors were given by another way. */
export function writeBundle(parts: BundleParts, signer: Signer, sha256: () => RunningHash): AsyncIterable<Uint8Array> {
  return writeZip(membersOf(parts, signer, sha256));
}

async function* membersOf(parts: BundleParts, signer: Signer, sha256: () => RunningHash): AsyncIterable<NewMember> {
  const subject: { name: string; digest: { sha256: string } }[] = [];
  const counts = new Map<ListName, number>();
  const signed = (member: NewMember): NewMember => {
    const { name, content } = member;
    return {
      name,
      content: (async function* () {
        const hash = sha256();
        for await (const piece of content instanceof Uint8Array ? [content] : content) {
          hash.update(piece);
          yield piece;
        }
        subject.push({ name, digest: { sha256: toHex(hash.digest()) } });
      })(),
    };
  };
  const { head, log } = parts;
  const text = (name: string, content: string) => signed({ name, content: encoder.encode(content) });
  yield text('VERIFY.md', verifyText(head, fingerprintOf(signer.publicKey)));
  yield text('server.pub.pem', pemOf(spkiOf(signer.publicKey)));
  yield text('log/key', `${head.log.key}\n`);
  yield text('log/checkpoint', log.checkpoint);
  yield signed({ name: 'log/left', content: joined(log.left) });
  yield text('log/edge.json', `${canonicalJson(log.edge)}\n`);
  yield signed({ name: 'log/last.entry', content: fromBase64(log.last.entry) });
  const proof = log.last.proof.map(fromBase64);
  yield text('log/last.tlog-proof', printInclusionFile({ index: log.last.index, proof, checkpoint: log.checkpoint }));
  for await (const part of inParts(ENTRIES, framed(log.entries()))) yield signed(part);
  const lists: Readonly<Record<ListName, () => AsyncIterable<unknown>>> = {
    'records/reports': () => parts.reports(),
    'records/judgements': () => parts.judgements(),
    'records/acts': () => parts.acts(),
    'facts/hosts': () => parts.hosts(),
    'facts/images': () => parts.images(),
    'facts/findings': () => parts.findings(),
    'facts/decisions': () => parts.decisions(),
    'facts/policies': () => parts.policies(),
    'facts/reconciliations': () => parts.reconciliations(),
    'manifests/headers': () => enveloped(parts.headers()),
  };
  for (const list of LISTS) {
    let lines = 0;
    const counted = async function* () {
      for await (const value of lists[list]()) {
        lines++;
        yield encoder.encode(`${canonicalJson(value)}\n`);
      }
    };
    for await (const part of inParts(list, counted())) yield signed(part);
    counts.set(list, lines);
  }
  for await (const member of parts.files()) yield signed(member);
  const statement: Statement = {
    _type: STATEMENT_TYPE,
    subject,
    predicateType: PREDICATE_TYPE,
    predicate: { head, counts: LISTS.map((list) => ({ list, lines: counts.get(list)! })) },
  };
  const envelope = await signEnvelope(STATEMENT_PAYLOAD_TYPE, canonicalJson(statement), signer);
  yield { name: STATEMENT_MEMBER, content: encoder.encode(printEnvelope(envelope)) };
}

/**
 * Members of some 256 MiB out of a stream, at least one. Pieces are never parted. Each part must be read to its end before the next is asked
 * for, as `writeZip` does.
 */
async function* inParts(name: ListName | typeof ENTRIES, pieces: AsyncIterable<Uint8Array>): AsyncIterable<NewMember> {
  const reader = pieces[Symbol.asyncIterator]();
  let next = await reader.next();
  for (let part = 1; part === 1 || !next.done; part++)
    yield {
      name: partName(name, part),
      content: (async function* () {
        for (let bytes = 0; !next.done && bytes < BUNDLE_PART_BYTES; next = await reader.next()) {
          bytes += next.value.length;
          yield next.value;
        }
      })(),
    };
}

async function* framed(entries: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  for await (const entry of entries) yield printEntryBundle([entry]);
}

async function* enveloped(envelopes: AsyncIterable<string>): AsyncIterable<{ envelope: string }> {
  for await (const envelope of envelopes) yield { envelope };
}

function joined(hashes: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(32 * hashes.length);
  for (const [i, hash] of hashes.entries()) out.set(hash, 32 * i);
  return out;
}

/** A public key as openssl reads it. */
function pemOf(spki: Uint8Array): string {
  return `-----BEGIN PUBLIC KEY-----\n${toBase64(spki)}\n-----END PUBLIC KEY-----\n`;
}
