/**
 * `bootproof policy …`: host policies on this machine (test, check, explain) and on a server (diff, apply, versions, show). docs/policy.md 13.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fromUtf8, toUtf8 } from '#src/bytes.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { isSecret } from '#src/drift/redact.ts';
import type { Drift } from '#src/drift/drift.ts';
import { parsePolicyTests, runPolicyCase } from '#src/finding/policytest.ts';
import { treeOf, type Facts } from '#src/manifest/entry.ts';
import { vis } from '#src/manifest/vis.ts';
import type { FileRule, Policy } from '#src/policy/document.ts';
import { lintControls } from '#src/policy/controls.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { explainPath } from '#src/policy/explain.ts';
import { NO_HOST, type HostFacts } from '#src/policy/host.ts';
import type { PathChange } from '#src/policy/judgement.ts';
import { lintPolicy } from '#src/policy/lint.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { isTestFile, readPolicyFiles, shippedPolicy } from '#server/policyfiles.ts';
import { program, runProgram } from './commander.ts';
import { list } from './image.ts';
import { writeJson } from './output.ts';

const ABOUT = 'Host policies: what a host may differ in, and what is a finding.';

const LOCAL: Readonly<Record<string, (args: readonly string[], io: Io) => Promise<Exit>>> = {
  test: testPolicies,
  check: checkPolicy,
  explain,
};

const SUBCOMMANDS: readonly (readonly [string, string])[] = [
  ['test [DIR]', 'run the table tests that lie beside policies'],
  ['check [FILE|DIR]', 'is it a policy, and does each of its rules decide anything'],
  ['explain PATH', 'which rule decides about a path, and which it keeps from deciding'],
  ['diff OLD NEW', 'what another policy changes, rule by rule; with --server for the fleet'],
  ['apply FILE|DIR', 'make it the policy of a server; every host is judged anew at once'],
  ['versions', 'the policies of a server: who applied them, when'],
  ['show N', 'one of them'],
];

const HELP = `${ABOUT}

${SUBCOMMANDS.map(([name, about]) => `  bootproof policy ${name.padEnd(18)} ${about}`).join('\n')}

Each takes --help. FILE and DIR are policies as docs/policy.md says; \`default\` is the one that ships.
`;

/** `bootproof policy`. */
export async function main(args: readonly string[], io: Io): Promise<Exit> {
  const [name, ...rest] = args;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    await (name === undefined ? io.stderr : io.stdout).write(HELP);
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  const local = Object.hasOwn(LOCAL, name) ? LOCAL[name] : undefined;
  return local === undefined ? (await import('./policyserver.ts')).policyServer(args, io) : local(rest, io);
}

/** The policy that a file, a folder or `default` holds. @throws {UsageError | DocumentError} */
export async function policyAt(place: string): Promise<Policy> {
  const { policy } = await shippedPolicy();
  return place === policy.name ? policy : policyOfDocuments(await readPolicyFiles(place), policy).policy;
}

// ── test ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Result = {
  readonly file: string;
  readonly line: number;
  readonly name: string;
  readonly failures: readonly string[];
};

async function testPolicies(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program('bootproof policy test', 'Runs *.test.yaml in a folder, or one such file.')
    .argument('[dir]', 'folder or file', 'policies')
    .option('--json', 'one JSON document on standard output')
    .action(async (place: string, options: { readonly json?: boolean }) => {
      const results: Result[] = [];
      for (const file of await testFiles(place)) results.push(...(await runTests(file)));
      const failed = results.filter(({ failures }) => failures.length > 0);
      if (options.json === true)
        await writeJson({ passed: results.length - failed.length, failed: failed.length, cases: results }, io);
      else {
        for (const { file, line, name, failures } of failed)
          await io.stdout.write(
            [
              `${printableText(file)}:${line}: ${printableText(name)}`,
              ...failures.map((each) => `  ${printableText(each)}`),
              '',
            ].join('\n'),
          );
        await io.stdout.write(
          `${results.length} cases, ${failed.length === 0 ? 'all hold' : `${failed.length} do not hold`}\n`,
        );
      }
      exit = failed.length === 0 ? EXIT.ok : EXIT.different;
    });
  return runProgram(command, args, io, () => exit);
}

