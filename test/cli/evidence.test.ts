/** `bootproof evidence verify`: exit codes, the one JSON document, what an auditor brings, and images judged again. */
import assert from 'node:assert/strict';
import { createPublicKey, hash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { main } from '#cli/evidence.ts';
import { image } from '#cli/verify.ts';
import { keyPolicy } from '#demo/sign.ts';
import { formatInstant } from '#src/clock.ts';
import { digestOf } from '#src/digest.ts';
import { cosignNote, noteKey, parseNote, printNote, printVkey } from '#src/signing/note.ts';
import { fingerprintOf } from '#src/signing/ed25519.ts';
import { UsageError } from '#src/terminal.ts';
import { ran } from '#test/ran.ts';
import {
  bundleOf,
  checkpointAt,
  forkAt,
  FROM,
  goodParts,
  logKey,
  server,
  signers,
  type Bent,
} from '#test/src/evidence/madebundle.ts';
import { caseOf, pem, vectors, type Case } from '#test/src/trust/cases.ts';
import { rejectsCode } from '#test/throws.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootproof-evidence-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const put = (name: string, content: string | Uint8Array): string => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
const key = fingerprintOf(server.publicKey);
const verify = (...args: string[]) => ran(main, ['verify', ...args]);
let good: string;
let kept: string;
before(async () => {
  const whole = await goodParts('whole');
  good = put('good.zip', await bundleOf(whole));
  kept = put('kept', await checkpointAt(whole, 9));
});

test('a good bundle with its key ends with 0, without one with 2, with another key with 1', async () => {
  const { exit, out } = await verify(good, '--key', `sha256:${key.toUpperCase()}`, '--known-checkpoint', kept);
  assert.equal(exit, 0, out);
  assert.match(out, /\nAs signed by the key that you gave\..*\(level 1\)\.\n$/);
  const bare = await verify(good);
  assert.equal(bare.exit, 2);
  assert.match(bare.out, /\nWhose it is was not checked\./);
  const other = await verify(good, '--key', 'ab'.repeat(32));
  assert.equal(other.exit, 1);
  assert.match(other.out, /^FAIL {2}key /m);
  for (const { out: text } of [bare, other]) assert.doesNotMatch(text, /verified/i);
});

test('with --json it is one document, whatever is wrong', async () => {
  const fork = put('fork', await forkAt(9));
  const { exit, out } = await verify(good, '--key', key, '--known-checkpoint', fork, '--json');
  assert.equal(exit, 1);
  const { ok, steps, notChecked } = JSON.parse(out);
  assert.equal(ok, false);
  assert.deepEqual(
    steps.filter((step: { ok: boolean }) => !step.ok).map(({ check }: { check: string }) => check),
    ['known-checkpoint'],
  );
  assert.ok(notChecked.every((text: unknown) => typeof text === 'string'));
  const cut = put('cut.zip', readFileSync(good).subarray(0, 5000));
  const broken = await verify(cut, '--key', key, '--json');
  assert.deepEqual([broken.exit, JSON.parse(broken.out).steps.length], [1, 1]);
});

test('the period that was asked for is held against it, as days or as times', async () => {
  const period = ['--from', '2026-07-01', '--to', '2026-07-04T00:00:00Z'];
  assert.equal((await verify(good, '--key', key, ...period)).exit, 0);
  assert.equal((await verify(good, '--key', key, '--to', '2026-07-05')).exit, 1);
});

test('a trusted root names the server, the log and the witness', async () => {
  const parts = await goodParts('whole');
  const { text, signatures } = parseNote(parts.checkpoint);
  const witness = noteKey('w.example', 4, signers[0]!.publicKey);
  const line = await cosignNote(text, witness.name, signers[0]!, 1_800_000_000);
  const seen = put(
    'seen.zip',
    await bundleOf({ ...parts, checkpoint: printNote({ text, signatures: [...signatures, line] }) }),
  );
  const root = (change: object) =>
    put(
      'root.json',
      JSON.stringify({
        format: 'bootproof.trusted-root/1',
        keys: [key],
        logs: [printVkey(logKey)],
        witnesses: [printVkey(witness)],
        ...change,
      }),
    );
  const { exit, out } = await verify(seen, '--trusted-root', root({}));
  assert.equal(exit, 0, out);
  assert.match(out, /^ok {4}witness .*w\.example saw it/m);
  assert.match(out, /\(level 2\)/);
  const strange = await verify(
    seen,
    '--trusted-root',
    root({ logs: [printVkey(noteKey(logKey.name, 1, server.publicKey))] }),
  );
  assert.equal(strange.exit, 1);
  assert.match(strange.out, /^FAIL {2}checkpoint /m);
});

test('what was written wrongly, or is no file, is a usage error that says so', async () => {
  const root = put('no.json', '{}');
  for (const args of [
    [good, '--key', 'abc'],
    [join(folder, 'nowhere')],
    [folder],
    [good, '--trusted-root', root],
    [good, '--from', 'yesterday'],
    [good, '--known-checkpoint', join(folder, 'nowhere')],
    [],
  ])
    await rejectsCode(() => verify(...args), UsageError, 'USAGE');
});

// ── images ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const SIGNED = caseOf('v-legacy2-key-p256');

/** Parts whose one image is that of a real signer's, as it was recorded. */
async function withImage({ name, layout, digest, reference }: Case, policy: string): Promise<Bent> {
  const file = join(folder, `${name}.case`);
  const where = `oci:${join(vectors, layout)}@${digest}`;
  await ran(image, ['verify', where, '--as', reference!, '--key', join(vectors, 'keys/p256.pub'), '--record', file]);
  const recorded = readFileSync(file);
  const { recordedAt } = JSON.parse(recorded.toString()) as { recordedAt: string };
  const parts = await goodParts('whole');
  const content = new TextEncoder().encode(policy);
  const member = `signatures/${digest.slice('sha256:'.length)}.json`;
  parts.files.push({ name: member, content: recorded }, { name: 'policies/images.yaml', content });
  const documents = [{ file: 'images.yaml', member: 'policies/images.yaml', digest: digestOf(content) }];
  const inForce = { from: formatInstant(FROM), to: null };
  const base = { version: 1, digest: digestOf('p'), name: 'images', by: 'alice', note: null, index: null };
  parts.policies.push({ kind: 'image', documents, inForce, ...base });
  const by = `key sha256:${fingerprintP256}`;
  const trust = { state: 'trusted', by, policy: 'acme', why: null, since: recordedAt, verifiedAt: recordedAt } as const;
  parts.images.push({ image: digest, names: [reference!], builtAt: null, trust, signatures: [member], manifests: [] });
  return parts;
}
const fingerprintP256 = hash('sha256', createPublicKey(pem('keys/p256.pub')).export({ format: 'der', type: 'spki' }));

test('an image is judged again from the bytes in the bundle: whoever says something else of it is refused', async () => {
  const policy = keyPolicy('acme', 'localhost:5001/acme/*@*', [{ publicPem: pem('keys/p256.pub') }]);
  const parts = await withImage(SIGNED, policy);
  const right = await verify(put('right.zip', await bundleOf(parts)), '--key', key);
  assert.equal(right.exit, 0, right.out);
  assert.match(right.out, /^ok {4}signatures +1 image judged again/m);
  const otherPolicy = keyPolicy('acme', 'localhost:5001/acme/*@*', [{ publicPem: pem('keys/ed25519.pub') }]);
  const swapped = await verify(put('swapped.zip', await bundleOf(await withImage(SIGNED, otherPolicy))), '--key', key);
  assert.match(swapped.out, /^FAIL {2}signatures .*said to be trusted .* it is rejected.*WRONG_KEY/m);
  parts.images[1] = { ...parts.images[1]!, signatures: [] };
  const bare = await verify(put('bare.zip', await bundleOf(parts)), '--key', key);
  assert.match(bare.out, /^FAIL {2}signatures .*there is no proof of it/m);
});
