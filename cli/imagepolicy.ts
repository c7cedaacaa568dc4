/** `bootproof image policy check|test|explain`: image policies held against their grammar, against recorded cases, and against an image. */
import { readdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { BootproofError } from '#src/error.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { RECORDED_CASE_BYTES_MAX, YAML_BYTES_MAX } from '#src/limits.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import type { DenyEntry } from '#src/trust/deny.ts';
import { explainImage, type ExplainedPolicy, type Explanation } from '#src/trust/explain.ts';
import { judgeImage } from '#src/trust/judge.ts';
import type { CheckedSignature, ImageJudgement } from '#src/trust/judgement.ts';
import { differences, parsePolicyTests, type Came, type PolicyTest } from '#src/trust/policytests.ts';
import { unreadOf } from '#server/trust/assess.ts';
import { assessRecorded, foundIn, readCase, type RecordedCase } from '#server/trust/recorded.ts';
import { readTrustFiles, TESTS_FILE, trustSetup, type TrustFiles, type TrustSetup } from '#server/trust/setup.ts';
import { placeText } from '#server/trust/told.ts';
import { program, runProgram } from './commander.ts';
import { readOperand } from './connection.ts';
import { list } from './image.ts';
import { writeJson } from './output.ts';
import { denyOf, exitOf, nameOf, rootsNamed, seek, setupOf, verifyOptions, type VerifyOptions } from './verify.ts';

const TEST_HELP = `
A test file is NAME.test.yaml, beside the policies that it tests (docs/image-policy.md 10); the cases that it names are made by
'bootproof image verify REFERENCE --policy DIR --record FILE'. Nothing is asked over the network.

Exit codes: 0 all pass, 1 one does not, 2 one could not be run.
`;

export async function imagePolicy(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program('bootproof image policy', 'Image policies: ClusterImagePolicy documents and ours.');
  command
    .command('check <file...>')
    .description(
      'says what is wrong with them, and what their author should know; all files together, as a server reads them',
    )
    .option('--json', 'one JSON document on standard output')
    .action(async (files: string[], { json }: { json?: boolean }) => {
      exit = await check(files, json === true, io);
    });
  command
    .command('test [dir|file...]')
    .description('holds policies against recorded cases, as the tests beside them say (default: this folder)')
    .option('--trusted-root <[name=]file>', 'a trusted_root.json besides those that the tests name (repeatable)', list)
    .option('--json', 'one JSON document on standard output')
    .addHelpText('after', TEST_HELP)
    .action(async (operands: string[], options: VerifyOptions) => {
      exit = await test(operands.length === 0 ? ['.'] : operands, options, io);
    });
  verifyOptions(
    command
      .command('explain [reference]')
      .description('which policies are about an image, what each asked for, what was found, and what came of it')
      .option('--case <file>', 'a recorded case instead of an image'),
  ).action(async (reference: string | undefined, options: ExplainOptions) => {
    exit = await explain(reference, options, io);
  });
  return runProgram(command, args, io, () => exit);
}

async function check(files: readonly string[], json: boolean, io: Io): Promise<Exit> {
  const { policy } = trustSetup(await readTrustFiles({ policies: files, roots: [] }));
  if (json)
    await writeJson(
      { digest: policy.digest, policies: policy.policies.map(({ name }) => name), lints: policy.lints },
      io,
    );
  else {
    for (const lint of policy.lints) await io.stdout.write(`${lintText(lint)}\n`);
    await io.stderr.write(
      `${policy.policies.length} policies, ${policy.lints.length === 0 ? 'nothing to note' : `${policy.lints.length} notes`}\n`,
    );
  }
  return policy.lints.length === 0 ? EXIT.ok : EXIT.different;
}

const lintText = ({ file, line, column, code, message }: TrustSetup['policy']['lints'][number]): string =>
  printableText(`${file}:${line}:${column}: ${message} [${code}]`);

// ── test ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Ran = {
  readonly file: string;
  readonly line: number;
  readonly name: string;
  readonly outcome: 'pass' | 'fail' | 'error';
  readonly expected: Pick<PolicyTest, 'expect' | 'code' | 'policies' | 'by' | 'warns'> | null;
  readonly actual: Came | null;
  /** What differs, or why it could not be run. */
  readonly why: readonly string[];
};

async function test(operands: readonly string[], options: VerifyOptions, io: Io): Promise<Exit> {
  const { tests, policies } = await sortOut(operands);
  if (tests.length === 0)
    throw new UsageError(
      `image policy test: no tests in ${operands.join(', ')}: a file of them is called NAME.test.yaml (docs/image-policy.md 10)`,
    );
  const ran: Ran[] = [];
  for (const file of tests) {
    for await (const one of run(file, policies.length > 0 ? policies : [dirname(file)], options)) {
      ran.push(one);
      if (options.json !== true) await io.stdout.write(ranText(one));
    }
  }
  const count = (outcome: Ran['outcome']) => ran.filter((one) => one.outcome === outcome).length;
  const [passed, failed, errors] = [count('pass'), count('fail'), count('error')];
  if (options.json === true) await writeJson({ passed, failed, errors, tests: ran }, io);
  else
    await io.stderr.write(
      `${ran.length} tests: ${passed} pass, ${failed} fail${errors === 0 ? '' : `, ${errors} could not be run`}\n`,
    );
  return errors > 0 ? EXIT.unknown : failed > 0 ? EXIT.different : EXIT.ok;
}