async function testFiles(place: string): Promise<string[]> {
  try {
    if (!(await stat(place)).isDirectory()) return [place];
    const names = (await readdir(place)).filter(isTestFile).sort();
    if (names.length === 0) throw new UsageError(`${printableText(place)} holds no tests: no *.test.yaml lies in it`);
    return names.map((name) => join(place, name));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${printableText(place)} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
}

async function runTests(file: string): Promise<Result[]> {
  const tests = parsePolicyTests(await readFile(file, 'utf8'), file);
  const policy = await testedPolicy(tests.policy, dirname(file));
  return tests.cases.map((one) => ({ file, line: one.line, name: one.name, failures: runPolicyCase(policy, one) }));
}

/** The policy that a test names: a file beside it, with those of the folder that it extends. */
async function testedPolicy(name: string, folder: string): Promise<Policy> {
  const { policy } = await shippedPolicy();
  if (name === policy.name) return policy;
  if (basename(name) !== name)
    throw new UsageError(`policy: ${printableText(name)}: name a file in the folder of the test`);
  const main = await readPolicyFiles(join(folder, name));
  const named = main.map((document) => ({ ...document, file: name }));
  // What stands beside it is looked at only where it is extended: folders hold other documents too.
  if (!/^extends:/m.test(named[0]!.text) || /^extends: *default *$/m.test(named[0]!.text))
    return policyOfDocuments(named, policy).policy;
  const beside = (await readPolicyFiles(folder)).filter(({ file }) => file !== name);
  return policyOfDocuments([...named, ...beside], policy, name).policy;
}

// ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function checkPolicy(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program('bootproof policy check', 'Is it a policy, and does each of its rules decide anything.')
    .argument('[place]', 'file, folder, or `default`', 'default')
    .option('--json', 'one JSON document on standard output')
    .action(async (place: string, options: { readonly json?: boolean }) => {
      const read = await policyAt(place).catch((error: unknown) => {
        if (error instanceof DocumentError) return error;
        throw error;
      });
      if (read instanceof DocumentError) {
        if (options.json === true)
          await writeJson(
            { valid: false, problems: read.problems.map((problem) => ({ file: read.file, ...problem })), lints: [] },
            io,
          );
        else await io.stdout.write(read.lines.map((line) => `${printableText(line)}\n`).join(''));
        exit = EXIT.different;
        return;
      }
      const never = lintPolicy(read);
      const frameworks = (await shippedFrameworks()).map(({ framework }) => framework);
      const lints = [...never, ...lintControls(read, frameworks)];
      if (options.json === true)
        await writeJson({ valid: true, name: read.name, digest: read.digest, problems: [], lints }, io);
      else {
        for (const { place: at, message, code } of lints)
          await io.stdout.write(`${printableText(`${at?.file ?? '-'}:${at?.line ?? 0}: ${message}`)} [${code}]\n`);
        const rules = read.files.length + read.accounts.length + read.state.length;
        await io.stdout.write(
          `${read.name}: ${rules} rules, ${never.length === 0 ? 'each decides something' : `${never.length} decide nothing`}\n`,
        );
      }
      exit = lints.length === 0 ? EXIT.ok : EXIT.different;
    });
  return runProgram(command, args, io, () => exit);
}

// ── explain ──────────────────────────────────────────────────────────────────────────────────────────────────────────

type ExplainOptions = {
  readonly policy: string;
  readonly change?: string;
  readonly type?: string;
  readonly mode?: string;
  readonly uid?: string;
  readonly link?: string;
  readonly sha256?: string;
  readonly beforeMode?: string;
  readonly labels?: readonly string[];
  readonly group?: string;
  readonly image?: readonly string[];
  readonly accountsTold?: boolean;
  readonly json?: boolean;
};

const CHANGES = ['added', 'modified', 'removed'] as const;

