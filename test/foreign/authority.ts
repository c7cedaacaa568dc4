/** A timestamp authority of OpenSSL's, with a key of any kind and a certificate above it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ok } from './tools.ts';

export const KEYS = {
  RSA: ['rsa:2048'],
  'the curve P-384': ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'],
} as const;

/** In a folder of its own. */
export function authority(at: string, key: readonly string[]) {
  const openssl = (...args: string[]) => ok('openssl', args, { cwd: at });
  const make = ['req', '-newkey', ...key, '-nodes', '-days', '30'];
  openssl(
    ...make,
    '-x509',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-subj',
    '/CN=Root',
    '-addext',
    'basicConstraints=critical,CA:true',
  );
  openssl(...make, '-new', '-keyout', 'tsa.key', '-out', 'tsa.csr', '-subj', '/CN=Clock');
  writeFileSync(join(at, 'ext'), 'keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n');
  openssl(
    'x509',
    '-req',
    '-in',
    'tsa.csr',
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-set_serial',
    '7',
    '-days',
    '30',
    '-extfile',
    'ext',
    '-out',
    'tsa.pem',
  );
  writeFileSync(join(at, 'serial'), '01\n');
  writeFileSync(
    join(at, 'tsa.cnf'),
    '[tsa]\nserial=serial\nsigner_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256\naccuracy=secs:1\ness_cert_id_alg=sha256\n',
  );
  const answer = (query: Buffer) => {
    writeFileSync(join(at, 'query'), query);
    openssl(
      'ts',
      '-reply',
      '-config',
      'tsa.cnf',
      '-section',
      'tsa',
      '-queryfile',
      'query',
      '-signer',
      'tsa.pem',
      '-inkey',
      'tsa.key',
      '-out',
      'reply',
    );
    return { status: 200, type: 'application/timestamp-reply', body: readFileSync(join(at, 'reply')) };
  };
  return { answer, pem: readFileSync(join(at, 'ca.pem'), 'utf8') };
}
