/** The whole command as people start it: what it says when it cannot, to people and to programs, and where its output ends. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { project, run, type Ran } from '#test/agent/console.ts';
import { bootproof } from '#cli/commands.ts';
import { deep, isFull } from '#test/depth.ts';
import { BootproofError } from '#src/error.ts';
import { argument, EXIT, type Exit, type Io, processIo, runCommand, SeenRefusal, UsageError } from '#src/terminal.ts';
import { VERSION } from '#src/version.ts';

const launcher = join(project, 'bootproof');
const IMAGE = `oci:${join(project, 'test/vectors/merge/03-plain/image')}`;
const WARNED = `oci:${join(project, 'test/vectors/merge/25-autoparents/image')}`;

function launch(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(launcher, [...args], { env: { ...process.env, ...env } }, (error, out, err) =>
      resolve({ exit: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

/** The same within this process, to its exit code; `launch` where the process itself is the matter. */
const inside = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  run((given, io) => runCommand(given, io, bootproof), args, { env });

/** With standard output, or error, at a file. */
function launchInto(
  file: string,
  which: 1 | 2,
  args: readonly string[],
): Promise<{ exit: number | null; text: string }> {
  const fd = openSync(file, 'w');
  const stdio = which === 1 ? (['ignore', fd, 'pipe'] as const) : (['ignore', 'pipe', fd] as const);
  const child = spawn(launcher, [...args], { stdio: [...stdio] });
  closeSync(fd);
  let text = '';
  (child.stdout ?? child.stderr)!.setEncoding('utf8').on('data', (piece: string) => (text += piece));
  return new Promise((resolve) => child.once('close', (exit) => resolve({ exit, text })));
}

test('the version is that of the package', async () => {
  const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { version: string };
  assert.equal(VERSION, version);
  assert.deepEqual(await launch(['--version']), { exit: 0, out: `bootproof ${version}\n`, err: '' });
});

test('a misspelt word is told what is near; help takes a command', async () => {
  for (const [args, near] of [
    [['hots'], /did you mean hosts\?/],
    [['agent', 'scna'], /did you mean scan\?/],
    [['manifest', 'buidl', IMAGE], /Did you mean build\?/],
    [['agent', 'scan', '--jsno'], /did you mean --json\?/],
    [['demo', '--jsno'], /did you mean --json\?/],
  ] as const) {
    const { exit, out, err } = await inside(args);
    assert.deepEqual([exit, out], [64, '']);
    assert.match(err, near);
  }
  assert.deepEqual(await inside(['help', 'host']), await inside(['host', '--help']));
});

const TOKEN = { BOOTPROOF_TOKEN: 'x' };
const NOBODY = { ...TOKEN, BOOTPROOF_SERVER: 'http://127.0.0.1:1' };
const failures: readonly (readonly [string, readonly string[], NodeJS.ProcessEnv, Exit, string])[] = [
  ['no such command', ['hots'], {}, 64, 'USAGE'],
  ['no such option', ['hosts', '--verdct', 'x'], {}, 64, 'USAGE'],
  ['no token', ['host', 'nope'], { BOOTPROOF_TOKEN: '' }, 64, 'USAGE'],
  ['no server', ['host', 'nope'], NOBODY, 2, 'SERVER_UNREACHABLE'],
  ['no server, lists', ['findings'], NOBODY, 2, 'SERVER_UNREACHABLE'],
  ['no image', ['manifest', 'build', 'oci:/nonexistent'], {}, 2, 'SOURCE_NOT_FOUND'],
  ['no image to compare', ['manifest', 'diff', 'oci:/nonexistent', IMAGE], {}, 2, 'SOURCE_NOT_FOUND'],
  ['no root', ['agent', 'scan', '--root', '/nonexistent'], {}, 2, 'ROOT_UNREADABLE'],
  ['no policy', ['image', 'policy', 'check', '/nonexistent'], {}, 2, 'IMAGE_POLICY_FILE'],
  ['no demo without options that there are', ['demo', '--fresh'], {}, 64, 'USAGE'],
];
for (const [name, args, env, exit, code] of failures)
  test(`with --json a failure is one document on standard output: ${name}`, async () => {
    // As a process, one command stands for all unless in depth.
    const isProcess = isFull || name === 'no image';
    const ran = await (isProcess ? launch : inside)([...args, '--json'], env);
    const told = JSON.parse(ran.out) as { code: string; message: string };
    assert.deepEqual([ran.exit, told.code, Object.keys(told)], [exit, code, ['code', 'message']]);
    assert.match(ran.err, /^bootproof: .+\n$/);
    // Nothing of it where nobody asked.
    assert.equal((await inside(args, env)).out, '');
  });