async function explain(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program(
    'bootproof policy explain',
    'Which rule decides about a path, and which it keeps from deciding.',
  )
    .argument('<path>', 'a path at or below /usr or /etc')
    .option('--policy <file|dir>', 'the policy', 'default')
    .option('--change <word>', `${CHANGES.join(', ')}; without it, each of them`)
    .option('--type <word>', 'file, dir, symlink, char, block, fifo, socket (default: file)')
    .option('--mode <octal>', 'mode as it is now (default: 0644)')
    .option('--before-mode <octal>', 'mode in the image (default: as now)')
    .option('--uid <number>', 'owner as it is now (default: 0)')
    .option('--link <target>', 'target of a symlink')
    .option('--sha256 <hex>', 'content as it is now')
    .option('--labels <key=value>', 'of the host (repeatable)', list)
    .option('--group <name>', 'of the host')
    .option('--image <repository|digest>', 'of the host (repeatable)', list)
    .option('--accounts-told', 'the host told its accounts')
    .option('--json', 'one JSON document on standard output')
    .action(async (path: string, options: ExplainOptions) => {
      const policy = await policyAt(options.policy);
      const setting = { host: hostOf(options), accountsTold: options.accountsTold ?? false };
      const explained = changesOf(path, options).map((change) => ({ change, ...explainPath(policy, change, setting) }));
      if (options.json === true) await writeJson(explained.map(explainedJson), io);
      else for (const one of explained) await io.stdout.write(explainedText(one));
      exit = explained.some(({ decides }) => decides === null || decides.effect === 'forbidden')
        ? EXIT.different
        : EXIT.ok;
    });
  return runProgram(command, args, io, () => exit);
}

function hostOf({ labels = [], group, image = [] }: ExplainOptions): HostFacts {
  const pairs = labels.map((label): [string, string] => {
    const at = label.indexOf('=');
    if (at < 1) throw new UsageError(`--labels ${label}: expected KEY=VALUE`);
    return [label.slice(0, at), label.slice(at + 1)];
  });
  return {
    labels: new Map(pairs),
    group: group ?? null,
    image: {
      ...NO_HOST.image,
      digest: image.find((name) => name.startsWith('sha256:')) ?? null,
      repositories: image.filter((name) => !name.startsWith('sha256:')),
    },
  };
}

/** The changes that are meant; a secret's content is only ever known to differ. @throws {UsageError} */
function changesOf(text: string, options: ExplainOptions): PathChange[] {
  const path = fromUtf8(text);
  if (treeOf(path) === undefined || /\/(?:\/|\.{1,2}(?:\/|$)|$)/.test(text))
    throw new UsageError(`${text}: expected a path at or below /usr or /etc`);
  if (options.change !== undefined && !(CHANGES as readonly string[]).includes(options.change))
    throw new UsageError(`--change ${options.change}: expected one of ${CHANGES.join(', ')}`);
  const actual = factsOf(options);
  const expected: Facts = {
    ...actual,
    mode: options.beforeMode === undefined ? actual.mode : octal('--before-mode', options.beforeMode),
  };
  const secret = isSecret(path);
  const hide = ({ type, mode, uid, gid, link, device }: Facts): Facts => ({
    type,
    mode,
    uid,
    gid,
    ...(link === undefined ? {} : { link }),
    ...(device === undefined ? {} : { device }),
  });
  const shown = (facts: Facts): Facts => (secret ? hide(facts) : facts);
  return CHANGES.filter((change) => options.change === undefined || options.change === change).map(
    (change): PathChange => {
      const drift: Drift | undefined =
        change === 'added'
          ? { path, change, actual: shown(actual) }
          : change === 'removed'
            ? { path, change, expected: shown(expected) }
            : secret && expected.mode === actual.mode
              ? undefined
              : { path, change, expected: shown(expected), actual: shown(otherContent(actual, options)) };
      return { path, drift, secret: secret ? (change === 'modified' ? 'differs' : change) : undefined };
    },
  );
}

