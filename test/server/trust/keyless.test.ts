/** A keyless signature that the real cosign made, through the server: which identity, which certificate, which log entry, when, under which root. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assessHere } from '#server/trust/assesshere.ts';
import { caseOf, NOW, vectors } from '#test/src/trust/cases.ts';
import { enrol, image, serverFor } from '../fleet.ts';
import { keylessSetup } from './site.ts';

const CASE = caseOf('v-bundle-keyless-rekor2');
const { identity, digest, layout, reference } = { ...CASE, ...CASE.check };

const setup = (roots: boolean, subject = identity!.subject) =>
  keylessSetup(
    { issuer: identity!.issuer, subject },
    roots ? [readFileSync(join(vectors, 'trust/trusted_root.json'))] : [],
  );

for (const [what, trust, state] of [
  ['the proof names everything', setup(true), 'trusted'],
  ['another identity is rejected, with both shown', setup(true, 'https://github.com/acme/other'), 'rejected'],
  ['without the trust root nobody can tell', setup(false), 'unverifiable'],
] as const)
  test(`${what}: ${state}`, async (t) => {
    const source = `oci:${join(vectors, layout)}`;
    const os = { ...image('keyless', undefined, { source }), digest };
    const server = await serverFor(t, { images: [os], trust, assess: assessHere, sources: [{ reference: source }] });
    server.time.now = NOW;
    const host = await enrol(server, os);
    host.reference = reference!;
    host.compareWith(os);
    await host.sendFull();
    await server.settle();
    const told = await host.told();
    assert.equal(told.provenance.state, state, JSON.stringify(told.provenance));
    const { body } = await server.api(`/api/v1/images/${digest}/trust`);
    const [authority] = body.policies[0].authorities;
    if (state === 'trusted') {
      const [proof] = authority.proofs;
      assert.equal(proof.subject, identity!.subject);
      assert.equal(proof.issuer, identity!.issuer);
      assert.equal(told.provenance.by, `${identity!.subject} (${identity!.issuer})`);
      assert.match(proof.serial, /^[0-9a-f]+$/);
      assert.ok(Buffer.from(proof.certificate, 'base64').length > 300);
      assert.match(proof.entries[0].logIndex, /^[0-9]+$/);
      assert.match(proof.times[0].at, /^2026-11-/);
      assert.equal(proof.roots[0].name, 'test');
      assert.equal(proof.signs, digest);
    } else if (state === 'rejected') {
      assert.equal(authority.code, 'WRONG_IDENTITY');
      assert.ok(authority.reason.includes(identity!.subject) && authority.reason.includes('acme/other'));
    } else assert.equal(authority.code, 'NO_TRUST_ROOT');
  });
