/**
 * Bundle verification as sigstore-conformance asks for it: `verify-bundle --bundle F (--certificate-identity I --certificate-oidc-issuer U | --key K)
 * [--trusted-root F] FILE_OR_DIGEST`. It signs nothing, and knows no staging instance.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { isDigest } from '../../src/digest.ts';
import { BootproofError } from '../../src/error.ts';
import { bundleFile } from '../../src/trust/bundle.ts';
import { isMaterial } from '../../src/trust/material.ts';
import type { Authority, What } from '../../src/trust/requirement.ts';
import { fileTarget, imageTarget } from '../../src/trust/target.ts';
import { readTrustRoot } from '../../src/trust/trustroot.ts';
import { verifySignature } from '../../src/trust/verify.ts';

const PUBLIC_GOOD = join(import.meta.dirname, '../vectors/conformance/trusted_root.public-good.json');
const USAGE = 64;

function main(args: string[]): number {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      bundle: { type: 'string' },
      'certificate-identity': { type: 'string' },
      'certificate-oidc-issuer': { type: 'string' },
      key: { type: 'string' },
      'trusted-root': { type: 'string', default: PUBLIC_GOOD },
    },
  });
  const [command, artifact] = positionals;
  const { bundle, key, 'certificate-identity': subject, 'certificate-oidc-issuer': issuer } = values;
  if (command !== 'verify-bundle' || bundle === undefined || artifact === undefined) return USAGE;
  let authority: Authority;
  if (key !== undefined)
    authority = {
      kind: 'key',
      keys: [readFileSync(key, 'utf8')],
      hashAlgorithm: 'sha256',
      tlog: 'root',
      tsa: undefined,
    };
  else if (subject !== undefined && issuer !== undefined)
    authority = {
      kind: 'keyless',
      identities: [{ issuer: { exact: issuer }, subject: { exact: subject } }],
      trustRoot: 'root',
      tlog: true,
      tsa: false,
      sct: true,
    };
  else return USAGE;
  const entity = bundleFile(new Uint8Array(readFileSync(bundle)), bundle);
  // The suite asks for no predicate: whatever the statement says of itself.
  const what: What =
    isMaterial(entity.content) && entity.content.signed.kind === 'statement'
      ? { kind: 'attestation', predicateType: entity.content.signed.statement.predicateType }
      : { kind: 'signature' };
  const target = isDigest(artifact)
    ? imageTarget({ digest: artifact })
    : fileTarget(new Uint8Array(readFileSync(artifact)));
  const root = readTrustRoot('root', new Uint8Array(readFileSync(values['trusted-root'])));
  const outcome = verifySignature(
    entity,
    { what, authority },
    { target, roots: new Map([['root', root]]), deny: [], now: Date.now() },
  );
  console.log(outcome.kind === 'verified' ? 'verified' : `${outcome.code}: ${outcome.message}`);
  return outcome.kind === 'verified' ? 0 : 1;
}

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BootproofError)) throw error;
  console.log(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
