/** `VERIFY.md` of a bundle, command by command as an auditor would copy them: openssl, jq, coreutils, and cosign. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { verifyText } from '../../src/evidence/verifytext.ts';
import { fingerprintOf } from '../../src/signing/ed25519.ts';
import { bundleOf, goodParts, server } from '../src/evidence/madebundle.ts';
import { ok, run, scratch } from './tools.ts';

const parts = await goodParts('whole');
const bytes = await bundleOf(parts);
const fingerprint = fingerprintOf(server.publicKey);
const text = verifyText(parts.head, fingerprint);

/** The commands below a heading, without their comments. */
function commands(heading: string): string[] {
  const section = text.split(/^## /m).find((one) => one.startsWith(heading));
  assert.ok(section !== undefined, `VERIFY.md has a section ${heading}`);
  return section
    .split('\n')
    .filter((line) => /^ {4}\S/.test(line))
    .map((line) => line.trim().replace(/ {2,}#.*$/, ''));
}

/** What they print, one after the other in one shell; the first that fails ends it. */
function shell(cwd: string, lines: readonly string[]) {
  return run('bash', ['-euo', 'pipefail', '-c', lines.join('\n')], { cwd });
}

const UNPACKED = commands('With openssl, jq');

test('openssl, jq and sha256sum find the bundle as it was signed', (t) => {
  const at = scratch(t);
  writeFileSync(join(at, 'bundle.zip'), bytes);
  const { status, stdout, stderr } = shell(at, UNPACKED);
  assert.equal(status, 0, stderr);
  assert.match(stdout, new RegExp(`^${fingerprint} `, 'm'));
  assert.match(stdout, /^Signature Verified Successfully$/m);
});

for (const [name, change] of [
  ['a changed member', 'printf x >> log/checkpoint'],
  ['a member that is missing', 'rm log/left'],
  ['a member that nobody signed', 'touch report.html'],
  ['a changed statement', 'sed -i \'s/"payload":"e/"payload":"f/\' statement.dsse.json'],
  ['another key', 'openssl genpkey -algorithm ed25519 | openssl pkey -pubout > server.pub.pem'],
] as const)
  test(`they notice ${name}`, (t) => {
    const at = scratch(t);
    writeFileSync(join(at, 'bundle.zip'), bytes);
    assert.notEqual(shell(at, [UNPACKED[0]!, change, ...UNPACKED.slice(1)]).status, 0);
  });

test('openssl finds the checkpoint signed by the log, and a record the one of its entry', (t) => {
  const at = scratch(t);
  writeFileSync(join(at, 'bundle.zip'), bytes);
  const [checkpoint, record] = [commands('The log').slice(0, 4), commands('The log').slice(4, 7)];
  const { status, stdout, stderr } = shell(at, [UNPACKED[0]!, ...checkpoint, ...record]);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^Signature Verified Successfully$/m);
  const entry = ok('jq', ['-r', '.index'], {
    input: ok('unzip', ['-p', join(at, 'bundle.zip'), 'records/acts-00001.ndjson']).split('\n')[0]!,
  }).trim();
  const digest = /^([0-9a-f]{64}) {2}\.\.\/salted$/m.exec(stdout)![1]!;
  assert.ok(new TextDecoder().decode(parts.entries[Number(entry)]).includes(`"sha256:${digest}"`));
});

test('cosign finds the statement signed, and a changed file not among its subjects', (t) => {
  if (spawnSync('cosign', ['version']).error !== undefined) return t.skip('cosign is not here');
  const at = scratch(t);
  writeFileSync(join(at, 'bundle.zip'), bytes);
  const [verify, convert] = commands('With cosign') as [string, string];
  const good = shell(at, [UNPACKED[0]!, convert, verify]);
  assert.equal(good.status, 0, good.stderr);
  assert.match(good.stderr, /Verified OK/);
  assert.notEqual(shell(at, [UNPACKED[0]!, convert, 'printf x >> VERIFY.md', verify]).status, 0);
  return undefined;
});