function ranText({ file, line, name, outcome, why }: Ran): string {
  const word = { pass: 'pass ', fail: 'FAIL ', error: 'ERROR' }[outcome];
  const head = `${word} ${file}:${line}: ${name}`;
  return [head, ...why.map((text) => `      ${text}`)].map((text) => `${printableText(text)}\n`).join('');
}

/** Files of tests, and files or folders of policies; of a folder both. */
async function sortOut(operands: readonly string[]): Promise<{ tests: string[]; policies: string[] }> {
  const tests: string[] = [];
  const policies: string[] = [];
  for (const operand of operands) {
    if (TESTS_FILE.test(operand)) {
      tests.push(operand);
      continue;
    }
    policies.push(operand);
    try {
      if (!(await stat(operand)).isDirectory()) continue;
      const names = (await readdir(operand)).filter((name) => TESTS_FILE.test(name) && !name.startsWith('.'));
      tests.push(...names.sort().map((name) => join(operand, name)));
    } catch (error) {
      throw new UsageError(`image policy test: ${operand} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
    }
  }
  return { tests, policies };
}

/** Runs a file of tests. What keeps one, or all, from being run is told as such. */
async function* run(file: string, policies: readonly string[], options: VerifyOptions): AsyncGenerator<Ran> {
  const whole = (why: readonly string[]): Ran => ({
    file,
    line: 1,
    name: 'the whole file',
    outcome: 'error',
    expected: null,
    actual: null,
    why,
  });
  let tests: readonly PolicyTest[];
  let setup: TrustSetup;
  try {
    const document = parsePolicyTests((await readOperand(file, YAML_BYTES_MAX)).toString('utf8'), file);
    tests = document.tests;
    setup = trustSetup(await filesOf(file, document.trustRoots, policies, options));
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    yield whole(linesOf(error));
    return;
  }
  for (const one of tests) {
    const { name, place, expect, code, policies: named, by, warns } = one;
    const told = { file, line: place.line, name, expected: { expect, code, policies: named, by, warns } };
    try {
      const path = resolve(dirname(file), one.case);
      const actual = await judge(one, readCase(await readOperand(path, RECORDED_CASE_BYTES_MAX), path), setup);
      const differ = differences(one, actual);
      const why =
        differ.length === 0 || actual.reason === null ? differ : [...differ, `${actual.reason} [${actual.code}]`];
      yield { ...told, outcome: differ.length === 0 ? 'pass' : 'fail', actual, why };
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      yield { ...told, outcome: 'error', actual: null, why: linesOf(error) };
    }
  }
}

const linesOf = (error: BootproofError): readonly string[] =>
  error instanceof DocumentError ? error.lines : [`${error.message} [${error.code}]`];

async function filesOf(
  file: string,
  roots: readonly { readonly name: string; readonly file: string }[],
  policies: readonly string[],
  options: VerifyOptions,
): Promise<TrustFiles> {
  const named = new Set(roots.map(({ name }) => name));
  const own = roots.map((root) => `${root.name}=${resolve(dirname(file), root.file)}`);
  const more = rootsNamed(options).filter((text) => !named.has(text.slice(0, text.indexOf('='))));
  return readTrustFiles({ policies, roots: [...own, ...more] });
}

async function judge({ as, at }: PolicyTest, recorded: RecordedCase, setup: TrustSetup): Promise<Came> {
  const references = as === undefined ? recorded.references : [nameOf(as)];
  const { state, told } = await assessRecorded(
    recorded,
    { setup, deny: [], now: at ?? recorded.recordedAt },
    references,
  );
  return {
    state,
    code: told.code,
    reason: told.why,
    by: told.by,
    policies:
      state === 'trusted' ? told.policies.filter((policy) => policy.state === 'passed').map(({ name }) => name) : [],
    warns: told.warnings.map(({ policy }) => policy),
  };
}

// ── explain ──────────────────────────────────────────────────────────────────────────────────────────────────────────

type ExplainOptions = VerifyOptions & { readonly case?: string };

async function explain(text: string | undefined, given: ExplainOptions, io: Io): Promise<Exit> {
  if ((text === undefined) === (given.case === undefined))
    throw new UsageError('image policy explain: a reference, or --case FILE, and not both');
  const isNamed = given.key !== undefined || given.certificateIdentity !== undefined || given.policy !== undefined;
  const options = isNamed ? given : { ...given, policy: ['.'] };
  const setup = await setupOf(options);
  const deny = options.deny === undefined ? [] : await denyOf(options.deny);
  const recorded =
    given.case === undefined
      ? (await seek(text!, options, { setup, deny }, io)).recorded
      : readCase(await readOperand(given.case, RECORDED_CASE_BYTES_MAX), given.case);
  const references = given.case !== undefined && given.as !== undefined ? [nameOf(given.as)] : recorded.references;
  const now = given.case === undefined ? Date.now() : recorded.recordedAt;
  const { image, judgement, looked } = judged({ ...recorded, references }, { setup, deny, now });
  const explanation = explainImage(image, setup.policy, judgement);
  if (options.json === true) await writeJson(explanationJson(explanation, judgement, { image, looked, setup }), io);
  else await printExplanation(explanation, judgement, { image, looked, setup }, io);
  return exitOf(judgement.state);
}

type Around = {
  readonly image: Parameters<typeof explainImage>[0];
  readonly looked: RecordedCase['found']['looked'];
  readonly setup: TrustSetup;
};

/** As `assess` judges, with all that each authority was told. */
function judged(
  recorded: RecordedCase,
  { setup, deny, now }: { readonly setup: TrustSetup; readonly deny: readonly DenyEntry[]; readonly now: number },
): Pick<Around, 'image' | 'looked'> & { readonly judgement: ImageJudgement } {
  const { image: digest, references } = recorded;
  const { found, indexes, manifest, looked, complete } = foundIn(recorded, references, setup);
  const image = { digest, indexes, references, ...(manifest === undefined ? {} : { manifest }) };
  const judgement = judgeImage(
    { image, entities: found, unread: unreadOf(looked, complete) },
    { policy: setup.policy, roots: setup.roots, deny, now },
  );
  return { image, judgement, looked };
}

const checkedJson = ({ place, format, outcome, code, reason }: CheckedSignature) => ({
  where: placeText(place),
  format,
  outcome,
  code: code ?? null,
  reason: reason ?? null,
});

function explanationJson(
  { names, policies, because, noMatch }: Explanation,
  { state, by, code, reason, checked }: ImageJudgement,
  { image, looked, setup }: Around,
): object {
  return {
    image: image.digest,
    names,
    status: state,
    by: by ?? null,
    code: code ?? null,
    reason: reason ?? null,
    because,
    noMatch,
    policies: policies.map(({ result, globs, authorities, ...rest }) => ({
      ...rest,
      applies: result !== undefined,
      globs: globs.map(({ glob, matches }) => ({ glob, matches: matches ?? null })),
      state: result?.state ?? null,
      code: result?.code ?? null,
      reason: result?.reason ?? null,
      authorities: authorities.map((authority) => ({
        name: authority.name,
        field: authority.field,
        wanted: authority.wanted,
        source: authority.source ?? null,
        state: authority.state,
        code: authority.code ?? null,
        reason: authority.reason ?? null,
        found: authority.checked.map(checkedJson),
      })),
    })),
    checked: checked.map(checkedJson),
    looked: looked.map(({ code: its, reason: why, ...rest }) => ({ ...rest, code: its ?? null, reason: why ?? null })),
    lints: setup.policy.lints,
  };
}

async function printExplanation(
  { names, policies, because, noMatch }: Explanation,
  { state, by, code, reason }: ImageJudgement,
  { image, looked, setup }: Around,
  io: Io,
): Promise<void> {
  const line = (text: string) => io.stdout.write(`${printableText(text)}\n`);
  await line(`${state}${by === undefined ? '' : `, by ${by}`}: ${image.digest}`);
  if (reason !== undefined) await line(`  ${reason} [${code}]`);
  await line(`  ${because}`);
  for (const name of names) await line(`  policies know it as ${name}`);
  for (const policy of policies) for (const text of policyLines(policy)) await line(text);
  if (policies.every(({ result }) => result === undefined)) await line(`no policy is about it: ${noMatch}`);
  for (const { where, outcome, code: its, reason: why } of looked)
    if (outcome !== 'nothing' && outcome !== 'found')
      await line(`place ${where}: ${outcome}${why === undefined ? '' : `: ${why} [${its}]`}`);
  for (const lint of setup.policy.lints) await line(`note ${lintText(lint)}`);
}

function policyLines({ name, file, line, mode, globs, result, because, authorities }: ExplainedPolicy): string[] {
  const where = file === '' ? '' : ` (${file}:${line})`;
  if (result === undefined)
    return [`policy ${name}${where}: not about it: ${globs.map(({ glob }) => glob).join(', ')}`];
  const matching = globs.flatMap(({ glob, matches }) => (matches === undefined ? [] : [`${glob} matches ${matches}`]));
  return [
    `policy ${name}${where}, ${mode === 'warn' ? 'which only warns' : 'enforced'}: ${result.state}`,
    ...matching.map((text) => `  about it: ${text}`),
    `  ${because}`,
    ...authorities.flatMap(({ name: own, state, code, reason, wanted, source, checked }) => [
      `  authority ${own}: ${state}${reason === undefined ? '' : `: ${reason} [${code}]`}`,
      ...wanted.map((text) => `    asked for: ${text}`),
      ...(source === undefined ? [] : [`    looked for besides in ${source}`]),
      ...(checked.length === 0 ? ['    found: nothing'] : []),
      ...checked.map(
        ({ place, format, outcome, code: its, reason: why }) =>
          `    found: ${placeText(place)} (${format}): ${outcome}${why === undefined ? '' : `: ${why} [${its}]`}`,
      ),
    ]),
  ];
}
