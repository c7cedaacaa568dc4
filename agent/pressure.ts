/**
 * How much others on the host wait for cores, disks and memory (Linux, Documentation/accounting/psi.rst), and whether it runs on battery: a scan rests
 * while they do, for a bounded time. Where the kernel does not tell, nothing is waited for.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export const RESOURCES = ['cpu', 'io', 'memory'] as const;
export type Resource = (typeof RESOURCES)[number];

export type Gentle = {
  /** Percent of the time in which something may wait for it; null: not looked at. */
  readonly limits: Readonly<Record<Resource, number | null>>;
  /** Milliseconds that one scan rests at most. */
  readonly waitMs: number;
  /** Milliseconds that a scan waits at most for the end of running on battery; null: it does not. */
  readonly batteryMs: number | null;
};

/** What the host tells: of each resource the microseconds since boot in which something waited for it; whether it runs on battery. */
export type HostLoad = {
  stalled(): Partial<Record<Resource, number>>;
  onBattery(): boolean;
};

export type NeighbourDeps = {
  readonly load?: HostLoad;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
  readonly pause?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
};

/** How often is looked; and after a rest that showed that the others do not suffer, when again. */
const LOOK_MS = 1000;
const QUIET_MS = 15_000;
const BATTERY_LOOK_MS = 15_000;

type Reading = { readonly at: number; readonly stalled: ReturnType<HostLoad['stalled']> };
type Pressed = { readonly resource: Resource; readonly percent: number };

/** One scan's regard for the rest of the host. */
export class Neighbour {
  readonly #gentle: Gentle;
  readonly #load: HostLoad;
  readonly #now: () => number;
  readonly #pause: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
  #last: Reading | undefined;
  #quietUntil = 0;
  #restedMs = 0;
  #worst: Pressed | undefined;
  #gaveUp = false;
  #batteryMs = 0;
  #stillOnBattery = false;

  constructor(
    gentle: Gentle,
    { load = linuxLoad, now = () => performance.now(), pause = pauseFor }: NeighbourDeps = {},
  ) {
    this.#gentle = gentle;
    this.#load = load;
    this.#now = now;
    this.#pause = pause;
  }

  /** Before a scan: waits while the host runs on battery, if that is wanted, and no longer than it may. @throws the signal's reason */
  async begin(signal?: AbortSignal): Promise<void> {
    const { batteryMs } = this.#gentle;
    if (batteryMs === null) return;
    const from = this.#now();
    while (this.#load.onBattery()) {
      this.#batteryMs = this.#now() - from;
      this.#stillOnBattery = this.#batteryMs >= batteryMs;
      if (this.#stillOnBattery) break;
      await this.#pause(Math.min(BATTERY_LOOK_MS, batteryMs - this.#batteryMs), signal);
      signal?.throwIfAborted();
    }
  }

  /** Whether the scan should stop giving out work, and then `rest`. Asked often; looks once a second. */
  get isPressed(): boolean {
    const now = this.#now();
    this.#last ??= this.#read();
    if (now - this.#last.at < LOOK_MS || now < this.#quietUntil || this.#restedMs >= this.#gentle.waitMs) return false;
    return this.#since() !== undefined;
  }

  /**
   * To be called when nothing of the scan is under way: what is waited for now, others wait for. Ends when they do no longer, or when the scan has
   * rested for as long as it may. @throws the signal's reason
   */
  async rest(signal?: AbortSignal): Promise<void> {
    let from = this.#read();
    this.#last = from;
    while (this.#restedMs < this.#gentle.waitMs) {
      await this.#pause(LOOK_MS, signal);
      signal?.throwIfAborted();
      const pressed = this.#since();
      this.#restedMs += this.#last.at - from.at;
      from = this.#last;
      if (pressed === undefined) break;
      if (pressed.percent > (this.#worst?.percent ?? 0)) this.#worst = pressed;
      this.#gaveUp = this.#restedMs >= this.#gentle.waitMs;
    }
    this.#quietUntil = this.#now() + QUIET_MS;
  }

  /** What a person should know of it, in sentences. */
  get notes(): string[] {
    const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
    const notes: string[] = [];
    if (this.#stillOnBattery)
      notes.push(
        `scan postponed: on battery; it waited for ${seconds(this.#batteryMs)}, the most it may, and then went on`,
      );
    else if (this.#batteryMs > 0) notes.push(`scan postponed: on battery for ${seconds(this.#batteryMs)}`);
    if (this.#worst !== undefined) {
      const { resource, percent } = this.#worst;
      const why = `others waited for ${resource} in ${Math.round(percent)} % of the time, more than ${this.#gentle.limits[resource]} %`;
      const end = this.#gaveUp ? ', the most it may, and then went on' : '';
      notes.push(`scan slow: ${why}; it rested for ${seconds(this.#restedMs)}${end}`);
    }
    return notes;
  }

  #read(): Reading {
    return { at: this.#now(), stalled: this.#load.stalled() };
  }

  /** The resource that was waited for most beyond its limit since the last look. */
  #since(): Pressed | undefined {
    const now = this.#read();
    const before = this.#last ?? now;
    this.#last = now;
    const ms = now.at - before.at;
    let pressed: Pressed | undefined;
    for (const resource of RESOURCES) {
      const [limit, from, to] = [this.#gentle.limits[resource], before.stalled[resource], now.stalled[resource]];
      if (limit === null || from === undefined || to === undefined || ms <= 0) continue;
      const percent = Math.min(100, (to - from) / (10 * ms));
      if (percent > limit && percent - limit > (pressed === undefined ? 0 : pressed.percent - limit))
        pressed = { resource, percent };
    }
    return pressed;
  }
}

/** `some … total=`: microseconds in which at least one task waited; undefined where the text is none of psi's. */
export function stalledOf(text: string): number | undefined {
  const total = /^some .*\btotal=(\d{1,15})$/m.exec(text)?.[1];
  return total === undefined ? undefined : Number(total);
}

/** What the kernel of this host tells. */
export const linuxLoad: HostLoad = {
  stalled() {
    const out: Partial<Record<Resource, number>> = {};
    for (const resource of RESOURCES) {
      const total = stalledOf(readIfThere(`/proc/pressure/${resource}`));
      if (total !== undefined) out[resource] = total;
    }
    return out;
  },
  onBattery: () => isOnBattery('/sys/class/power_supply'),
};

/** A battery of the machine itself that is being emptied, and no other source that is on (Linux, Documentation/ABI/testing/sysfs-class-power). */
export function isOnBattery(folder: string): boolean {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return false; // no such class: no batteries
  }
  const about = (name: string, what: string) => readIfThere(`${folder}/${name}/${what}`).trim();
  // Those of a mouse or a headset have the scope Device.
  const own = names.filter((name) => about(name, 'scope') !== 'Device');
  if (own.some((name) => about(name, 'type') !== 'Battery' && about(name, 'online') === '1')) return false;
  return own.some((name) => about(name, 'type') === 'Battery' && about(name, 'status') === 'Discharging');
}

/** Empty where it cannot be read: kernels without it, and those that refuse. */
function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return ''; // not told: nothing is waited for
  }
}

const pauseFor = async (ms: number, signal: AbortSignal | undefined): Promise<void> => {
  await sleep(ms, undefined, signal === undefined ? {} : { signal });
};
