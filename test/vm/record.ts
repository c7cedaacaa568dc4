/** What was done, what was seen, how long it took: on standard output as it goes, and as RESULTS.md at the end. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

type Line = { readonly machine: string; readonly what: string; readonly seen: string; readonly wrong: string | null };

export class Record {
  readonly #lines: Line[] = [];
  readonly #times: { readonly what: string; readonly seconds: number }[] = [];
  readonly #begun = Date.now();
  #versions = '';
  readonly #broke: string[] = [];

  timed<T>(what: string, act: () => T): T {
    const begun = this.#begin(what);
    const done = act();
    this.#end(what, begun);
    return done;
  }

  async timedAsync<T>(what: string, act: () => Promise<T>): Promise<T> {
    const begun = this.#begin(what);
    const done = await act();
    this.#end(what, begun);
    return done;
  }

  #begin(what: string): number {
    console.log(`[${this.#elapsed()} s] ${what}`);
    return Date.now();
  }

  #end(what: string, begun: number): void {
    this.#times.push({ what, seconds: Math.round((Date.now() - begun) / 1000) });
  }

  #elapsed(): number {
    return Math.round((Date.now() - this.#begun) / 1000);
  }

  /** One thing that was looked at; `wrong` says why it is not as it must be. */
  line(line: Line): void {
    this.#lines.push(line);
    console.log(
      `[${this.#elapsed()} s] ${line.machine}: ${line.wrong === null ? 'ok' : 'WRONG'}: ${line.what}: ${line.seen}${line.wrong === null ? '' : `\n    ${line.wrong}`}`,
    );
  }

  broke(error: unknown): void {
    console.error(error);
    this.#broke.push(error instanceof Error ? error.message : JSON.stringify(error));
  }

  /** Of the packages in the guest, and of what made and ran it. */
  versions(packages: string): void {
    const status = readFileSync(join(packages, 'var/lib/dpkg/status'), 'utf8').split('\n\n');
    const version = (name: string) =>
      /^Version: (.*)$/m.exec(status.find((one) => one.startsWith(`Package: ${name}\n`)) ?? '')?.[1] ?? '?';
    const guest = ['ostree', 'systemd', 'dracut-core', 'libcomposefs1'].map((name) => `${name} ${version(name)}`);
    const [kernel] = readdirSync(join(packages, 'usr/lib/modules'));
    const qemu = /version (\S+)/.exec(execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }))?.[1];
    this.#versions = `guest: ${guest.join(', ')}, Linux ${kernel}; qemu ${qemu} without KVM, ${cpus().length} cores, Node ${process.versions.node}`;
  }

  results(): { readonly text: string; readonly failed: boolean } {
    const wrong = this.#lines.filter((line) => line.wrong !== null);
    const failed = wrong.length > 0 || this.#broke.length > 0 || this.#lines.length === 0;
    const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
    const machines = [...new Set(this.#lines.map(({ machine }) => machine))];
    const text = [
      '# The booted machine: last result',
      '',
      '`npm run test:vm` writes this file (README.md).',
      '',
      `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC: ${failed ? `**${this.#broke.length > 0 ? 'broke off' : 'failed'}**, ${wrong.length} of ${this.#lines.length} wrong` : `passed, ${this.#lines.length} of ${this.#lines.length}`}, in ${this.#elapsed()} s.`,
      ...this.#broke.flatMap((why) => ['', `It broke off: ${cell(why.slice(0, 500))}`]),
      '',
      this.#versions,
      ...machines.flatMap((machine) => [
        '',
        `## composefs ${machine}`,
        '',
        '| done in the running machine | seen at the server | |',
        '|---|---|---|',
        ...this.#lines
          .filter((line) => line.machine === machine)
          .map(
            ({ what, seen, wrong: why }) =>
              `| ${cell(what)} | ${cell(seen)} | ${why === null ? 'as it must be' : `**wrong**: ${cell(why)}`} |`,
          ),
      ]),
      '',
      '## Time',
      '',
      '| | s |',
      '|---|---|',
      ...this.#times.map(({ what, seconds }) => `| ${what} | ${seconds} |`),
      '',
    ].join('\n');
    return { text, failed };
  }
}
