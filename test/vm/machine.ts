/** A machine under qemu: boots what its disk says, and does in it what it is told, over the second serial port. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export type Done = { readonly status: number; readonly output: string };

export type BootOptions = {
  readonly disk: string;
  /** For what belongs to this boot. */
  readonly folder: string;
  /** systemd credentials by name, handed over as a hypervisor does (SMBIOS type 11). */
  readonly credentials?: Readonly<Record<string, string>>;
  /** Kernel arguments of this boot alone. */
  readonly kernelArguments?: string;
  /** What prepare-root.conf in the initramfs says, in place of the image's own. */
  readonly composefs?: string;
};

/** What a machine does at most, seconds: beyond that qemu is ended from outside. */
const LIFE = 3600;

export class Machine {
  readonly #child: ChildProcess;
  readonly #port: Socket;
  readonly #console: string;
  readonly #folder: string;
  #text = '';
  #changed: () => void = () => undefined;

  private constructor(child: ChildProcess, port: Socket, folder: string) {
    this.#child = child;
    this.#port = port;
    this.#folder = folder;
    this.#console = join(folder, 'console.log');
    port.setEncoding('latin1');
    const changed = () => this.#changed();
    port.on('data', (data: string) => {
      this.#text += data;
      changed();
    });
    port.on('close', changed).on('error', changed);
    child.on('exit', changed);
  }

