/** The server's settings in a file (docs/operating.md 2): YAML, each under the name that it has on the command line. */
import { readFile } from 'node:fs/promises';
import { nearest } from '#src/document/spelling.ts';
import { DocumentError, readYaml, type YamlDocument } from '#src/document/yaml.ts';
import { YAML_BYTES_MAX } from '#src/limits.ts';
import { printableText, UsageError } from '#src/terminal.ts';
import { FLAGS, OPTIONS } from './flags.ts';
import { NO_FILE, type InFile, type SettingsFile } from './given.ts';

/** Where a file names itself, one may be in it or not: a file of another program is not taken for settings. */
const FORMAT = 'bootproof.server/1';

/** @throws {UsageError} where it cannot be read; what is wrong in it is told by `faults`. */
export async function readSettingsFile(path: string): Promise<SettingsFile> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new UsageError(
      `--config ${printableText(path)} cannot be read: ${(cause as NodeJS.ErrnoException).code}; name a file with settings`,
    );
  }
  return settingsIn(text.slice(0, YAML_BYTES_MAX + 1), path);
}

/** `file` names it in what is told of it. */
export function settingsIn(text: string, file: string): SettingsFile {
  let document: YamlDocument;
  try {
    document = readYaml(text, file);
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error;
    return { ...NO_FILE, faults: error.lines };
  }
  const { value } = document;
  // Nothing but comments: no settings.
  if (value === null) return NO_FILE;
  if (typeof value !== 'object' || Array.isArray(value))
    return { ...NO_FILE, faults: [`${file}:1:1: expected settings, a line each, such as listen: 0.0.0.0:8340`] };
  const faults: string[] = [];
  const values = new Map<string, InFile>();
  for (const [name, given] of Object.entries(value as Record<string, unknown>)) {
    const { line, column } = document.placeOfKey([], name);
    const refuse = (why: string) => void faults.push(`${file}:${line}:${column}: ${printableText(name)}: ${why}`);
    if (name === 'format') {
      if (given !== FORMAT) refuse(`expected ${FORMAT}`);
      continue;
    }
    const why = whyNot(name, given);
    if (why !== undefined) {
      refuse(why);
      continue;
    }
    const items: unknown[] = Array.isArray(given) ? given : [given];
    values.set(
      name,
      items.map((item, at) => {
        const place = Array.isArray(given) ? document.placeOf([name, at]) : { line, column };
        return { text: String(item), at: `${file}:${place.line}:${place.column}` };
      }),
    );
  }
  return { values, faults };
}

const isText = (value: unknown): boolean =>
  (typeof value === 'string' && value !== '') || (typeof value === 'number' && Number.isSafeInteger(value));

function whyNot(name: string, value: unknown): string | undefined {
  if (name === 'config') return 'a file names no other file';
  if (Object.hasOwn(OPTIONS, name)) {
    const many = 'multiple' in OPTIONS[name as keyof typeof OPTIONS];
    if (isText(value) || (many && Array.isArray(value) && value.every(isText))) return undefined;
    return many ? 'expected a text, or a list of them' : 'expected one text or number; quote what is text';
  }
  if (Object.hasOwn(FLAGS, name)) {
    if (!('env' in FLAGS[name as keyof typeof FLAGS])) return 'is an act of one start: write it on the command line';
    return typeof value === 'boolean' ? undefined : 'expected true or false';
  }
  if (/^database-?url$/i.test(name)) return 'a password has no place here: name a file with database-url-file';
  const known = [...Object.keys(OPTIONS), ...Object.keys(FLAGS)];
  // As a variable of ours is written, or without its dashes.
  const meant = nearest(name.replace(/^--|^BOOTPROOF_/, '').replaceAll('_', '-'), known);
  return `is no setting${meant === undefined ? "; 'bootproof server --help' lists them" : `, did you mean ${meant}?`}`;
}
