/** One process at a time in a folder: a file that names the process which holds it. */
import { closeSync, constants, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { BootproofError } from '#src/error.ts';
import { unlink } from './disk.ts';

export class LockError extends BootproofError<'LOCKED'> {}

/** Released by `using`, or with the process: a lock whose holder is gone is taken over. */
export type Lock = Disposable;

/** @throws {LockError} while another agent runs in this folder. */
export function lockFolder(folder: string): Lock {
  const file = `${folder}/lock`;
  const own = holderOf('self');
  for (let tries = 0; tries < 3; tries++) {
    if (create(file, own)) return { [Symbol.dispose]: () => unlink(file) };
    const holder = read(file);
    if (holder === undefined) continue; // it was released in between
    const pid = holder.split(' ')[0]!;
    if (holder !== '' && holderOf(pid) === holder)
      throw new LockError('LOCKED', `process ${pid} is at work in ${folder} already`);
    takeAway(file, holder, folder);
  }
  throw new LockError('LOCKED', `another process was quicker in ${folder}`);
}

/** Of two that find the same dead lock one moves it away; who moved a living one by mistake puts it back. */
function takeAway(file: string, dead: string, folder: string): void {
  const aside = `${folder}/.lock-${process.pid}`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (read(aside) === dead) unlink(aside);
  else {
    renameSync(aside, file);
    throw new LockError('LOCKED', `another process was quicker in ${folder}`);
  }
}

function create(file: string, holder: string): boolean {
  let fd: number;
  try {
    fd = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    writeSync(fd, holder);
  } finally {
    closeSync(fd);
  }
  return true;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Number and start time of a process: numbers are used again, the two together are not. Empty for one that is not there. */
function holderOf(pid: string): string {
  const stat = /^(?:self|[0-9]{1,10})$/.test(pid) ? read(`/proc/${pid}/stat`) : undefined;
  if (stat === undefined) return '';
  // The name in parentheses may hold anything: what is counted begins after it (proc_pid_stat(5)).
  const rest = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return `${stat.slice(0, stat.indexOf(' '))} ${rest[19]}`;
}
