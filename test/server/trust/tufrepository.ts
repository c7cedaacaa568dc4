/** A TUF repository (TUF specification 1.0) on loopback, signed by Ed25519 keys of its own; what a real one does wrong it can do as well. */
import { generateKeyPairSync, hash, sign, type KeyObject } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { canonicalJson } from '#src/signing/canonical.ts';

const ROLES = ['root', 'timestamp', 'snapshot', 'targets'] as const;
type Role = (typeof ROLES)[number];
type Key = { readonly privateKey: KeyObject; readonly id: string; readonly json: object };

function makeKey(): Key {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const { x = '' } = publicKey.export({ format: 'jwk' });
  const json = {
    keytype: 'ed25519',
    scheme: 'ed25519',
    keyval: { public: Buffer.from(x, 'base64url').toString('hex') },
  };
  return { privateKey, json, id: hash('sha256', canonicalJson(json), 'hex') };
}

export type TufRepository = {
  readonly url: string;
  /** The first root.json. */
  readonly root: Uint8Array;
  /** Publishes a trusted_root.json under the next version; `expires`: of the timestamp. */
  publish(
    trustedRoot: Uint8Array,
    more?: { readonly expires?: string; readonly version?: number; readonly key?: Key },
  ): void;
  /** Answers 503 to everything. */
  down: boolean;
  readonly asked: string[];
  readonly makeKey: typeof makeKey;
};

export async function tufRepository(t: TestContext): Promise<TufRepository> {
  const keys = Object.fromEntries(ROLES.map((role) => [role, makeKey()])) as Record<Role, Key>;
  const files = new Map<string, Uint8Array>();
  let version = 0;
  const sealed = (role: Role, signed: object, { privateKey, id } = keys[role]): Uint8Array => {
    const signatures = [{ keyid: id, sig: sign(null, Buffer.from(canonicalJson(signed)), privateKey).toString('hex') }];
    return Buffer.from(JSON.stringify({ signed, signatures }));
  };
  const common = (role: Role, number: number, expires = '2999-01-01T00:00:00Z') => ({
    _type: role,
    spec_version: '1.0.31',
    version: number,
    expires,
  });
  const root = sealed('root', {
    ...common('root', 1),
    consistent_snapshot: false,
    keys: Object.fromEntries(ROLES.map((role) => [keys[role].id, keys[role].json])),
    roles: Object.fromEntries(ROLES.map((role) => [role, { keyids: [keys[role].id], threshold: 1 }])),
  });
  const repository = {
    url: '',
    root,
    down: false,
    asked: [] as string[],
    makeKey,
    publish: (
      trustedRoot: Uint8Array,
      more: { readonly expires?: string; readonly version?: number; readonly key?: Key } = {},
    ) => {
      version = more.version ?? version + 1;
      const about = (bytes: Uint8Array) => ({ length: bytes.length, hashes: { sha256: hash('sha256', bytes, 'hex') } });
      const targets = sealed('targets', {
        ...common('targets', version),
        targets: { 'trusted_root.json': about(trustedRoot) },
      });
      const meta = (file: string, bytes: Uint8Array) => ({ meta: { [file]: { version, ...about(bytes) } } });
      const snapshot = sealed('snapshot', { ...common('snapshot', version), ...meta('targets.json', targets) });
      const timestamp = { ...common('timestamp', version, more.expires), ...meta('snapshot.json', snapshot) };
      files.set('/timestamp.json', sealed('timestamp', timestamp, more.key));
      files.set('/snapshot.json', snapshot);
      files.set('/targets.json', targets);
      files.set('/targets/trusted_root.json', trustedRoot);
    },
  };
  const server = createServer((request, answer) => {
    const path = request.url ?? '';
    repository.asked.push(path);
    const bytes = repository.down ? undefined : files.get(path);
    answer.writeHead(repository.down ? 503 : bytes === undefined ? 404 : 200);
    answer.end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())));
  return Object.assign(repository, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}