  /** Boots the newest entry of the disk's boot loader; returns when qemu runs. */
  static async boot(options: BootOptions): Promise<Machine> {
    const folder = mkdtempSync(join(options.folder, 'boot-'));
    const { kernel, initrd, kernelArguments } = bootEntry(options.disk, folder);
    if (options.composefs !== undefined) otherConfiguration(initrd, options.composefs, folder);
    const socket = join(folder, 'control');
    // A broken boot ends at once, instead of waiting for a key.
    const ends = 'systemd.show_status=0 quiet rd.shell=0 rd.emergency=reboot panic=1';
    const args = [
      // Without AVX: emulated, programs are faster without it.
      ['-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'qemu64'],
      ['-smp', '2', '-m', '1536', '-nodefaults', '-nographic', '-no-reboot', '-kernel', kernel, '-initrd', initrd],
      ['-append', [kernelArguments, ends, options.kernelArguments ?? ''].join(' ')],
      ['-serial', `file:${join(folder, 'console.log')}`],
      ['-chardev', `socket,id=control,path=${socket},server=on,wait=off`, '-serial', 'chardev:control'],
      ['-drive', `if=none,id=disk,format=raw,cache=unsafe,file=${options.disk}`],
      ['-device', 'virtio-blk-pci,drive=disk', '-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net'],
      ['-device', 'virtio-rng-pci'],
      Object.entries(options.credentials ?? {}).flatMap(([name, text]) => [
        '-smbios',
        `type=11,value=io.systemd.credential:${name}=${text}`,
      ]),
    ].flat();
    const log = openSync(join(folder, 'qemu.log'), 'w');
    const child = spawn('timeout', ['--foreground', String(LIFE), 'qemu-system-x86_64', ...args], {
      stdio: ['ignore', log, log],
    });
    const port = await connected(child, socket, join(folder, 'qemu.log'));
    return new Machine(child, port, folder);
  }

  /** Waits until the control service answers. */
  async ready(seconds: number): Promise<void> {
    await this.#until(/^ready\r?\n/, seconds);
  }

  /** Runs a script as root in the machine. Its status is for the caller to judge. */
  async run(script: string, seconds = 1000): Promise<Done> {
    this.#port.write(`${Buffer.from(script).toString('base64')}\n`);
    return this.answer(seconds);
  }

  /** What a script says that was started by other means. */
  async answer(seconds: number): Promise<Done> {
    const [, status, packed] = await this.#until(/^=(\d*) (\S*)\r?\n/, seconds);
    const output = Buffer.from(packed!, 'base64').toString('utf8');
    // Its last line is the status once more.
    return { status: Number(status), output: output.trimEnd().split('\n').slice(0, -1).join('\n') };
  }

  /** Runs a script that must succeed. */
  async ok(script: string, seconds?: number): Promise<string> {
    const { status, output } = await this.run(script, seconds);
    if (status !== 0) throw new Error(`in the machine, status ${status}: ${script}\n${output}`);
    return output;
  }

  /** Shuts it down as a person would, and waits until it is off. */
  async shutDown(seconds: number): Promise<void> {
    this.#port.write(`${Buffer.from('systemctl poweroff').toString('base64')}\n`);
    await this.off(seconds);
  }

  async off(seconds: number): Promise<void> {
    const until = Date.now() + seconds * 1000;
    while (!isOver(this.#child) && Date.now() < until) await sleep(200);
    if (!isOver(this.#child)) throw new Error(`the machine is not off after ${seconds} s\n${this.tail()}`);
  }

  /** Pulls the plug. */
  async kill(): Promise<void> {
    if (!isOver(this.#child)) {
      this.#child.kill('SIGTERM');
      await once(this.#child, 'exit');
    }
    this.#port.destroy();
  }

  /** The end of what the kernel and systemd said. */
  tail(): string {
    const lines = readFileSync(this.#console, 'latin1').split('\n').slice(-40);
    return lines.map((line) => line.replaceAll(/[^ -~]/g, '')).join('\n');
  }

  forget(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #until(pattern: RegExp, seconds: number): Promise<RegExpExecArray> {
    const until = Date.now() + seconds * 1000;
    for (;;) {
      const found = pattern.exec(this.#text);
      if (found !== null) {
        this.#text = this.#text.slice(found[0].length);
        return found;
      }
      const left = until - Date.now();
      if (left <= 0 || isOver(this.#child))
        throw new Error(
          `the machine ${left <= 0 ? `said nothing for ${seconds} s` : 'went off'}; it had said ${JSON.stringify(this.#text.slice(0, 500))}\n${this.tail()}`,
        );
      await Promise.race([new Promise<void>((resolve) => (this.#changed = resolve)), sleep(Math.min(left, 1000))]);
    }
  }
}

/** A process that a signal ended has no status. */
const isOver = ({ exitCode, signalCode }: ChildProcess): boolean => exitCode !== null || signalCode !== null;

async function connected(child: ChildProcess, path: string, log: string): Promise<Socket> {
  for (let tried = 0; tried < 100 && !isOver(child); tried++) {
    const socket = connect(path);
    const [up] = await Promise.race([
      once(socket, 'connect').then(() => [true]),
      once(socket, 'error').then(() => [false]),
    ]).catch(() => [false]);
    if (up === true) return socket;
    await sleep(100);
  }
  throw new Error(`qemu did not start: ${readFileSync(log, 'utf8')}`);
}

/** As a boot loader does: the entry of the highest number (Boot Loader Specification), read from the disk without mounting it. */
function bootEntry(disk: string, folder: string): { kernel: string; initrd: string; kernelArguments: string } {
  const debugfs = (request: string) =>
    execFileSync('debugfs', ['-R', request, disk], { encoding: 'latin1', stdio: ['ignore', 'pipe', 'ignore'] });
  const names = debugfs('ls -p /boot/loader/entries')
    .split('\n')
    .flatMap((line) => line.split('/')[5] ?? [])
    .filter((name) => name.endsWith('.conf'))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const entry = debugfs(`cat /boot/loader/entries/${names.at(-1)}`);
  const field = (name: string) => {
    const found = new RegExp(`^${name} (.*)$`, 'm').exec(entry)?.[1];
    if (found === undefined) throw new Error(`the boot loader entry has no ${name}: ${entry}`);
    return found;
  };
  // The path is that on /boot, or on the disk.
  const copy = (name: string) => {
    const file = join(folder, name);
    debugfs(`dump /boot${field(name).replace(/^\/boot/, '')} ${file}`);
    return file;
  };
  return { kernel: copy('linux'), initrd: copy('initrd'), kernelArguments: field('options') };
}

/** A second archive behind the first: of two files of one name, the later counts. */
function otherConfiguration(initrd: string, composefs: string, folder: string): void {
  const text = `[composefs]\nenabled = ${composefs}\n[sysroot]\nreadonly = true\n`;
  const first = readFileSync(initrd);
  const parts: Uint8Array[] = [first, Buffer.alloc((4 - (first.length % 4)) % 4)];
  const folders = ['usr', 'usr/lib', 'usr/lib/ostree'].map((path) => cpio(path, 0o40755, ''));
  parts.push(...folders, cpio('usr/lib/ostree/prepare-root.conf', 0o100644, text), cpio('TRAILER!!!', 0, ''));
  writeFileSync(join(folder, 'initrd'), Buffer.concat(parts));
}

/** cpio(5), "New ASCII Format": thirteen numbers of eight hex digits, name and content each padded to four bytes. */
function cpio(name: string, mode: number, content: string): Buffer {
  const numbers = [0, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
  const head = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}${name}\0`;
  const padded = (text: string) => text + '\0'.repeat((4 - (text.length % 4)) % 4);
  return Buffer.from(padded(head) + padded(content), 'latin1');
}
