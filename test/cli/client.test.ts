/** The client commands against a real server: what they print, their exit codes, and that nothing a host sends can act on a terminal. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { carried, images, sources, tokens } from '#cli/supply.ts';
import { findings, host as hostCommand, hosts } from '#cli/fleet.ts';
import { printTable } from '#cli/table.ts';
import { ServerError } from '#cli/connection.ts';
import { fromUtf8 } from '#src/bytes.ts';
import { nodeSigner, pkcs8OfSeed, verifyInPool } from '#src/signing/node.ts';
import { UsageError, type Io } from '#src/terminal.ts';
import { hostIdFrom } from '#src/wire/hostid.ts';
import { EnrolAnswer, openEnrolment, sealEnrolRequest } from '#src/wire/enrol.ts';
import { serverKeys } from '#server/keys.ts';
import { BASE, enrol, file, image, MINUTE, serverFor, TestHost, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';
import { ran, type Main, type Ran } from '#test/ran.ts';

const OS = image('41');

/** Runs a command as a person with the admin token; `tty`: on a terminal with colours, 100 columns wide. */
const run = (server: TestServer, main: Main, args: readonly string[], tty = false): Promise<Ran> =>
  ran(main, args, {
    env: { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin, TERM: 'xterm' },
    isTTY: tty,
  });

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'bootproof-cli-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

async function fleet(t: TestContext): Promise<{ server: TestServer; good: TestHost; bad: TestHost }> {
  const server = await serverFor(t, { images: [OS] });
  const [good, bad] = [await enrol(server, OS, { name: 'good' }), await enrol(server, OS, { name: 'bad' })];
  for (const host of [good, bad]) await host.sendFull();
  await server.settle();
  for (const host of [good, bad]) host.compareWith(OS);
  bad.entries = [...BASE, file('/usr/bin/root-me', 'x', 0o4755)];
  for (const host of [good, bad]) await host.sendFull();
  return { server, good, bad };
}

test('hosts lists the worst first, and its exit code says what was seen', async (t) => {
  const { server, good } = await fleet(t);
  const all = await run(server, hosts, []);
  assert.equal(all.exit, 1);
  const lines = all.out.split('\n');
  assert.match(lines[0]!, /^HOST +VERDICT +IMAGE\? +OURS\? +HEARD\?/);
  assert.match(lines[1]!, /^bad +drifted +drifted +not-assessed +current .*root-me/);
  assert.match(lines[2]!, /^good +compliant +intact/);
  assert.equal((await run(server, hosts, ['--verdict', 'compliant'])).exit, 0);
  const json = await run(server, hosts, ['--json', '--verdict', 'drifted']);
  assert.deepEqual(
    JSON.parse(json.out).hosts.map(({ name, drift }: { name: string; drift: unknown }) => [name, drift]),
    [['bad', { added: 1, removed: 0, modified: 0 }]],
  );
  await enrol(server, OS, { name: 'fresh' });
  assert.equal((await run(server, hosts, ['--name', 'fresh'])).exit, 2, 'new: nothing can be told');
  assert.equal((await run(server, hosts, ['--label', 'a=b'])).err, 'no host\n');
  await rejectsCode(() => run(server, hosts, ['retire', 'goo']), ServerError, 'HOST_UNKNOWN');
  assert.equal((await run(server, hosts, ['retire', 'good'])).out, 'done\n');
  assert.equal((await run(server, hosts, ['retire', good.id])).out, 'it was so already\n');
  assert.ok(!(await run(server, hosts, [])).out.includes('good'));
});

test('what was seen counts also behind another verdict: a silent host that had drifted ends with 1', async (t) => {
  const { server, bad } = await fleet(t);
  server.time.now += 30 * 24 * 60 * MINUTE;
  const { verdict, integrity } = await bad.told();
  assert.deepEqual([verdict, integrity.state], ['silent', 'drifted']);
  assert.equal((await run(server, hosts, ['--name', 'bad'])).exit, 1);
  assert.equal((await run(server, hostCommand, ['bad'])).exit, 1);
  assert.equal((await run(server, hosts, ['--name', 'good'])).exit, 2, 'silent, and the image when last heard of');
});

