/**
 * A bundle that a running server exported, anchored by OpenSSL's timestamp authority and, where `LITEWITNESS` names one, a real witness: `VERIFY.md`
 * in it, command by command, by programs that are not ours; and what ours says of its level.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readAnchors } from '../../server/log/authority.ts';
import { policySource } from '../../server/prepare.ts';
import { NEXT, OS } from '../server/decisions/people.ts';
import { FROM, live, TO } from '../server/evidence/life.ts';
import { serverFor } from '../server/fleet.ts';
import { answering } from '../server/log/witness.ts';
import { authority, KEYS } from './authority.ts';
import { witness } from './litewitness.ts';
import { ok, root, run, scratch } from './tools.ts';

/** Our command, beside the server, which is in this process. */
function bootproof(...args: string[]): Promise<{ readonly status: number | null; readonly out: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(root, 'bootproof'), args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, out }));
  });
}

test('a bundle of a running server: stamped, cosigned, and checked without us', async (t) => {
  const at = scratch(t);
  const { answer, pem } = authority(at, KEYS.RSA);
  const url = await answering(t, answer);
  const program = process.env['LITEWITNESS'];
  const other = program === undefined ? undefined : await witness(t, program);
  const server = await serverFor(t, {
    images: [OS, NEXT],
    policy: await policySource(undefined),
    storeUrl: `sqlite:${join(at, 'store.db')}`,
    evidence: { origin: 'bootproof.example/log' },
    anchors: readAnchors({
      witnesses: other === undefined ? [] : [`${other.vkey}=${other.url}`],
      authorities: [`clock=${url}/`],
      certificates: [{ name: 'clock', pem }],
    }),
  });
  const vkey = (await server.api('/api/v1/log')).body.vkey as string;
  other?.know(vkey);
  await live(server);

  const bundle = join(at, 'bundle.zip');
  writeFileSync(join(at, 'token'), server.admin);
  const iso = (time: number) => new Date(time).toISOString();
  const reach = ['--server', server.server.url, '--token-file', join(at, 'token')];
  const period = ['--from', iso(FROM), '--to', iso(TO)];
  const exported = await bootproof(
    'evidence',
    'export',
    ...reach,
    ...period,
    '--framework',
    'nist-800-53',
    '-o',
    bundle,
  );
  assert.equal(exported.status, 0, exported.out);

  const text = Buffer.from(ok('unzip', ['-p', bundle, 'VERIFY.md']), 'latin1').toString('utf8');
  const commands = (heading: string): string[] =>
    text
      .split(/^## /m)
      .find((one) => one.startsWith(heading))!
      .split('\n')
      .filter((line) => /^ {4}\S/.test(line))
      .map((line) => line.trim().replace(/ {2,}#.*$/, ''));
  const log = commands('The log');
  const stamp = log.findIndex((line) => line.startsWith('openssl ts'));
  log[stamp] = log[stamp]!.replace('NAME', 'clock').replace('THE-AUTHORITYS-CA.pem', '../ca.pem');
  const all = [...commands('With openssl, jq'), ...log];
  if (run('sh', ['-c', 'command -v cosign']).status === 0) {
    // First what makes its form of the statement, then the check.
    all.push(...commands('With cosign').reverse());
  } else t.diagnostic('cosign is not here, and did not judge it');
  const shell = run('bash', ['-euo', 'pipefail', '-c', all.join('\n')], { cwd: at });
  assert.equal(shell.status, 0, `${shell.stdout}\n${shell.stderr}`);
  assert.match(shell.stdout, /Signature Verified Successfully[^]*Verification: OK/);
  const fingerprint = /^([0-9a-f]{64}) {2}-$/m.exec(shell.stdout)![1]!;

  // The level that it states is the one that it has, for whoever trusts them.
  const trusted = {
    format: 'bootproof.trusted-root/1',
    keys: [fingerprint],
    logs: [vkey],
    witnesses: other === undefined ? [] : [other.vkey],
    tsas: [pem],
  };
  writeFileSync(join(at, 'trusted.json'), JSON.stringify(trusted));
  const statement = JSON.parse(readFileSync(join(at, 'statement.json'), 'utf8'));
  assert.equal(statement.predicate.head.log.level, 2);
  const judged = await bootproof(
    'evidence',
    'verify',
    bundle,
    '--trusted-root',
    join(at, 'trusted.json'),
    ...period,
    '--json',
  );
  const { steps, level, ok: holds } = JSON.parse(judged.out);
  assert.deepEqual(
    steps.filter((step: { ok: boolean }) => !step.ok),
    [],
  );
  assert.deepEqual([holds, level, judged.status], [true, 2, 0]);
  const detail = (check: string) => steps.find((step: { check: string }) => step.check === check)?.detail as string;
  assert.match(detail('timestamps'), /^Clock stamped /);
  if (other !== undefined) assert.match(detail('witness'), /^witness\.example\/lite saw it at /);
  const blind = await bootproof('evidence', 'verify', bundle, '--key', fingerprint, '--json');
  assert.equal(JSON.parse(blind.out).level, 0);
});