test('a full disk is a refusal with its reason, not a fault of ours; and none of standard error', async (t) => {
  if (!existsSync('/dev/full')) return t.skip('no /dev/full here');
  const more = [
    ['manifest', 'build', IMAGE, '--format', 'jsonl'],
    ['manifest', 'show', IMAGE],
    ['manifest', 'lint', IMAGE, '--json'],
    ['help'],
  ];
  for (const args of [
    ['manifest', 'build', IMAGE],
    ['agent', 'scan', '--root', join(project, 'test/vectors/merge'), '--json'],
    ...deep(more, []),
  ]) {
    const { exit, text } = await launchInto('/dev/full', 1, args);
    assert.equal(exit, 2, args.join(' '));
    assert.match(
      text,
      /^(?:note: .*\n|warning: .*\n)*bootproof: standard output cannot be written: ENOSPC \[OUTPUT_FAILED\]\n$/,
    );
  }
  const { exit, text } = await launchInto('/dev/full', 2, ['manifest', 'lint', WARNED]);
  assert.equal(exit, 1);
  assert.match(text, /^ostree: 6 warnings$/m);
});

class Refusal extends BootproofError<'SOME_CODE'> {
  readonly lines = ['one \u001b[31m', 'two'];
}
const failing =
  (error: unknown, first = '') =>
  (args: readonly string[], io: Io) =>
    runCommand(args, io, async (_, own) => {
      if (first !== '') await own.stdout.write(first);
      throw error;
    });

test('a refusal is a sentence a line, printable and not escaped twice, and its document comes only where none has begun', async () => {
  const refused = new Refusal('SOME_CODE', 'one; two');
  assert.deepEqual(await run(failing(refused), []), {
    exit: EXIT.unknown,
    out: '',
    err: 'bootproof: one \\x1b[31m\ntwo [SOME_CODE]\n',
  });
  assert.equal((await run(failing(refused), ['--json'])).out, '{"code":"SOME_CODE","message":"one; two"}\n');
  assert.equal((await run(failing(refused), ['--', '--json'])).out, '');
  assert.equal((await run(failing(refused, '{}\n'), ['--json'])).out, '{}\n');
  const named = await run(failing(new UsageError('usr/a\\xff is no name')), []);
  assert.equal(named.err, 'bootproof: usr/a\\xff is no name\n');
});

test('a refusal that was seen is 1, a malformed argument 64, each under its code', async () => {
  const seen = await run(failing(new SeenRefusal('ENROL_TOKEN', 'no')), ['--json']);
  assert.deepEqual(
    [seen.exit, seen.err, JSON.parse(seen.out).code],
    [1, 'bootproof: no [ENROL_TOKEN]\n', 'ENROL_TOKEN'],
  );
  const parse = () => {
    throw new Refusal('SOME_CODE', 'no');
  };
  const wrong = await run((args, io) => runCommand(args, io, async () => argument(parse)), ['--json']);
  assert.deepEqual(
    [wrong.exit, wrong.err, JSON.parse(wrong.out).code],
    [64, 'bootproof: no [SOME_CODE]\n', 'SOME_CODE'],
  );
});

test('what is no refusal is our own fault, and says where', async () => {
  const ran = await run(failing(new TypeError('oops')), ['--json']);
  assert.equal(ran.exit, EXIT.fault);
  assert.match(ran.err, /^bootproof: our own fault, please report it: TypeError: oops\n.*main\.test\.ts/s);
  assert.deepEqual(JSON.parse(ran.out), { code: 'OWN_FAULT', message: 'our own fault, please report it: oops' });
});

test('a reader that went away is no failure, any other failed write is one', async () => {
  const out = (code: string) => ({
    isTTY: false,
    on() {},
    write: (_: string | Uint8Array, done: (error?: Error) => void) => done(Object.assign(new Error(code), { code })),
  });
  const say = (code: string) => processIo(out(code), out('EIO'), {}).stdout.write('x');
  await say('EPIPE');
  await assert.rejects(say('EIO'), { code: 'OUTPUT_FAILED', message: 'standard output cannot be written: EIO' });
  await processIo(out('EIO'), out('EIO'), {}).stderr.write('x');
});