test('host shows one, by id or by name', async (t) => {
  const { server, bad } = await fleet(t);
  for (const target of ['bad', bad.id]) {
    const shown = await run(server, hostCommand, [target]);
    assert.equal(shown.exit, 1);
    for (const word of [
      'drifted',
      'is it the image?',
      '1 added, 0 removed, 0 modified',
      OS.digest,
      'critical',
      '/usr/bin/root-me: added file',
    ])
      assert.ok(shown.out.includes(word), word);
  }
  const json = JSON.parse((await run(server, hostCommand, ['good', '--json'])).out);
  assert.deepEqual([json.host.verdict, json.findings], ['compliant', []]);
  await rejectsCode(() => run(server, hostCommand, ['nobody']), ServerError, 'HOST_UNKNOWN');
  await enrol(server, OS, { name: 'bad' });
  await rejectsCode(() => run(server, hostCommand, ['bad']), UsageError, 'USAGE');
});

test('findings are grouped; images say their state', async (t) => {
  const { server } = await fleet(t);
  const open = await run(server, findings, []);
  assert.equal(open.exit, 1);
  assert.match(open.out, /critical +1 .*root-me/);
  assert.equal((await run(server, findings, ['--severity', 'low'])).err, 'nothing open matches\n');
  assert.match((await run(server, images, [])).out, new RegExp(`^${OS.digest} +ready +2 +0 +0`, 'm'));
  assert.match((await run(server, images, [OS.digest.slice(7, 19)])).out, new RegExp(OS.digest), 'by its beginning');
  await rejectsCode(() => run(server, images, ['0'.repeat(12)]), UsageError, 'USAGE');
  assert.match((await run(server, images, [OS.config])).out, /ostree\/1 +\/usr sha256:/);
  await rejectsCode(() => run(server, images, ['sha256:none']), ServerError, 'IMAGE_UNKNOWN');
});

test('tokens and sources are made, listed and taken back', async (t) => {
  const server = await serverFor(t);
  const made = await run(server, tokens, [
    'create',
    '--group',
    'web',
    '--label',
    'site=a',
    '--uses',
    'any',
    '--life',
    '7d',
  ]);
  assert.match(made.out, /^bp1\.[a-z2-7]{16}\.[A-Za-z0-9_-]{43}\.[0-9a-f]{64}\n$/, 'the token alone, for a pipe');
  const id = made.out.split('.')[1]!;
  assert.match((await run(server, tokens, [])).out, new RegExp(`^${id} +yes +0/any .* web +site=a$`, 'm'));
  assert.equal((await run(server, tokens, ['revoke', id])).out, 'revoked\n');
  assert.match((await run(server, sources, [])).err, /no source is allowed/);
  assert.equal(
    (await run(server, sources, ['allow', 'docker://registry.example/team/os:latest'])).out,
    'allowed: docker://registry.example/team/os\n',
  );
  assert.match((await run(server, sources, [])).out, /^docker:\/\/registry\.example\/team\/os /m);
  assert.equal((await run(server, sources, ['forbid', 'docker://registry.example/team/os'])).out, 'forbidden\n');
  await rejectsCode(() => run(server, sources, ['allow', 'fedora']), ServerError, 'SOURCE_SYNTAX');
  for (const args of [
    ['create', '--uses', '0'],
    ['create', '--life', '1y'],
    ['create', '--label', 'x'],
    ['--limit', '0'],
    ['make'],
  ])
    await rejectsCode(() => run(server, tokens, args), UsageError, 'USAGE');
});

test('a list that is cut says so and how to see more; with --json it is whole, page by page', async (t) => {
  const server = await serverFor(t);
  // More than one page of the server's answers.
  for (let i = 0; i < 205; i++) await run(server, tokens, ['create']);
  const cut = await run(server, tokens, ['--limit', '5']);
  assert.equal(cut.out.split('\n').length, 1 + 5 + 1);
  assert.equal(cut.err, 'these are the first 5; --limit 50 shows more, --json all\n');
  const usual = await run(server, tokens, []);
  assert.equal(usual.out.split('\n').length, 1 + 100 + 1);
  assert.match(usual.err, /first 100;/);
  assert.equal((await run(server, tokens, ['--limit', '205'])).err, '');
  const of = async (...args: string[]) =>
    JSON.parse((await run(server, tokens, [...args, '--json'])).out) as { tokens: { id: string }[]; more: boolean };
  const [whole, some] = [await of(), await of('--limit', '201')];
  assert.deepEqual([whole.tokens.length, whole.more, some.tokens.length, some.more], [205, false, 201, true]);
  assert.equal(new Set(whole.tokens.map(({ id }) => id)).size, 205);
});

