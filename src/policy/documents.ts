/** A policy out of several documents (docs/policy.md, section 2.4): the one that none of the others extends counts, with those that it extends. */
import { DocumentError, readYaml, type Problem, type YamlDocument } from '#src/document/yaml.ts';
import { POLICY_DOCUMENTS_MAX } from '#src/limits.ts';
import { policyOf, type Policy } from './document.ts';

export type PolicyDocumentText = { readonly file: string; readonly text: string };

/**
 * `counts` names the file that counts, where that is known; `shipped` is what `extends: default` means where no document is named so. Answers the policy, and its documents with the one that counts first.
 * @throws {DocumentError} for a document that is none, for two of one name, and where it is not clear which one counts.
 */
export function policyOfDocuments(
  documents: readonly PolicyDocumentText[],
  shipped: Policy | undefined,
  counts?: string,
): { readonly policy: Policy; readonly documents: readonly PolicyDocumentText[] } {
  const named = new Map<string, PolicyDocumentText>();
  const read = new Map<PolicyDocumentText, YamlDocument>();
  const extended = new Map<string, string>();
  const refuse = (file: string, message: string) => {
    const problem: Problem = { line: 1, column: 1, message };
    return new DocumentError('DOCUMENT_INVALID', file, [problem]);
  };
  const first = documents[0];
  if (first === undefined) throw refuse('policy', 'there is no document');
  if (documents.length > POLICY_DOCUMENTS_MAX)
    throw refuse(first.file, `${documents.length} documents; at most ${POLICY_DOCUMENTS_MAX} make a policy`);
  for (const document of documents) {
    const yaml = readYaml(document.text, document.file);
    read.set(document, yaml);
    const value = yaml.value as { name?: unknown; extends?: unknown } | null;
    const name = typeof value?.name === 'string' ? value.name : document.file;
    const other = named.get(name);
    if (other !== undefined) throw refuse(document.file, `${other.file} has the name ${JSON.stringify(name)} too`);
    named.set(name, document);
    if (typeof value?.extends === 'string') extended.set(value.extends, document.file);
  }
  const ends =
    counts === undefined
      ? [...named].filter(([name]) => !extended.has(name)).map(([, document]) => document)
      : documents.filter(({ file }) => file === counts);
  const main = ends[0];
  if (main === undefined) throw refuse(first.file, 'these documents extend each other in a circle');
  if (ends.length > 1)
    throw refuse(
      ends[1]!.file,
      `which policy counts? None of the others extends ${ends.map(({ file }) => file).join(', ')}: keep one, or let one extend the other`,
    );
  const used = new Set<PolicyDocumentText>();
  const parse = (document: PolicyDocumentText): Policy => {
    // What is found again while it is being read would extend itself.
    if (used.has(document)) throw refuse(document.file, 'this policy extends itself, by way of others');
    used.add(document);
    return policyOf(read.get(document)!, {
      file: document.file,
      base: (name) => {
        const found = named.get(name);
        if (found !== undefined && found !== document) return parse(found);
        return name === shipped?.name ? shipped : undefined;
      },
    });
  };
  const policy = parse(main);
  return { policy, documents: [...used] };
}
