/**
 * What a run leaves on disk: the record of what was acknowledged, a line `HOST SEQ DIGEST KIND` each (docs/durability.md 3.5), and where its hosts
 * stand, so that a later run of the same seed goes on.
 */
import { closeSync, createReadStream, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { TICKET_LENGTH_MAX } from '#src/wire/ticket.ts';
import { HostId } from '#src/wire/hostid.ts';
import type { Composed, HostState } from './fleet.ts';
import { LoadError } from './post.ts';

/** Bytes that are gathered before they are written. What is lost with this process was acknowledged and is not claimed: that harms no check. */
const GATHERED = 64 * 1024;

/** Lines into a file; the caller closes it. */
class Lines {
  readonly #fd: number;
  #held = '';

  constructor(path: string, flags: 'a' | 'w') {
    try {
      this.#fd = openSync(path, flags, 0o600);
    } catch (cause) {
      throw unwritable(path, cause);
    }
  }

  add(line: string): void {
    this.#held += `${line}\n`;
    if (this.#held.length >= GATHERED) this.flush();
  }

  flush(): void {
    for (let bytes = Buffer.from(this.#held); bytes.length > 0;) bytes = bytes.subarray(writeSync(this.#fd, bytes));
    this.#held = '';
  }

  close(): void {
    this.flush();
    fsyncSync(this.#fd);
    closeSync(this.#fd);
  }
}

/** What was acknowledged. An earlier record is gone on with. */
export class Ledger {
  readonly #lines: Lines;
  readonly #timer: NodeJS.Timeout;

  /** @throws {LoadError} LOAD_STATE where the file cannot be written. */
  constructor(path: string) {
    this.#lines = new Lines(path, 'a');
    this.#timer = setInterval(() => this.#lines.flush(), 1000).unref();
  }

  add(hostId: string, { seq, digest, kind }: Composed): void {
    this.#lines.add(`${hostId} ${seq} ${digest} ${kind}`);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#lines.close();
  }
}

const FORMAT = 'bootproof.load/1';
const Head = z.strictObject({ format: z.literal(FORMAT), fleet: z.string() });
const State = z.strictObject({
  host: z.int().min(0),
  id: HostId,
  seq: z.int().min(0),
  full: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
  key: z.int().min(0),
  count: z.int().min(0),
  image: z.int().min(0).max(255),
  difference: z.int().min(0).max(255),
  boots: z.int().min(0),
  challenge: z.string().max(TICKET_LENGTH_MAX),
  checkpoint: z.string().nullable(),
  next: z.number(),
  openedAt: z.number(),
  isFull: z.int().min(0).max(1),
  wantsFull: z.int().min(0).max(1),
});

/**
 * The hosts of an earlier run, one a line; none where there is no such file. While a run goes on its file has another name: one that was killed
 * leaves hosts whose last numbers nobody knows, and to use those again would make each of them a fork.
 */
export class StateFile {
  readonly #path: string;
  readonly #fleet: string;

  /** `fleet`: what must be the same, such as seed and server. @throws {LoadError} LOAD_STATE after a run that did not end. */
  constructor(path: string, fleet: string) {
    this.#path = path;
    this.#fleet = fleet;
    if (existsSync(this.#running))
      throw new LoadError(
        'LOAD_STATE',
        `${this.#running} is left of a run that did not end, or goes on: its hosts cannot go on where they stood. Take another --seed, and remove it`,
      );
  }

  get #running(): string {
    return `${this.#path}.running`;
  }

  /** Takes the file away, so that nobody begins from it meanwhile. */
  begin(): void {
    try {
      if (existsSync(this.#path)) renameSync(this.#path, this.#running);
      else closeSync(openSync(this.#running, 'w', 0o600));
    } catch (cause) {
      throw unwritable(this.#path, cause);
    }
  }

  /** @throws {LoadError} LOAD_STATE for a file that is none, or of another fleet. */
  async *read(): AsyncGenerator<HostState> {
    let line = 0;
    for await (const text of createInterface({ input: createReadStream(this.#running), crlfDelay: Infinity })) {
      line++;
      const schema = line === 1 ? Head : State;
      const found = schema.safeParse(json(text));
      if (!found.success)
        throw new LoadError('LOAD_STATE', `${this.#running}:${line} is not what \`bootproof load\` writes`);
      if ('fleet' in found.data && found.data.fleet !== this.#fleet)
        throw new LoadError('LOAD_STATE', `${this.#running} is of another seed, token or set of images`);
      if ('host' in found.data) yield found.data;
    }
  }

  /** Where the hosts stand now; whole or not at all. */
  end(states: Iterable<HostState>): void {
    const made = `${this.#path}.new`;
    const lines = new Lines(made, 'w');
    lines.add(JSON.stringify({ format: FORMAT, fleet: this.#fleet }));
    for (const state of states) lines.add(JSON.stringify(state));
    lines.close();
    renameSync(made, this.#path);
    rmSync(this.#running, { force: true });
  }

  /** Nothing was posted: what there was stands. */
  giveUp(): void {
    if (existsSync(this.#running)) renameSync(this.#running, this.#path);
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unwritable(path: string, cause: unknown): LoadError {
  const { code = String(cause) } = cause as NodeJS.ErrnoException;
  return new LoadError('LOAD_STATE', `${path} cannot be written: ${code}`, { cause });
}
