/** `bootproof images trust` and `bootproof deny` against a real server. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { images } from '#cli/supply.ts';
import { deny, trust } from '#cli/trust.ts';
import { UsageError } from '#src/terminal.ts';
import { keyPolicy } from '#demo/sign.ts';
import { trustSetup } from '#server/trust/setup.ts';
import { serverFor, type TestServer } from '#test/server/fleet.ts';
import { hostOn, KEY, OTHER, REPOSITORY, site } from '#test/server/trust/site.ts';
import { tufRepository } from '#test/server/trust/tufrepository.ts';
import { vectors } from '#test/src/trust/cases.ts';
import { rejectsCode } from '#test/throws.ts';
import { ran, type Main } from '#test/ran.ts';

async function run(server: TestServer, main: Main, ...args: string[]) {
  const env = { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin };
  const { exit, out } = await ran(main, args, { env });
  return { exit, out };
}

test('images trust tells the proof, or the first reason, and exits as CI needs it; deny takes back what a key vouched for', async (t) => {
  const at = await site(t);
  const [good, bad] = [at.image('good'), at.image('bad')];
  await at.sign(good);
  await at.sign(bad, OTHER);
  const server = await serverFor(t, { images: [good, bad], ...at.options(at.policy([KEY])) });
  await hostOn(server, at, good, 'good-1');
  await hostOn(server, at, bad, 'bad-1');
  assert.equal((await run(server, images, 'trust', good.digest)).exit, 2, 'nobody has looked yet');
  await server.settle();
  const trusted = await run(server, images, 'trust', good.digest);
  assert.equal(trusted.exit, 0);
  assert.match(trusted.out, /^provenance +trusted$/m);
  const signed = new RegExp(`key sha256:[0-9a-f]{64} \\(ecdsa-p256-sha256\\) signed ${good.digest}; docker://`);
  assert.match(trusted.out, signed);
  const refused = await run(server, images, 'trust', bad.digest);
  assert.equal(refused.exit, 1);
  assert.match(refused.out, /^os, key-1 +failed: not signed by the key sha256:.* \[WRONG_KEY\]$/m);
  const json = JSON.parse((await run(server, images, 'trust', good.digest, '--json')).out);
  const { fingerprint } = json.policies[0].authorities[0].proofs[0];

  const added = await run(server, deny, 'add', '--key', fingerprint, '--reason', 'The key was published.');
  const id = added.out.trim();
  assert.match(id, /^d_[0-9a-f]{32}$/);
  await server.settle();
  assert.match((await run(server, images, 'trust', good.digest)).out, /denied by key: The key was published\./);
  assert.match((await run(server, deny)).out, new RegExp(`^${id} +\\{"key":"${fingerprint}"\\} +always +The key`, 'm'));
  assert.equal((await run(server, deny, 'remove', id)).out, 'removed\n');
  await server.settle();
  assert.equal((await run(server, images, 'trust', good.digest)).exit, 0);
  for (const wrong of [[], ['--key', 'a', '--image', 'b'], ['--log', 'a']])
    await rejectsCode(() => run(server, deny, 'add', '--reason', 'x', ...wrong), UsageError, 'USAGE');
});

test('trust tells by what a server judges, and each root with its age; a missing or failing one is exit 1', async (t) => {
  const at = await site(t);
  const repository = await tufRepository(t);
  const keyless = (root: string) => ({
    keyless: { identities: [{ issuer: 'https://issuer.example', subject: 'builder' }], trustRootRef: root },
  });
  const text = keyPolicy('os', `${at.registry}/${REPOSITORY}*`, [KEY], [keyless('ours'), keyless('theirs')]);
  const bytes = readFileSync(join(vectors, 'trust/trusted_root.json'));
  const roots = [{ name: 'ours', bytes }];
  const setup = trustSetup({ policies: [{ file: 'os.yaml', text }], roots });
  const refresh = { name: 'ours', mirror: repository.url, initial: repository.root };
  const server = await serverFor(t, { ...at.options(setup), rootRefreshes: [refresh] });
  await server.settle();
  const failing = await run(server, trust, 'roots');
  assert.equal(failing.exit, 1);
  assert.match(failing.out, /^ours +file +2026-11-24 12:00:00Z +- +\S+ \S+ +[0-9a-f]{12} +os$/m);
  assert.match(failing.out, /^theirs +missing +- +never +- +- +os$/m);
  assert.match(
    failing.out,
    /^ours: not refreshed since 2026-11-24 12:00:00Z, the last one stays: .* \[TUF_REFRESH\]$/m,
  );
  repository.publish(bytes);
  await run(server, trust, 'refresh', 'ours');
  await server.settle();
  const all = await run(server, trust);
  assert.match(all.out, /^ours +tuf +\S+ \S+ +2026-11-24 12:00:00Z/m);
  assert.match(all.out, /^os +127\.0\.0\.1:\d+\/team\/os\*$/m);
  assert.match(all.out, /^note +os\.yaml:\d+: .* \[OPEN_END\]$/m);
  assert.equal(JSON.parse((await run(server, trust, 'roots', '--json')).out).roots.length, 2);
  await assert.rejects(run(server, trust, 'refresh', 'theirs'), { code: 'TRUST_ROOT_NOT_KEPT_UP' });

  const none = await serverFor(t);
  assert.deepEqual(await run(none, trust), { exit: 0, out: '' });
});
