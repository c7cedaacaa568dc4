/**
 * What other projects publish to judge programs like ours, held against our own executables: sigstore-conformance's bundles through
 * test/foreign/sigstore-conformance, policy-controller's documents through the reader of policies. Prints how many pass and a reason for
 * each that does not; exit 0 only when all do. `node test/foreign/published.ts [-v]`
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DocumentError } from '../../src/document/yaml.ts';
import { parseImagePolicy } from '../../src/trust/imagepolicy.ts';

const vectors = join(import.meta.dirname, '../vectors/conformance');
const suite = join(vectors, 'sigstore/bundle-verify');
const policies = join(vectors, 'clusterimagepolicy');
const client = join(import.meta.dirname, 'sigstore-conformance');
const run = promisify(execFile);

/** What the suite itself takes where a case names none (its test/client.py at the revision that the vectors' README tells). */
const BEACON =
  'https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main';
const ACTIONS = 'https://token.actions.githubusercontent.com';

/** `why` is null where the case went as its publisher says that it must. `said` is our answer. */
type Outcome = { readonly name: string; readonly said: string; readonly why: string | null };
const isVerbose = process.argv.includes('-v');

function publish(what: string, outcomes: readonly Outcome[]): void {
  for (const { name, said, why } of outcomes)
    if (why !== null) console.log(`not ok ${name}: ${why}; ours: ${said}`);
    else if (isVerbose) console.log(`ok ${name}: ${said}`);
  const failed = outcomes.filter(({ why }) => why !== null).length;
  console.log(`${what}: ${outcomes.length - failed} of ${outcomes.length} pass`);
  // None at all would pass as well.
  if (failed > 0 || outcomes.length === 0) process.exitCode = 1;
}

// ── bundles ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function bundle(name: string): Promise<Outcome> {
  const file = (what: string) => join(suite, name, what);
  const text = (what: string, otherwise: string) =>
    existsSync(file(what)) ? readFileSync(file(what), 'utf8').trim() : otherwise;
  const who = existsSync(file('key.pub'))
    ? ['--key', file('key.pub')]
    : ['--certificate-identity', text('identity', BEACON), '--certificate-oidc-issuer', text('issuer', ACTIONS)];
  const root = existsSync(file('trusted_root.json')) ? ['--trusted-root', file('trusted_root.json')] : [];
  const artifact = existsSync(file('artifact')) ? file('artifact') : join(suite, 'a.txt');
  const args = ['verify-bundle', '--bundle', file('bundle.sigstore.json'), ...who, ...root, artifact];
  const { status, said } = await run(client, args).then(
    ({ stdout }) => ({ status: 0, said: stdout.trim() }),
    (error: { code?: unknown; stdout?: string; stderr?: string }) => ({
      status: error.code,
      said: `${error.stdout ?? ''}${error.stderr ?? ''}`.trim().slice(0, 400),
    }),
  );
  const expected = name.endsWith('_fail') ? 1 : 0;
  // A crash is no refusal: wrong use is 64, a fault of ours 70 or a signal.
  return { name, said, why: status === expected ? null : `exit ${String(status)} where ${expected} must be` };
}

/** As many at once as there are processors: each is a process of its own. */
async function bundles(): Promise<Outcome[]> {
  const names = readdirSync(suite, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
  const outcomes: Outcome[] = [];
  const waiting = names.entries();
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      for (const [index, name] of waiting) outcomes[index] = await bundle(name);
    }),
  );
  return outcomes;
}

// ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** kubectl and the CRD worded these, not the controller: that they are refused is all that can be compared. */
const OTHER_WORDS = new Set([
  'empty-keyref-and-keylessref.yaml',
  'missing-identity.yaml',
  'v1beta1-missing-identity.yaml',
]);

function document(folder: string, file: string): Outcome {
  const text = readFileSync(join(policies, folder, file), 'utf8');
  const name = `${folder}/${file}`;
  const mustFail = folder === 'invalid' || folder === 'empty-authorities' || !/^kind: *ClusterImagePolicy$/m.test(text);
  let problems: readonly string[] = [];
  try {
    parseImagePolicy([{ file, text }]);
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error;
    problems = error.problems.map(({ message }) => message);
  }
  const said = problems.length === 0 ? 'accepted' : `refused: ${problems.join('; ')}`;
  if (problems.length > 0 !== mustFail) return { name, said, why: `must be ${mustFail ? 'refused' : 'accepted'}` };
  if (folder !== 'invalid' || OTHER_WORDS.has(file)) return { name, said, why: null };
  const reasons = [...text.matchAll(/^# ERROR: ?(?:validation failed: )?(.*)$/gm)].map(([, reason]) => reason!);
  const missing = reasons.filter((reason) => !said.includes(reason));
  if (reasons.length === 0) return { name, said, why: 'names no reason' };
  return { name, said, why: missing.length === 0 ? null : `must be refused for: ${missing.join('; ')}` };
}

publish('sigstore-conformance, bundles', await bundles());
publish(
  'policy-controller, documents',
  ['valid', 'invalid', 'empty-authorities', 'e2e'].flatMap((folder) =>
    readdirSync(join(policies, folder))
      .sort()
      .map((file) => document(folder, file)),
  ),
);