test('a host without network is approved by file, and its reports come in by file', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const at = folder(t);
  const seed = new Uint8Array(32).fill(7);
  const signer = nodeSigner(pkcs8OfSeed(seed));
  const id = hostIdFrom(new Uint8Array(16).fill(9));
  const request = await sealEnrolRequest(
    {
      version: 1,
      tokenId: null,
      nonce: null,
      host: id,
      publicKey: signer.publicKey,
      machine: null,
      hostname: 'island',
      agentVersion: '0.1.0',
      writes: [1],
    },
    signer,
    null,
  );
  writeFileSync(join(at, 'request'), `${JSON.stringify(request)}\n`);
  const approved = await run(server, hosts, ['approve', join(at, 'request'), '--out', join(at, 'answer')]);
  assert.equal(approved.out, `island is ${id}\n`);
  const { fingerprint } = await serverKeys(server.server.store, () => new Uint8Array(32));
  const { enrolment } = await openEnrolment(
    EnrolAnswer.parse(JSON.parse(readFileSync(join(at, 'answer'), 'utf8'))),
    { serverFingerprint: fingerprint, publicKey: signer.publicKey, nonce: null },
    verifyInPool,
  );
  assert.deepEqual([enrolment.host, enrolment.standing], [id, 'active']);
  const host = new TestHost(server, signer, { ...enrolment, challenge: enrolment.challenge }, OS);
  const one = await host.seal(host.fullReport({ challenge: null }));
  const second = await host.seal(host.fullReport({ challenge: null, previous: one.digest }));
  writeFileSync(join(at, 'reports'), `${one.text}\n${second.text}\n{}\n`);
  const taken = await run(server, carried, [join(at, 'reports')]);
  assert.equal(taken.exit, 1);
  assert.equal(taken.out, '2 taken, 1 refused\n');
  assert.match(taken.err, /^line 3: .*\[ENVELOPE_SYNTAX\]$/m);
  assert.equal((await host.told()).last.class, 'carried');
});

const HOSTILE = '\u001b]0;owned\u0007\u001b[2J\u202eexe.<b>\u009b31m';

test('nothing that a host sends reaches the terminal as more than text', async (t) => {
  const { server, good } = await fleet(t);
  const host = await enrol(server, OS, { name: HOSTILE });
  host.reference = HOSTILE;
  host.booted = HOSTILE;
  await host.sendFull();
  good.entries = [...BASE, file(fromUtf8(`/usr/bin/${HOSTILE}`), 'x', 0o4755), file('/usr/bin/\xff\x1b', 'x')];
  good.state = { contradictions: [HOSTILE] };
  await good.sendFull();
  await server.settle();
  const reports = join(folder(t), 'reports');
  writeFileSync(reports, `${HOSTILE}\n`);
  for (const [main, args] of [
    [hosts, []],
    [hostCommand, ['good']],
    [hostCommand, [host.id]],
    [findings, []],
    [images, []],
    [images, [HOSTILE]],
    [carried, [reports]],
  ] as const)
    for (const tty of [false, true]) {
      const { out, err } = await run(server, main, args, tty);
      // Colours are ours: on a terminal only.
      // eslint-disable-next-line no-control-regex
      const plain = tty ? (out + err).replaceAll(/\u001b\[[0-9;]*m/g, '') : out + err;
      // eslint-disable-next-line no-control-regex
      assert.doesNotMatch(plain, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/, args.join(' '));
    }
});

test('a host that another one’s machine would replace is named, and goes only where that is meant', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const at = folder(t);
  const request = async (n: number, hostname: string) => {
    const signer = nodeSigner(pkcs8OfSeed(new Uint8Array(32).fill(n)));
    const host = hostIdFrom(new Uint8Array(16).fill(n));
    const { publicKey } = signer;
    const about = { version: 1, tokenId: null, nonce: null, agentVersion: '0.1.0', writes: [1] } as const;
    const machine = 'ab'.repeat(16);
    const sealed = await sealEnrolRequest({ ...about, writes: [1], host, publicKey, machine, hostname }, signer, null);
    writeFileSync(join(at, hostname), `${JSON.stringify(sealed)}\n`);
    return host;
  };
  const [first, second] = [await request(3, 'before'), await request(4, 'after')];
  await run(server, hosts, ['approve', join(at, 'before')]);
  await assert.rejects(run(server, hosts, ['approve', join(at, 'after')]), (error: Error) =>
    ['before', first, '--replace'].every((word) => error.message.includes(word)),
  );
  const stateOf = async (id: string) => (await server.server.store.hosts.get(id))?.state;
  assert.deepEqual([await stateOf(first), await stateOf(second)], ['active', 'pending']);
  await rejectsCode(() => run(server, hosts, ['approve', join(at, 'after')]), ServerError, 'CONFLICT');
  await run(server, hosts, ['approve', join(at, 'after'), '--replace']);
  assert.deepEqual([await stateOf(first), await stateOf(second)], ['retired', 'active']);
});

