/**
 * What hosts are told of the evidence log with each answer (docs/report.md 9): the newest checkpoint, and a proof that it continues the one which
 * their report echoed. And what they tell in return: a checkpoint that is ahead of this database shows that it was rewound.
 */
import { toBase64 } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { LOG_PROOFS_KEPT } from '#src/limits.ts';
import { readCheckpoint, type Checkpoint } from '#src/log/checkpoint.ts';
import type { EnvelopeJson } from '#src/signing/dsse.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { parseEcho } from '#src/wire/logecho.ts';
import { sealLogKey } from '#src/wire/logkey.ts';
import type { Log } from '#server/deps.ts';
import type { EvidenceTold, LogTold } from '#server/ingest/answers.ts';
import { Lru } from '#server/lru.ts';
import type { EvidenceLog } from './evidencelog.ts';

const NOTHING: LogTold = { checkpoint: null, consistency: null, logKey: null };

export class LogForHosts implements EvidenceTold {
  readonly #evidence: EvidenceLog;
  readonly #server: Signer;
  readonly #log: Log;
  readonly #kept: (checkpoint: Checkpoint) => void;
  readonly #echoes = new Lru<string, Checkpoint | null>(LOG_PROOFS_KEPT);
  #key: { readonly origin: string; readonly json: Promise<EnvelopeJson> } | undefined;

  /** `server`: the key that hosts have pinned. `kept` hears what they keep. */
  constructor(evidence: EvidenceLog, server: Signer, log: Log, kept: (checkpoint: Checkpoint) => void = () => {}) {
    this.#evidence = evidence;
    this.#server = server;
    this.#log = log;
    this.#kept = kept;
  }

  async tell(echo: string | null): Promise<LogTold> {
    const { published } = this.#evidence;
    if (published === undefined) return NOTHING;
    const { log, checkpoint } = published;
    const known = echo === null ? null : this.#read(echo);
    if (known?.origin !== checkpoint.origin)
      return { checkpoint: checkpoint.note, consistency: null, logKey: await this.#logKey(checkpoint.origin) };
    const { size } = known;
    if (size > checkpoint.size) {
      // Another process may have published a moment before this one; else the database is behind what hosts were told.
      this.#evidence.heard(parseEcho(echo!).kept!);
      return NOTHING;
    }
    this.#kept(known);
    try {
      const proof = await this.#evidence.reads.consistency(log, size, checkpoint.size);
      return { checkpoint: checkpoint.note, consistency: { from: size, proof: proof.map(toBase64) }, logKey: null };
    } catch (error) {
      // Reports are taken all the same: hosts keep what they have.
      this.#log('error', 'no consistency proof', { from: size, to: checkpoint.size, error: String(error) });
      return NOTHING;
    }
  }

  #read(echo: string): Checkpoint | null {
    let known = this.#echoes.get(echo);
    if (known === undefined) {
      const { kept, refused } = parseEcho(echo);
      if (refused !== null) this.#log('error', 'a host refuses the evidence log', { code: refused.code, kept });
      known = kept === null ? null : checkpointIn(kept);
      this.#echoes.set(echo, known);
    }
    return known;
  }

  #logKey(origin: string): Promise<EnvelopeJson> {
    if (this.#key?.origin !== origin)
      this.#key = { origin, json: sealLogKey(this.#evidence.key(origin), this.#server) };
    return this.#key.json;
  }
}

/** Null for what a host made up. */
function checkpointIn(note: string): Checkpoint | null {
  try {
    return readCheckpoint(note);
  } catch (error) {
    if (error instanceof BootproofError) return null;
    throw error;
  }
}
