/** Control mappings on disk: those that ship (policies/controls), a file, or a folder of them. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DocumentError } from '#src/document/yaml.ts';
import { YAML_BYTES_MAX } from '#src/limits.ts';
import { parseFramework, type Framework } from '#src/policy/controls.ts';
import { printableText, UsageError } from '#src/terminal.ts';

/** A mapping with the text that it was read from, as a bundle keeps it. */
export type FrameworkFile = { readonly framework: Framework; readonly text: string };

const SHIPPED = join(import.meta.dirname, '..', 'policies', 'controls');

let shipped: Promise<readonly FrameworkFile[]> | undefined;
/** Read once in a process: they come with the build. */
export function shippedFrameworks(): Promise<readonly FrameworkFile[]> {
  return (shipped ??= readFrameworks(SHIPPED));
}

/**
 * The mappings of a file, or of the `*.yaml` in a folder, ordered by file name.
 * @throws {UsageError} for what cannot be read; {DocumentError} for what is no mapping, and for a second one of a name.
 */
export async function readFrameworks(place: string): Promise<readonly FrameworkFile[]> {
  const texts = await textsAt(place);
  const seen = new Map<string, string>();
  return texts.map(({ file, text }) => {
    const framework = parseFramework(text, file);
    const other = seen.get(framework.id);
    if (other !== undefined)
      throw new DocumentError('DOCUMENT_INVALID', file, [
        { line: 1, column: 1, message: `${other} maps ${framework.id} too` },
      ]);
    seen.set(framework.id, file);
    return { framework, text };
  });
}

async function textsAt(place: string): Promise<readonly { readonly file: string; readonly text: string }[]> {
  const read = async (file: string, path: string) => {
    const { size } = await stat(path);
    if (size > 4 * YAML_BYTES_MAX) throw new UsageError(`${printableText(path)} is no mapping: ${size} bytes`);
    return { file, text: await readFile(path, 'utf8') };
  };
  try {
    if (!(await stat(place)).isDirectory()) return [await read(place, place)];
    const names = (await readdir(place)).filter((name) => /\.ya?ml$/.test(name) && !name.startsWith('.')).sort();
    if (names.length === 0) throw new UsageError(`${printableText(place)} holds no mapping: no *.yaml lies in it`);
    return await Promise.all(
      names.map((name) => read(place === SHIPPED ? `policies/controls/${name}` : name, join(place, name))),
    );
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError(`${printableText(place)} cannot be read: ${(cause as NodeJS.ErrnoException).code}`);
  }
}