test('a table is no wider than its terminal, and the last column is read', async () => {
  const head = ['HOST', 'VERDICT', 'IMAGE?', 'OURS?', 'HEARD?', 'REPORT', 'ID', 'WHY'];
  const why = '/usr/bin/bash: content differs, and two more';
  const row = [
    'edge-1',
    'drifted',
    'trusted',
    'modified',
    'current',
    '2026-11-25 15:00:00Z',
    `h_${'a'.repeat(26)}`,
    why,
  ];
  for (const columns of [40, 80, 100, 120, 200]) {
    let out = '';
    const stdout = { isTTY: true, columns, write: async (text: string) => void (out += text) };
    await printTable(head, [row], { stdout, stderr: stdout, env: { NO_COLOR: '1' } });
    // eslint-disable-next-line no-control-regex
    const lines = out.replaceAll(/\u001b\[[0-9;]*m/g, '').split('\n');
    for (const line of lines) assert.ok(line.length <= columns, `${columns}: ${line}`);
    assert.ok(out.includes(why.slice(0, Math.min(why.length, columns - 4, 23))), `${columns}: ${out}`);
    if (columns >= 80) assert.match(out, /edge-1 +drifted +trusted +modified +current +2026-11-25/);
  }
});

test('who asks, and where, must be said', async (t) => {
  const server = await serverFor(t);
  const io = (env: Record<string, string>): Io => {
    const stream = { isTTY: false, columns: 80, write: async () => {} };
    return { stdout: stream, stderr: stream, env };
  };
  await rejectsCode(() => hosts([], io({ BOOTPROOF_SERVER: server.server.url })), UsageError, 'USAGE');
  await rejectsCode(() => hosts(['--server', 'ftp://x'], io({ BOOTPROOF_TOKEN: 'x' })), UsageError, 'USAGE');
  await rejectsCode(
    () => hosts(['--server', 'http://registry.example'], io({ BOOTPROOF_TOKEN: 'x' })),
    UsageError,
    'USAGE',
  );
  await rejectsCode(
    () => hosts(['--server', server.server.url], io({ BOOTPROOF_TOKEN: 'bp_admin_wrong' })),
    ServerError,
    'UNAUTHENTICATED',
  );
  await assert.rejects(
    () => hosts(['--server', server.server.url], io({ BOOTPROOF_TOKEN: 'bp_admin_wrong' })),
    (error: Error) => error.message.includes(server.server.url) && !error.message.includes('bp_admin_wrong'),
    'which server did not take it',
  );
  await rejectsCode(
    () => hosts(['--server', 'http://127.0.0.1:9'], io({ BOOTPROOF_TOKEN: 'x' })),
    ServerError,
    'SERVER_UNREACHABLE',
  );
  await assert.rejects(
    () => hosts(['--server', 'http://127.0.0.1:1'], io({ BOOTPROOF_TOKEN: 'x' })),
    /does not answer: no connection is made to this port/,
  );
  await assert.rejects(
    () => hosts(['--server', 'http://127.0.0.1:8'], io({ BOOTPROOF_TOKEN: 'x' })),
    /does not answer: connection refused/,
  );
});

test('a token of more than one line is refused, and not shown', async (t) => {
  const file = join(folder(t), 'token');
  writeFileSync(file, 'bp_admin_secret\nsecond\n');
  const stream = { isTTY: false, columns: 80, write: async () => {} };
  for (const [args, env] of [
    [['--token-file', file], {}],
    [[], { BOOTPROOF_TOKEN: 'bp_admin_secret\nsecond' }],
    [[], { BOOTPROOF_TOKEN: 'bp_admin_secret \u20ac' }],
  ] as const)
    await assert.rejects(
      () => hosts(args, { stdout: stream, stderr: stream, env }),
      (error: unknown) =>
        error instanceof UsageError && /token is not one line/.test(error.message) && !/secret/.test(error.message),
    );
});

test('wrong option values and extra words are wrong use, in words of the command', async (t) => {
  const server = await serverFor(t);
  for (const [main, args, said] of [
    [hosts, ['--verdict', 'drfted'], /--verdict drfted: did you mean drifted\?/],
    [hosts, ['--state', 'x'], /--state x: expected words of active, pending, retired/],
    [hosts, ['--sort', 'nmae'], /--sort nmae: did you mean name\?/],
    [hosts, ['--label', 'x'], /--label x: expected key=value/],
    [hosts, ['--label', `${'k'.repeat(101)}=x`], /label: expected key=value/],
    [hosts, ['--group', 'x'.repeat(201)], /group: expected <=200 characters/],
    [findings, ['--severity', 'hgh'], /--severity hgh: did you mean high\?/],
    [images, ['--state', 'redy'], /did you mean ready\?/],
    [tokens, ['create', '--life', '400d'], /--life 400d: at most 366d/],
    [tokens, ['create', '--label', 'a b=c'], /labels/],
    [tokens, ['revoke', 'x y'], /id/],
    [tokens, ['list'], /no command "list"; '[a-z ]+ tokens' alone lists; with it go create, revoke/],
    [hosts, ['aprove', 'x'], /no command "aprove", did you mean approve\?/],
    [hostCommand, ['a', 'b'], /too many words; '[a-z]+ host --help'/],
    [tokens, ['revoke', 'a', 'b'], /too many words; .*tokens revoke --help/],
    [findings, ['x'], /no command "x"; .* findings. alone lists; with it go show, ack/],
  ] as const)
    await assert.rejects(
      () => run(server, main, args),
      (error: Error) => {
        assert.ok(error instanceof UsageError, `${args.join(' ')}: ${error.message}`);
        assert.match(error.message, said);
        assert.doesNotMatch(error.message, /must match|Invalid|too many arguments/);
        return true;
      },
    );
});

test('a hidden character or backslash in a name is escaped once', async (t) => {
  const { server, good } = await fleet(t);
  good.entries = [...BASE, file('/usr/bin/a\x1b', 'x', 0o4755), file('/usr/bin/back\\slash', 'x', 0o4755)];
  await good.sendFull();
  for (const [main, args] of [
    [findings, []],
    [hostCommand, ['good']],
  ] as const) {
    const { out } = await run(server, main, args);
    assert.ok(out.includes('/usr/bin/a\\x1b:'), out);
    assert.ok(out.includes('/usr/bin/back\\\\slash:'), out);
  }
});

test('hosts are renamed, grouped and labelled, by name or id', async (t) => {
  const { server, good } = await fleet(t);
  const renamed = await run(server, hosts, ['rename', 'good', 'web-1']);
  assert.match(renamed.out, /^ *host +web-1$/m);
  const grouped = await run(server, hosts, ['group', 'web-1', 'web', '--json']);
  assert.equal(JSON.parse(grouped.out).host.group, 'web');
  await run(server, hosts, ['label', good.id, 'site=a', 'tier=b=c']);
  const labelled = await run(server, hosts, ['label', 'web-1', 'site-', 'rack-2=', '--json']);
  assert.deepEqual(JSON.parse(labelled.out).host.labels, { tier: 'b=c', 'rack-2': '' });
  assert.equal(JSON.parse((await run(server, hosts, ['group', 'web-1', '--json'])).out).host.group, null);
  await rejectsCode(() => run(server, hosts, ['label', 'web-1', 'site']), UsageError, 'USAGE');
  await rejectsCode(() => run(server, hosts, ['label', 'web-1', '=x']), UsageError, 'USAGE');
  await rejectsCode(() => run(server, hosts, ['group', 'web-1', 'no such group']), UsageError, 'USAGE');
});
