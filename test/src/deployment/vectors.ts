/** The texts of test/vectors/bootc, as bytes one character each; and a host of which nothing was told. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Told } from '#src/deployment/assemble.ts';

const folder = join(import.meta.dirname, '../../vectors/bootc');

export function vector(name: string): string {
  return readFileSync(join(folder, name), 'latin1');
}

/** The sections of a file of mountinfo samples, by the name in `# [name]`. */
export function sections(name: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const part of vector(name).split(/^# \[/m).slice(1)) {
    const [title, rest] = [part.slice(0, part.indexOf(']')), part.slice(part.indexOf('\n') + 1)];
    found.set(title, rest.replace(/^#.*\n/gm, ''));
  }
  return found;
}

export const UNTOLD: Told = {
  backend: null,
  image: null,
  bootc: null,
  rpmOstree: null,
  found: [],
  ostreeBooted: null,
  mounts: null,
  kargs: [],
  kernel: null,
  unread: [],
};
