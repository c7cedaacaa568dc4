/** `bootproof manifest`: what it prints, where, and how it exits. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { openVerity } from '#agent/backing.ts';
import { main } from '#cli/manifest.ts';
import { OciManifestError } from '#src/image/ocimanifest.ts';
import { BackendError } from '#src/image/refusal.ts';
import { ManifestHeader, ManifestWarning } from '#src/manifest/header.ts';
import { VerityTextError } from '#src/manifest/verity.ts';
import { OutputError, runCommand, UsageError, type Io } from '#src/terminal.ts';
import { image, indexOf, members, tar, type Member, type TestImage } from '#test/src/source/images.ts';
import { serveRegistry } from '#test/src/source/registryserver.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { ran, type Ran } from '#test/ran.ts';

const vectors = join(import.meta.dirname, '../vectors');
const vector = (name: string) => `oci:${join(vectors, 'source', name, 'image')}`;
const pinned = (name: string) => readFile(join(vectors, name), 'latin1');

const run = (args: string[], options: { isTTY?: boolean; env?: Io['env'] } = {}): Promise<Ran> =>
  ran(main, args, { ...options, columns: 80 });

/** The command to its exit code, where a refusal is told and not thrown. */
const launch = (args: string[]): Promise<Ran> => ran((given, io) => runCommand(given, io, main), args, { columns: 80 });

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'bootproof-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Writes images as one layout, each under its tag. */
async function layout(path: string, images: Record<string, Pick<TestImage, 'digest' | 'blobs'>>): Promise<string> {
  await mkdir(join(path, 'blobs/sha256'), { recursive: true });
  const manifests = [];
  for (const [tag, { digest, blobs }] of Object.entries(images)) {
    const bytes = blobs.get(digest)!;
    const mediaType = (JSON.parse(new TextDecoder().decode(bytes)) as { mediaType: string }).mediaType;
    manifests.push({
      mediaType,
      digest,
      size: bytes.length,
      annotations: { 'org.opencontainers.image.ref.name': tag },
    });
    for (const [name, content] of blobs) await writeFile(join(path, 'blobs', name.replace(':', '/')), content);
  }
  await writeFile(join(path, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(path, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  return `oci:${path}`;
}

const CASES = ['17-hardlinks', '28-xattrs', '38-odd-names'];

for (const name of CASES)
  for (const backend of ['ostree', 'composefs'])
    test(`build: ${name} for ${backend} is the golden tree as jsonl and the pinned text as mtree`, async () => {
      await using folder = await temporary();
      const jsonl = await run(['build', vector(name), '--backend', backend, '--format', 'jsonl']);
      const golden = (await readFile(join(vectors, 'merge', name, `${backend}.jsonl`), 'utf8'))
        .split('\n')
        .filter((line) => /^\{"path":"\/(?:usr|etc)["/]/.test(line))
        .map((line) => {
          const { xattrs, ...entry } = JSON.parse(line) as { xattrs?: Record<string, string> };
          const capability = xattrs?.['security.capability'];
          return `${JSON.stringify(capability === undefined ? entry : { ...entry, xattrs: { 'security.capability': capability } })}\n`;
        });
      assert.ok(golden.length > 40);
      assert.equal(jsonl.out, golden.join(''));
      assert.equal(jsonl.exit, 0);

      const extra = join(folder.path, 'extra');
      const mtree = await run(['build', vector(name), '--backend', backend, '--format', 'mtree', '--extra', extra]);
      assert.equal(mtree.out, await pinned(`texts/${name}.${backend}.mtree`));
      assert.equal(await readFile(extra, 'utf8'), await pinned(`texts/${name}.${backend}.extra`));
    });

test('build: sha256sum of a tree’s part is the digest that `digest` prints', async () => {
  const { out } = await run(['build', vector('28-xattrs')]);
  const digests = JSON.parse((await run(['digest', vector('28-xattrs'), '--json'])).out) as ManifestHeader;
  for (const tree of ['usr', 'etc'] as const) {
    const part = out.split('\n').filter((line) => new RegExp(`^\\./${tree}[ /]`).test(line));
    const digest = createHash('sha256')
      .update(part.map((line) => `${line}\n`).join(''), 'latin1')
      .digest('hex');
    assert.equal(digests.trees[tree].main.full, `sha256:${digest}`);
  }
});

test('build: the fs-verity digest of every content, as the agent takes it', async () => {
  await using folder = await temporary();
  const file = join(folder.path, 'verity');
  const { out } = await run(['build', vector('17-hardlinks'), '--format', 'jsonl', '--verity', file]);
  const told = new Set((await readFile(file, 'utf8')).split('\n').map((line) => line.split(' ')[1]));
  const files = out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { size?: number; sha256?: string })
    .filter(({ size = 0 }) => size > 0);
  assert.ok(files.length > 10);
  for (const { sha256 } of files) assert.ok(told.has(sha256));
  assert.ok(openVerity(file).byteLength > 0);
  await writeFile(file, out);
  throwsCode(() => openVerity(file), VerityTextError, 'VERITY_SYNTAX');
  throwsCode(() => openVerity(join(folder.path, 'none')), UsageError, 'USAGE');
});

test('build: to files, with the warnings as JSON, and a note where capabilities would be left behind', async () => {
  await using folder = await temporary();
  const [file, warnings] = [join(folder.path, 'out'), join(folder.path, 'warnings')];
  const ran = await run(['build', vector('56-gzip-members'), '-o', file, '--warnings', warnings, '--json']);
  assert.deepEqual(Object.keys(JSON.parse(ran.out) as object), ['image', 'rule', 'entries', 'warnings']);
  assert.match(await readFile(file, 'utf8'), /^#mtree\n\. type=dir\n\.\/etc type=dir /);
  const told = ManifestWarning.array().parse(JSON.parse(await readFile(warnings, 'utf8')));
  assert.ok(told.some(({ code, layer }) => code === 'GZIP_MEMBERS_LOST' && layer === 1));
  assert.match(ran.err, /^warning: layer 1: .*\[GZIP_MEMBERS_LOST\]$/m);
  assert.match((await run(['build', vector('28-xattrs')])).err, /^note: .*--extra/m);
  assert.doesNotMatch((await run(['build', vector('28-xattrs'), '--format', 'jsonl'])).err, /note/);
});

test('build: without warnings the list is empty, not absent', async () => {
  await using folder = await temporary();
  const warnings = join(folder.path, 'warnings');
  const ran = await run([
    'build',
    vector('17-hardlinks'),
    '--backend',
    'oci',
    '--format',
    'jsonl',
    '--warnings',
    warnings,
  ]);
  assert.equal(ran.err, '');
  assert.equal(await readFile(warnings, 'utf8'), '[]\n');
});

test('build: what a backend cannot deploy exits 2 with a code', async () => {
  const plain = await launch(['build', vector('60-chardev'), '--backend', 'ostree', '--format', 'jsonl']);
  assert.deepEqual([plain.exit, plain.out], [2, '']);
  assert.match(plain.err, /^bootproof: layer 1: usr\/share\/null: .* \[DEVICE_IN_TREE\]\n$/);
  const json = await launch(['build', vector('60-chardev'), '--backend', 'ostree', '--format', 'jsonl', '--json']);
  assert.equal(json.exit, 2);
  assert.equal((JSON.parse(json.out) as { code: string }).code, 'DEVICE_IN_TREE');
  assert.equal((await launch(['build', vector('60-chardev'), '--backend', 'composefs', '-o', '/dev/null'])).exit, 0);
});

test('build: composefs-dump', async () => {
  const { out } = await run(['build', vector('28-xattrs'), '--backend', 'composefs', '--format', 'composefs-dump']);
  assert.match(out, /^\/ 0 40755 /);
  assert.match(out, /^\/usr\/bin\/cap 2 100755 1 0 0 0 0\.0 - - - user\.bootproof\.sha256=[0-9a-f]{64}$/m);
});

test('the older rules of a backend can be asked for by name', async () => {
  const variant = await run(['digest', vector('28-xattrs'), '--rule', 'ostree/1-debris-noxattr', '--json']);
  const newest = await run(['digest', vector('28-xattrs'), '--json']);
  const of = (ran: Ran) => JSON.parse(ran.out) as ManifestHeader;
  assert.deepEqual([of(variant).rule, of(newest).rule], ['ostree/1-debris-noxattr', 'ostree/1']);
  assert.notEqual(of(variant).trees.usr.extra, of(newest).trees.usr.extra);
});

test('show: the header, or entries at and below paths', async () => {
  const header = ManifestHeader.parse(JSON.parse((await run(['show', vector('28-xattrs'), '--json'])).out));
  assert.equal(header.layers.length, 3);
  const text = (await run(['show', vector('28-xattrs')])).out;
  for (const digest of [header.image, header.trees.etc.main.comparison, header.trees.usr.extra])
    assert.ok(text.includes(digest));
  const paths = await run(['show', vector('28-xattrs'), '/usr/bin/', '/etc/capfile', '--json']);
  const { entries } = JSON.parse(paths.out) as { entries: { path: string }[] };
  assert.ok(entries.length > 5 && entries.every(({ path }) => /^\/(?:usr\/bin(?:\/|$)|etc\/capfile$)/.test(path)));
  assert.match(
    (await run(['show', vector('28-xattrs'), '/etc/os-release'])).out,
    /^symlink .* \/etc\/os-release -> \.\.\/usr\/lib\/os-release\n$/,
  );
  assert.equal((await run(['show', vector('28-xattrs'), '/usr/none'])).exit, 1);
  await rejectsCode(() => run(['show', vector('28-xattrs'), '/var']), UsageError, 'USAGE');
});

test('lint: what each backend says of an image', async () => {
  const lint = async (name: string, ...more: string[]) => {
    const { exit, out } = await run(['lint', vector(name), '--json', ...more]);
    const { verdicts } = JSON.parse(out) as {
      verdicts: { backend: string; deployable: boolean; code?: string; warnings?: { code: string }[] }[];
    };
    return {
      exit,
      verdicts: Object.fromEntries(
        verdicts.map((v) => [v.backend, v.deployable ? v.warnings!.map(({ code }) => code) : v.code]),
      ),
    };
  };
  assert.deepEqual(await lint('17-hardlinks', '--backend', 'ostree'), { exit: 0, verdicts: { ostree: [] } });
  assert.deepEqual(await lint('60-chardev', '--backend', 'ostree', '--backend', 'oci'), {
    exit: 1,
    verdicts: { ostree: 'DEVICE_IN_TREE', oci: [] },
  });
  const gzip = await lint('56-gzip-members');
  assert.equal(gzip.exit, 1);
  assert.ok(gzip.verdicts['ostree']?.includes('GZIP_MEMBERS_LOST'));
  // A layer that nobody reads is a verdict too, not a failure of ours.
  assert.deepEqual(await lint('69-truncated'), {
    exit: 1,
    verdicts: { ostree: 'TAR_TRUNCATED', composefs: 'TAR_TRUNCATED', oci: 'TAR_TRUNCATED' },
  });
  const text = await run(['lint', vector('60-chardev')]);
  assert.match(text.out, /^ostree: cannot be deployed: .*\[DEVICE_IN_TREE\]$/m);
  assert.match(text.out, /^oci: nothing to say$/m);
});

test('build: what the backend refuses stands in the warnings too, under its code', async () => {
  await using folder = await temporary();
  const warnings = join(folder.path, 'warnings');
  await rejectsCode(
    () => run(['build', vector('60-chardev'), '--backend', 'ostree', '--warnings', warnings]),
    BackendError,
    'DEVICE_IN_TREE',
  );
  const [told, ...more] = ManifestWarning.array().parse(JSON.parse(await readFile(warnings, 'utf8')));
  assert.deepEqual([told!.code, typeof told!.layer, more], ['DEVICE_IN_TREE', 'number', []]);
});

test('build: nothing is written where a file of it cannot be', async () => {
  await using folder = await temporary();
  const file = join(folder.path, 'out');
  for (const option of ['--extra', '--warnings']) {
    const args = ['build', vector('17-hardlinks'), '-o', file, option, '/nonexistent/x'];
    await rejectsCode(() => run(args), UsageError, 'USAGE');
    assert.equal(existsSync(file), false);
  }
});

test('build: a full disk is a refusal that names the file', async (t) => {
  if (!existsSync('/dev/full')) return t.skip('no /dev/full here');
  for (const option of ['-o', '--extra', '--warnings'])
    await rejectsCode(
      () => run(['build', vector('28-xattrs'), '--backend', 'ostree', option, '/dev/full']),
      OutputError,
      'OUTPUT_FAILED',
    );
});

test('a backend and a rule of another one contradict each other', async () => {
  for (const command of ['build', 'digest', 'show'])
    await rejectsCode(
      () => run([command, vector('28-xattrs'), '--backend', 'composefs', '--rule', 'ostree/1']),
      UsageError,
      'USAGE',
    );
  const of = async (...options: string[]) =>
    (JSON.parse((await run(['digest', vector('28-xattrs'), '--json', ...options])).out) as { rule: string }).rule;
  assert.equal(await of('--rule', 'composefs/1'), 'composefs/1');
  assert.equal(await of('--backend', 'ostree', '--rule', 'ostree/1-debris'), 'ostree/1-debris');
  assert.equal(await of(), 'ostree/1');
});

test('lint: what cannot be told exits 2', async () => {
  const absent = await launch(['lint', 'oci:/nonexistent', '--json']);
  assert.equal(absent.exit, 2);
  assert.equal((JSON.parse(absent.out) as { code: string }).code, 'SOURCE_NOT_FOUND');
  const bounded = await launch(['lint', vector('17-hardlinks'), '--limit', 'layerEntries=3']);
  assert.equal(bounded.exit, 2);
  assert.match(bounded.err, /LIMIT_ENTRIES/);
});

const old: Member[] = [
  ...members('same'),
  { name: 'usr/bin/', mode: 0o755 },
  { name: 'usr/bin/tool', content: 'one', mode: 0o755 },
  { name: 'usr/bin/gone', content: 'x' },
  { name: 'usr/share/', mode: 0o755 },
  { name: 'usr/share/link', type: '2', link: 'a' },
  { name: 'etc/shadow', content: 'root:old', mode: 0 },
];
const changed: Member[] = [
  { name: 'usr/bin/tool', content: 'other', mode: 0o4755 },
  { name: 'usr/bin/.wh.gone' },
  { name: 'usr/share/link', type: '2', link: 'b' },
  { name: 'usr/share/new/', mode: 0o755 },
  { name: 'usr/share/new/\x1b[31m', content: 'x' },
  { name: 'usr/share/new/b', content: 'y' },
  { name: 'etc/shadow', content: 'root:new', mode: 0 },
];

test('diff: what an update changes, by tree and kind', async () => {
  await using folder = await temporary();
  const source = await layout(folder.path, { v1: image([old]), v2: image([old, changed]) });
  const args = ['diff', `${source}:v1`, `${source}:v2`, '--backend', 'oci'];
  const { exit, out } = await run([...args, '--json']);
  assert.equal(exit, 1);
  const json = JSON.parse(out) as {
    totals: object;
    drift: { path: string; change: string; attributes: string[] }[];
    secrets: object[];
  };
  assert.deepEqual(json.totals, {
    usr: { added: 3, removed: 1, modified: 2 },
    etc: { added: 0, removed: 0, modified: 0 },
  });
  assert.deepEqual(
    json.drift.map(({ path, change, attributes }) => [path, change, attributes.join()]),
    [
      ['/usr/bin/gone', 'removed', ''],
      ['/usr/bin/tool', 'modified', 'mode,size,sha256'],
      ['/usr/share/link', 'modified', 'link'],
      ['/usr/share/new', 'added', ''],
      ['/usr/share/new/\x1b[31m', 'added', ''],
      ['/usr/share/new/b', 'added', ''],
    ],
  );
  assert.deepEqual(json.secrets, [{ path: '/etc/shadow', state: 'differs' }]);

  const text = await run(args);
  assert.equal(text.exit, 1);
  assert.match(text.out, /^\/usr: 3 added, 1 removed, 2 modified$/m);
  assert.match(text.out, /^ {2}~ \/usr\/bin\/tool {2}mode 0755 → 4755, content, 3 B → 5 B$/m);
  assert.match(text.out, /^ {2}\+ \/usr\/share\/new {2}dir 0755 {2}\(and 2 below\)$/m);
  assert.match(text.out, /^ {2}~ \/etc\/shadow {2}content of a secret$/m);
  const all = await run([...args, '--all']);
  assert.match(all.out, /^ {2}\+ \/usr\/share\/new\/\\x1b\[31m /m);
  assert.doesNotMatch(all.out, /\x1b/); // eslint-disable-line no-control-regex
  assert.equal((await run(['diff', `${source}:v1`, `${source}:v1`, '--backend', 'oci'])).exit, 0);
});

test('diff: colours only where a terminal wants them', async () => {
  await using folder = await temporary();
  const source = await layout(folder.path, { v1: image([old]), v2: image([old, changed]) });
  const args = ['diff', `${source}:v1`, `${source}:v2`, '--backend', 'oci'];
  const green = /\x1b\[32m {2}\+ \/usr\/share\/new\x1b\[39m/; // eslint-disable-line no-control-regex
  assert.match((await run(args, { isTTY: true })).out, green);
  assert.doesNotMatch((await run(args, { isTTY: true, env: { NO_COLOR: '1' } })).out, green);
  assert.doesNotMatch((await run(args)).out, green);
});

/** The members as files of the runner's own, so that no privilege is needed. */
async function unpack(root: string, list: readonly Member[]): Promise<void> {
  for (const { name, content = '', link, mode } of list) {
    const path = join(root, name);
    await mkdir(name.endsWith('/') ? path : dirname(path), { recursive: true });
    if (name.endsWith('/')) continue;
    if (link !== undefined) await symlink(link, path);
    else await writeFile(path, content);
    if (mode !== undefined && link === undefined) await chmod(path, mode);
    else if (link === undefined) await chmod(path, 0o644);
  }
  for (const { name, mode } of list) if (name.endsWith('/')) await chmod(join(root, name), mode ?? 0o644);
}

test('check: a faithful root is the same, each planted change is seen', async () => {
  await using folder = await temporary();
  const owner = [process.getuid!(), process.getgid!()] as const;
  const list = old.filter(({ name }) => name !== 'etc/shadow').map((member) => ({ ...member, owner }));
  const source = await layout(join(folder.path, 'layout'), { v1: image([list]) });
  const root = join(folder.path, 'root');
  await unpack(root, list);
  const args = ['check', source, '--root', root, '--backend', 'oci'];
  const check = async () => {
    const { exit, out } = await run([...args, '--json']);
    const json = JSON.parse(out) as {
      complete: boolean;
      trees: Record<
        'usr' | 'etc',
        { main: { digest: string | null; expected: string }; extra: object; holes: object[] }
      >;
      drift: { path: string; change: string; attributes: string[]; expected?: object; actual?: object }[];
    };
    return {
      exit,
      json,
      drift: json.drift.map(({ path, change, attributes }) => `${change} ${path} ${attributes.join()}`.trim()),
    };
  };
  const same = await check();
  assert.deepEqual(same.drift, []);
  assert.deepEqual([same.exit, same.json.complete], [0, true]);
  for (const tree of ['usr', 'etc'] as const) {
    assert.equal(same.json.trees[tree].main.digest, same.json.trees[tree].main.expected);
    assert.deepEqual(same.json.trees[tree].holes, []);
  }
  await writeFile(join(root, 'usr/bin/tool'), 'evil');
  await rm(join(root, 'usr/bin/gone'));
  await writeFile(join(root, 'etc/added'), 'x');
  await chmod(join(root, 'usr/mark'), 0o600);
  const tampered = await check();
  assert.equal(tampered.exit, 1);
  assert.deepEqual(tampered.drift.sort(), [
    'added /etc/added',
    'modified /usr/bin/tool size,sha256',
    'modified /usr/mark mode',
    'removed /usr/bin/gone',
  ]);
  const text = await run(args);
  assert.equal(text.exit, 1);
  assert.match(text.out, /^ {2}~ mark\n {6}mode {7}0644 {2}0600$/m);
});

test('check: a mount below the root is a hole and said, as the agent’s scan says it', async (t) => {
  await using folder = await temporary();
  const root = join(folder.path, 'root');
  const list = members('x');
  const source = await layout(join(folder.path, 'layout'), { latest: image([list]) });
  for (const { name, content = '' } of list) {
    await mkdir(name.endsWith('/') ? join(root, name) : dirname(join(root, name)), { recursive: true });
    if (!name.endsWith('/')) await writeFile(join(root, name), content);
  }
  // The scan must not take what is bound there for what the image has.
  const check = `${join(import.meta.dirname, '../../bootproof')} manifest check ${source} --root ${root} --backend oci --json`;
  const inside = `mount --bind ${root}/etc ${root}/usr/lib && exec ${check}`;
  const ran = await new Promise<Ran>((resolve) => {
    execFile('unshare', ['--mount', 'sh', '-c', inside], (error, out, err) =>
      resolve({ exit: error === null ? 0 : Number(error.code), out, err }),
    );
  });
  if (ran.out === '') return t.skip(`no mounts of one's own here: ${ran.err.trim()}`);
  const { complete, trees } = JSON.parse(ran.out) as {
    complete: boolean;
    trees: { usr: { holes: { path: string; kind: string }[] } };
  };
  assert.deepEqual([complete, trees.usr.holes.map(({ path, kind }) => `${kind} ${path}`)], [false, ['mount /usr/lib']]);
});

test('an index resolves to the platform that is named', async () => {
  const [one, two] = [image([members('1')]), image([members('2')], { architecture: 's390x' })];
  const index = indexOf([
    { of: one, platform: { os: 'linux', architecture: 'amd64' } },
    { of: two, platform: { os: 'linux', architecture: 's390x' } },
  ]);
  await using registry = await serveRegistry(index.blobs, { latest: index.digest });
  const as = (...more: string[]) => ['digest', `docker://${registry.host}/a/b`, '--json', '--backend', 'oci', ...more];
  const digest = async (...more: string[]) => JSON.parse((await run(as(...more))).out) as Record<string, string>;
  assert.deepEqual(
    [(await digest('--platform', 'linux/s390x'))['image'], (await digest('--platform', 'linux/amd64'))['image']],
    [two.digest, one.digest],
  );
  assert.equal((await digest('--platform', 'linux/s390x'))['index'], index.digest);
  await assert.rejects(run(as('--platform', 'linux/riscv64')), {
    code: 'PLATFORM_MISSING',
    message: `docker://${registry.host}/a/b: manifest is an index without linux/riscv64; it offers linux/amd64, linux/s390x`,
  });
  const direct = ['digest', `docker://${registry.host}/a/b@${two.digest}`, '--backend', 'oci'];
  assert.equal((await run(direct)).exit, 0);
  await rejectsCode(() => run([...direct, '--platform', 'linux/amd64']), OciManifestError, 'PLATFORM_MISSING');
});

test('the same image gives the same manifest from a registry, a folder and an archive', async () => {
  await using folder = await temporary();
  const of = image([old, changed]);
  await using registry = await serveRegistry(of.blobs, { latest: of.digest });
  const source = await layout(join(folder.path, 'layout'), { latest: of });
  const files = [
    'oci-layout',
    'index.json',
    ...[...of.blobs.keys()].map((digest) => `blobs/${digest.replace(':', '/')}`),
  ];
  const contents = await Promise.all(
    files.map(async (name): Promise<Member> => ({
      name,
      content: await readFile(join(folder.path, 'layout', name), 'latin1'),
    })),
  );
  const archive = join(folder.path, 'image.tar');
  await writeFile(archive, tar(contents));
  const outs = await Promise.all(
    [`docker://${registry.host}/a/b:latest`, `${source}:latest`, `oci-archive:${archive}:latest`].map(
      async (reference) => (await run(['build', reference, '--backend', 'oci'])).out,
    ),
  );
  assert.equal(new Set(outs).size, 1);
  assert.match(outs[0]!, /usr\/bin\/tool/);
});

test('progress is shown to a terminal alone, and taken away', async () => {
  const ran = await run(['build', vector('17-hardlinks'), '--backend', 'oci', '--format', 'jsonl'], { isTTY: true });
  assert.match(ran.err, /\r\u001b\[Kreading 3 layers: .*\r\u001b\[K$/); // eslint-disable-line no-control-regex
  assert.equal((await run(['build', vector('17-hardlinks'), '--backend', 'oci', '--format', 'jsonl'])).err, '');
});

const misuse: [string, string[]][] = [
  ['an unknown subcommand', ['bild']],
  ['no image', ['build']],
  ['an unknown option', ['build', 'oci:x', '--formt', 'mtree']],
  ['an unknown format', ['build', 'oci:x', '--format', 'json']],
  ['an unknown backend', ['build', 'oci:x', '--backend', 'docker']],
  ['an unknown rule', ['build', 'oci:x', '--rule', 'ostree/9']],
  ['an unknown backend of lint', ['lint', 'oci:x', '--backend', 'docker']],
  ['an unknown bound', ['build', 'oci:x', '--limit', 'bytes=1']],
  ['a bound that is no number', ['build', 'oci:x', '--limit', 'layerBytes=many']],
  ['no root', ['check', 'oci:x']],
  ['an output that cannot be written', ['build', vector('17-hardlinks'), '-o', '/nonexistent/x']],
];
for (const [name, args] of misuse) test(`wrong use: ${name}`, () => rejectsCode(() => run(args), UsageError, 'USAGE'));

test('wrong use: what is no image reference, under its own code', async () => {
  for (const command of ['build', 'lint', 'digest'])
    await rejectsCode(() => run([command, 'foo:bar']), UsageError, 'REFERENCE_TRANSPORT');
});

test('wrong use exits 64, and without a subcommand the help says what there is', async () => {
  assert.equal((await launch(['build', 'oci:x', '--format', 'json'])).exit, 64);
  const nothing = await launch([]);
  assert.equal(nothing.exit, 64);
  assert.match(nothing.err, /Commands:\n {2}build/);
  const help = await launch(['build', '--help']);
  assert.equal(help.exit, 0);
  assert.match(help.out, /user\.bootproof\.sha256/);
});

test('a reader that goes away is no fault', async () => {
  await using folder = await temporary();
  const many = Array.from({ length: 3000 }, (_, i): Member => ({ name: `usr/f${i}`, content: '' }));
  const source = await layout(folder.path, { latest: image([[...members('x'), ...many]]) });
  const child = spawn(join(import.meta.dirname, '../../bootproof'), ['manifest', 'build', source, '--backend', 'oci'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let err = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  child.stdout.once('data', () => child.stdout.destroy());
  const exit = await new Promise((resolve) => child.once('close', resolve));
  assert.deepEqual([exit, err], [0, '']);
});
