/** `bootproof agent scan --image`: what only the whole command can do. */
import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { main } from '#cli/agent.ts';
import { runCommand, UsageError } from '#src/terminal.ts';
import { launch, project, run } from '#test/agent/console.ts';
import { emptyRoot, temporary } from '#test/agent/roots.ts';
import { image, members, type Member, type TestImage } from '#test/src/source/images.ts';
import { rejectsCode } from '#test/throws.ts';

const owner = [process.geteuid!(), process.getegid!()] as const;
const own = (list: readonly Member[]): Member[] => list.map((member) => ({ ...member, owner }));
const MEMBERS = own([...members('one'), { name: 'etc/shadow', content: 'root:!:\n', mode: 0o600 }]);

/** An image as a layout, and a root that holds what is in it. */
function prepared(t: TestContext, { list = MEMBERS }: { list?: readonly Member[] } = {}) {
  const made: TestImage = image([list]);
  const folder = temporary(t);
  mkdirSync(join(folder, 'blobs/sha256'), { recursive: true });
  for (const [name, bytes] of made.blobs) writeFileSync(join(folder, 'blobs', name.replace(':', '/')), bytes);
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifests = [{ mediaType, digest: made.digest, size: made.blobs.get(made.digest)!.length }];
  writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  const root = emptyRoot(t);
  for (const { name, content = '', mode = 0o644 } of list) {
    const path = join(root, name);
    mkdirSync(name.endsWith('/') ? path : dirname(path), { recursive: true });
    if (!name.endsWith('/')) writeFileSync(path, content);
    chmodSync(path, mode);
    chownSync(path, ...owner);
  }
  return { root, digest: made.digest, args: ['scan', '--root', root, '--image', `oci:${folder}`] };
}

for (const [backend, rule] of [
  ['oci', 'oci'],
  ['composefs', 'composefs/1'],
] as const)
  test(`a root is what its image says, on ${backend}`, async (t) => {
    const { root, digest, args } = prepared(t);
    const ran = await run(main, [...args, '--backend', backend, '--json']);
    const told = JSON.parse(ran.out) as Record<string, unknown> & { trees: { etc: { main: Record<string, string> } } };
    assert.deepEqual(
      [ran.exit, told['image'], told['rule'], told['complete'], told['drift']],
      [0, digest, rule, true, []],
    );
    assert.equal(told.trees.etc.main['digest'], told.trees.etc.main['expected']);
    appendFileSync(`${root}/usr/mark`, '!');
    assert.equal((await run(main, [...args, '--backend', backend])).exit, 1);
  });

test('on ostree, what is in /etc must be in /usr/etc too', async (t) => {
  const { args } = prepared(t);
  const ran = await run(main, [...args, '--json']);
  const { rule, drift } = JSON.parse(ran.out) as { rule: string; drift: { path: string; change: string }[] };
  assert.deepEqual([ran.exit, rule], [1, 'ostree/1']);
  assert.deepEqual(
    drift.map(({ path, change }) => `${change} ${path}`),
    ['removed /usr/etc', 'removed /usr/etc/mark', 'removed /usr/etc/shadow'],
  );
});

test('what the backend cannot deploy is told with its code, and is no difference', async (t) => {
  const { args } = prepared(t, { list: [...MEMBERS, { name: 'usr/fifo', type: '6', owner }] });
  const ran = await run((own, io) => runCommand(own, io, main), [...args, '--json']);
  assert.equal(ran.exit, 2);
  const { code } = JSON.parse(ran.out) as { code: string };
  assert.match(code, /^[A-Z_]+$/);
  assert.ok(ran.err.includes(`[${code}]`));
});

const wrong = [
  ['two manifests', ['--manifest', join(project, 'package.json')]],
  ['a backend that is none', ['--backend', 'rpm']],
  ['a rule that is none', ['--rule', 'ostree/9']],
] as const;
for (const [what, more] of wrong)
  test(`64: ${what}`, async (t) => {
    const { args } = prepared(t);
    await rejectsCode(() => run(main, [...args, ...more]), UsageError, 'USAGE');
  });

test('64: options of an image without one', async (t) => {
  const { root } = prepared(t);
  await rejectsCode(() => run(main, ['scan', '--root', root, '--backend', 'oci']), UsageError, 'USAGE');
});

test('as people start it: one document on standard output, its exit code, help that tells of images', async (t) => {
  const { args } = prepared(t);
  const bootproof = join(project, 'bootproof');
  const ran = await launch(bootproof, ['agent', ...args, '--backend', 'oci', '--json']);
  assert.deepEqual([ran.exit, (JSON.parse(ran.out) as { complete: boolean }).complete, ran.err], [0, true, '']);
  assert.match((await run(main, ['scan', '--help'])).out, /--image REF/);
  assert.match((await run(main, ['help'])).out, /agent scan/);
});
