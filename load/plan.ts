/** What a simulated fleet does: everything that is drawn is drawn from the seed, so that the same seed is the same fleet. */
import { createHmac, hash } from 'node:crypto';

export type Plan = {
  readonly hosts: number;
  readonly seed: string;
  /** Hosts begin spread over so long, ms. */
  readonly startMs: number;
  /** How often a host reports, ms; null: when the answers say. */
  readonly everyMs: number | null;
  /** No report is begun after so long, ms. */
  readonly forMs: number;
  /** Share of reports with which a host begins to differ from its image, or is mended. */
  readonly drift: number;
  /** Lines of drift of a host that differs. */
  readonly driftLines: number;
  /** Share of reports that are posted a second time, as if their answer was lost. */
  readonly duplicates: number;
  /** Share of hosts whose clock is off, and by how much, ms. */
  readonly skew: number;
  readonly skewMs: number;
  /** Digests of images in the order in which they are rolled out; the hosts begin with the first. */
  readonly images: readonly string[];
  /** When the first wave boots the next image, in how many waves, and how far they are apart, ms. */
  readonly rolloutAfterMs: number;
  readonly waves: number;
  readonly waveEveryMs: number;
  /** Reports that each host holds after an outage: all come at once with them, and the run ends when all are taken. 0: no outage. */
  readonly spool: number;
  readonly connections: number;
};

/** What hosts of one seed have of their own. */
export class Seeded {
  readonly #seed: string;
  readonly #mix: number;
  /** Tells fleets of different seeds apart, for people. */
  readonly tag: string;

  constructor(seed: string) {
    this.#seed = seed;
    this.tag = hash('sha256', seed, 'hex').slice(0, 4);
    this.#mix = Number.parseInt(hash('sha256', `mix ${seed}`, 'hex').slice(0, 8), 16);
  }

  /** 32 bytes from which a host's key is made. */
  keyOf(host: number): Uint8Array {
    return createHmac('sha256', this.#seed).update(`key ${host}`).digest();
  }

  machineOf(host: number): string {
    return createHmac('sha256', this.#seed).update(`machine ${host}`).digest('hex').slice(0, 32);
  }

  /** A boot id: another one after each boot. */
  bootOf(host: number, boots: number): string {
    const hex = createHmac('sha256', this.#seed).update(`boot ${host} ${boots}`).digest('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
  }

  nameOf(host: number): string {
    return `load-${this.tag}-${String(host).padStart(6, '0')}`;
  }

  /** A number in [0, 1) that belongs to a host, a purpose and a count; cheap, because each report draws some (murmur3's last step). */
  chance(host: number, purpose: number, count = 0): number {
    let x = (this.#mix ^ Math.imul(host + 1, 0x9e3779b1) ^ Math.imul(purpose, 0x85ebca6b)) | 0;
    x = Math.imul(x ^ (x >>> 16) ^ Math.imul(count + 1, 0xc2b2ae35), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
  }
}

/** What `chance` is drawn for. */
export const DRAW = { start: 1, drift: 2, kind: 3, duplicate: 4, skew: 5, wave: 6, backoff: 7 } as const;
