/** One machine's day: first boot, report by itself, then scene by scene what is done to it, and what the server says of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '#src/digest.ts';
import { Machine } from './machine.ts';
import type { Mode } from './mode.ts';
import type { Record } from './record.ts';
import { FRESH, SCENES, type Check, type Scene, type Seen } from './scenes.ts';
import type { Service } from './service.ts';

export type Play = {
  readonly mode: Mode;
  readonly digest: Digest;
  readonly disk: string;
  readonly service: Service;
  readonly record: Record;
  readonly folder: string;
};

/** Emulated machines are slow, the more where others have the cores: what takes longer than this (seconds) hangs. */
const WITHIN = { boot: 900, report: 900, off: 300, enable: 900 } as const;

export async function playAll(play: Play): Promise<void> {
  const { mode, record } = play;
  const day = new Day(play);
  try {
    if (mode === 'verity') await record.timedAsync('fs-verity turned on', () => day.enableVerity());
    await record.timedAsync(`first boot and report, ${mode}`, () => day.firstBoot());
    await record.timedAsync(`scenes, ${mode}`, () => day.scenes());
  } finally {
    await day.end();
  }
}

class Day {
  readonly #play: Play;
  #machine: Machine | undefined;
  #fresh: Seen | undefined;
  #last = 0;

  constructor(play: Play) {
    this.#play = play;
  }

  get #running(): Machine {
    if (this.#machine === undefined) throw new Error('no machine runs');
    return this.#machine;
  }

  async end(): Promise<void> {
    await this.#machine?.kill();
  }

  async #boot(
    more: { composefs?: string; kernelArguments?: string; credentials?: Readonly<{ [name: string]: string }> } = {},
  ): Promise<Machine> {
    const { disk, folder } = this.#play;
    this.#machine = await Machine.boot({ disk, folder, ...more });
    return this.#machine;
  }

  async #off(): Promise<void> {
    await this.#running.shutDown(WITHIN.off);
    await this.end();
    this.#machine = undefined;
  }

  async enableVerity(): Promise<void> {
    const machine = await this.#boot({ composefs: 'yes', kernelArguments: 'init=/usr/lib/vm/verity' });
    const { status, output } = await machine.answer(WITHIN.enable);
    if (status !== 0) throw new Error(`fs-verity could not be turned on: ${output}`);
    await machine.off(WITHIN.off);
    await this.end();
  }

  async firstBoot(): Promise<void> {
    const { service, mode, digest } = this.#play;
    const token = await service.enrolmentToken(mode);
    const machine = await this.#boot({ credentials: { 'bootproof.token': token } });
    await machine.ready(WITHIN.boot);
    const byItself = await this.#nextReport();
    this.#tell(
      {
        what: 'nothing: the timer fires by itself after boot, the token having come as a credential of the hypervisor',
        expect: [],
      },
      byItself,
    );
    await this.#imageBuilt(digest);
    let seen = byItself;
    for (let tried = 0; tried < 3 && seen.drifted.comparedWith === null; tried++) seen = await this.#fire();
    this.#fresh = seen;
    for (const check of FRESH) this.#check(check, seen);
    const doctor = await machine.run('/usr/lib/bootproof/bootproof agent doctor');
    // 2: without bootc it cannot tell all.
    this.#say(
      '`agent doctor`',
      doctor.output.trim().split('\n').at(-1) ?? '',
      [0, 2].includes(doctor.status) ? null : doctor.output,
    );
    const failed = await machine.ok("systemctl list-units --failed --plain --no-legend | awk '{print $1}'");
    this.#say('failed units', failed === '' ? 'none' : failed, failed === '' ? null : failed);
    const cost = await machine.ok('systemctl show bootproof-agent.service -p MemoryPeak -p CPUUsageNSec');
    this.#say('what a cycle costs here', costOf(cost), null);
  }

  async scenes(): Promise<void> {
    for (const { what, script, reboot, expect } of SCENES[this.#play.mode]) {
      const { status, output } = await this.#running.run(script);
      if (status !== 0) {
        this.#say(what, 'nothing', `it could not be done: ${output}`);
        continue;
      }
      if (reboot === true) {
        await this.#off();
        await (await this.#boot()).ready(WITHIN.boot);
      }
      this.#tell({ what, expect }, reboot === true ? await this.#nextReport() : await this.#fire());
    }
    await this.#off();
  }

  #tell(scene: Pick<Scene, 'what' | 'expect'>, seen: Seen): void {
    const { host, stats } = seen;
    const ways =
      stats === undefined
        ? 'unchanged'
        : `${stats.files - (stats.cached ?? 0) - (stats.measured ?? 0)} of ${stats.files} files read`;
    this.#say(scene.what, `${host.verdict}: ${host.sentence} (integrity ${host.integrity.state}); ${ways}`, null);
    for (const check of scene.expect) this.#check(check, seen);
  }

  #check(check: Check, seen: Seen): void {
    const [told, wrong] = check.look(seen, { ...this.#play, fresh: this.#fresh ?? seen });
    this.#say(`· ${check.what}`, told, wrong);
  }

  #say(what: string, seen: string, wrong: string | null): void {
    this.#play.record.line({ machine: this.#play.mode, what, seen, wrong });
  }

  /** One cycle, as systemd runs it. */
  async #fire(): Promise<Seen> {
    // The last one may have reported, and not be over yet; where there was nothing to compare with, it failed (docs/agent.md, "When it runs").
    const done = await this.#running
      .run(`while [ "$(systemctl show -P ActiveState bootproof-agent.service)" = activating ]; do sleep 0.3; done
systemctl start bootproof-agent.service`);
    if (done.status !== 0) {
      const journal = await this.#running.run(
        'journalctl -b -u bootproof-agent -u bootproof-enroll --no-pager | tail -n 30',
      );
      throw new Error(`the agent failed: ${done.output}\n${journal.output}`);
    }
    return this.#nextReport();
  }

  /** What the server says once it has a newer report than the last one. */
  async #nextReport(): Promise<Seen> {
    const { service, mode } = this.#play;
    const until = Date.now() + WITHIN.report * 1000;
    for (;;) {
      const host = await service.host(mode);
      const seq = host?.last?.seq ?? 0;
      if (host !== undefined && seq > this.#last) {
        this.#last = seq;
        const stats = await service.stats(host);
        return { host, findings: await service.findings(host), drifted: await service.drift(host), stats };
      }
      if (Date.now() > until) {
        const journal = await this.#running.run(
          "systemctl status --no-pager 'bootproof*' | tail -n 60; journalctl -b -u 'bootproof*' --no-pager | tail -n 40",
        );
        throw new Error(`no report after ${WITHIN.report} s\n${journal.output}`);
      }
      await sleep(500);
    }
  }

  async #imageBuilt(digest: Digest): Promise<void> {
    const until = Date.now() + WITHIN.report * 1000;
    for (;;) {
      const state = await this.#play.service.imageState(digest);
      if (state === 'ready') return;
      if (state.startsWith('failed') || Date.now() > until) throw new Error(`the manifest of ${digest}: ${state}`);
      await sleep(500);
    }
  }
}

function costOf(shown: string): string {
  const [peak, cpu] = ['MemoryPeak', 'CPUUsageNSec'].map((name) =>
    Number(new RegExp(`^${name}=(\\d+)$`, 'm').exec(shown)?.[1]),
  );
  return `${(cpu! / 1e9).toFixed(1)} s of CPU, ${Math.round(peak! / 2 ** 20)} MiB at most with its page cache`;
}
