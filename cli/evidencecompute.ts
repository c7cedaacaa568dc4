/** Computes a bundle's results, OSCAL, tables and report again from its facts, and writes them to a folder: to read, and to compare. */
import { mkdir, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fromBase64 } from '#src/bytes.ts';
import { assess, prepare, resultsText } from '#src/evidence/controls.ts';
import { derivedMembers } from '#src/evidence/derived.ts';
import type { Facts } from '#src/evidence/facts.ts';
import { parseFramework, type Framework } from '#src/policy/controls.ts';
import { fingerprintOf, publicKeyFromSpki } from '#src/signing/ed25519.ts';
import { printableText, UsageError } from '#src/terminal.ts';

type Read = (member: string) => Promise<string>;

/** Results of controls by the mappings that lie in the bundle. */
export async function recompute(facts: Facts, read: Read): Promise<string> {
  const mappings = (await mappingsOf(facts, read)).map(({ framework }) => framework);
  return resultsText(await assess(await prepare(facts, mappings)));
}

/** The same, and all that is computed goes to `folder`; `emptyFolder` made it. @throws {UsageError} */
export const recomputeTo =
  (folder: string) =>
  async (facts: Facts, read: Read): Promise<string> => {
    const pem = await read('server.pub.pem');
    const key = publicKeyFromSpki(fromBase64(pem.split('\n')[1] ?? ''));
    let results = '';
    for await (const { name, content } of derivedMembers(facts, await mappingsOf(facts, read), {
      fingerprint: fingerprintOf(key),
    })) {
      await write(join(folder, name), content instanceof Uint8Array ? [content] : content);
      if (name === 'controls/results.json') results = Buffer.from(content as Uint8Array).toString();
    }
    return results;
  };

/** Made, and empty: said before anything is verified. @throws {UsageError} */
export async function emptyFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    if ((await readdir(folder)).length === 0) return;
  } catch (error) {
    throw new UsageError(`--write ${printableText(folder)}: ${(error as NodeJS.ErrnoException).code}`);
  }
  throw new UsageError(`--write ${printableText(folder)}: it is not empty; name a new folder`);
}

async function mappingsOf(
  facts: Facts,
  read: Read,
): Promise<{ readonly framework: Framework; readonly text: string }[]> {
  const mappings = [];
  for (const id of facts.head.frameworks) {
    const text = await read(`controls/${id}.yaml`);
    mappings.push({ framework: parseFramework(text, `controls/${id}.yaml`), text });
  }
  return mappings;
}

async function write(file: string, pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true });
    await using handle = await open(file, 'wx');
    for await (const piece of pieces) await handle.writeFile(piece);
  } catch (error) {
    if (error instanceof Error && 'syscall' in error)
      throw new UsageError(
        `${printableText(file)} cannot be written: ${String((error as NodeJS.ErrnoException).code)}`,
      );
    throw error;
  }
}