function factsOf({ type = 'file', mode, uid = '0', link, sha256 }: ExplainOptions): Facts {
  const TYPES = ['file', 'dir', 'symlink', 'char', 'block', 'fifo', 'socket'] as const;
  const found = TYPES.find((known) => known === type);
  if (found === undefined) throw new UsageError(`--type ${type}: expected one of ${TYPES.join(', ')}`);
  if (!/^(0|[1-9][0-9]{0,9})$/.test(uid)) throw new UsageError(`--uid ${uid}: expected a number`);
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/.test(sha256))
    throw new UsageError('--sha256: expected 64 lower-case hex digits');
  const own = {
    mode: mode === undefined ? (found === 'dir' ? 0o755 : found === 'symlink' ? 0 : 0o644) : octal('--mode', mode),
    uid: Number(uid),
    gid: 0,
  };
  if (found === 'file') return { type: found, ...own, size: 1, sha256: sha256 ?? 'a'.repeat(64) };
  if (found === 'symlink') return { type: found, ...own, link: fromUtf8(link ?? 'x') };
  return found === 'char' || found === 'block' ? { type: found, ...own, device: '1:3' } : { type: found, ...own };
}

/** Modified, and nothing said of how: then it is the content. */
function otherContent(actual: Facts, { mode, beforeMode, sha256 }: ExplainOptions): Facts {
  const isMode = beforeMode !== undefined && beforeMode !== (mode ?? '0644');
  if (actual.type === 'symlink') return { ...actual, link: `${actual.link}` };
  return actual.type !== 'file' || (isMode && sha256 === undefined)
    ? actual
    : { ...actual, size: 2, sha256: sha256 ?? 'b'.repeat(64) };
}

function octal(option: string, text: string): number {
  if (!/^[0-7]{3,4}$/.test(text)) throw new UsageError(`${option} ${text}: expected octal digits, as in 0644`);
  return Number.parseInt(text, 8);
}

type One = { readonly change: PathChange } & ReturnType<typeof explainPath>;

const changeText = ({ drift, secret }: PathChange): string =>
  drift?.change ?? (secret === 'differs' ? 'modified' : (secret ?? 'modified'));
const placeText = ({ place }: FileRule): string => (place === null ? '' : `  ${place.file}:${place.line}`);
const effectText = ({ effect, severity, verdict }: Pick<FileRule, 'effect' | 'severity' | 'verdict'>): string =>
  effect === 'forbidden' ? `a ${severity} finding${verdict === 'none' ? ', without weight' : `, ${verdict}`}` : effect;

function explainedText({ change, decides, unnamed, shadowed, passed }: One): string {
  const path = toUtf8(change.path) ?? vis(change.path);
  const rule = decides ?? unnamed!;
  const lines = [
    `${path} ${changeText(change)}${change.secret === undefined ? '' : ' (a secret: compared on the host)'}`,
    `  decides  ${rule.id}: ${effectText(rule)}${decides === null ? ', as no rule names it' : placeText(decides)}`,
    `           ${rule.reason}`,
    ...shadowed.map((each) => `  behind   ${each.id}: ${effectText(each)}${placeText(each)}`),
    ...passed.map(
      ({ rule: each, condition }) =>
        `  not      ${each.id}: ${condition === 'error' ? 'its CEL gave no answer' : `${condition} does not hold`}`,
    ),
  ];
  return `${lines.map(printableText).join('\n')}\n`;
}

function explainedJson({ change, decides, unnamed, shadowed, passed }: One): object {
  const rule = decides ?? unnamed!;
  const of = ({ id, effect, severity, place }: FileRule) => ({
    rule: id,
    effect,
    severity: effect === 'forbidden' ? severity : null,
    place,
  });
  return {
    path: toUtf8(change.path) ?? vis(change.path),
    change: changeText(change),
    secret: change.secret !== undefined,
    rule: rule.id,
    effect: rule.effect,
    severity: rule.effect === 'forbidden' ? rule.severity : null,
    verdict: rule.effect === 'forbidden' ? rule.verdict : null,
    reason: rule.reason,
    controls: rule.controls,
    place: decides?.place ?? null,
    shadowed: shadowed.map(of),
    passed: passed.map(({ rule: each, condition }) => ({ ...of(each), condition })),
  };
}
