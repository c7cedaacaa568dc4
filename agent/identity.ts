/** Who this host is: its key, and what enrolment told it. Two files, each whole or not there. */
import { z } from 'zod';
import { toBase64 } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { STATE_FILE_BYTES_MAX } from '#src/limits.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import { Time } from '#src/wire/answer.ts';
import { HostId } from '#src/wire/hostid.ts';
import { save, type Disk } from './disk.ts';

export class IdentityError extends BootproofError<
  'NOT_ENROLLED' | 'ALREADY_ENROLLED' | 'KEY_UNREADABLE' | 'KEY_EXPOSED' | 'IDENTITY_UNREADABLE'
> {}

export const KEY_FILE = 'host.key';
export const IDENTITY_FILE = 'identity.json';

export const Identity = z.strictObject({
  version: z.literal(1),
  host: HostId,
  /** The server's address at enrolment; settings go before it. Null for a host that was enrolled by file. */
  url: z.string().nullable(),
  /** The server's public key, pinned; null where the host was enrolled by file and the answer was not brought yet. */
  serverKey: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
  /** What a token named of the server whose answer is waited for; null without one. */
  serverFingerprint: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable()
    .optional(),
  publicKey: z.string().regex(/^[0-9a-f]{64}$/),
  enrolledAt: Time,
  /** What enrolment gave for the first report. */
  challenge: z.string().nullable(),
  manifestBearer: z.string().nullable(),
});
export type Identity = z.infer<typeof Identity>;

/** The host's key, or undefined before there is one. @throws {IdentityError} KEY_UNREADABLE, KEY_EXPOSED. */
export function readKey(disk: Disk, folder: string): Signer | undefined {
  const file = `${folder}/${KEY_FILE}`;
  const bytes = disk.read(file, STATE_FILE_BYTES_MAX);
  if (bytes === undefined) return undefined;
  // Who could read the key could have signed as this host.
  if (((disk.stat(file)?.mode ?? 0) & 0o077) !== 0)
    throw new IdentityError(
      'KEY_EXPOSED',
      `${file} can be read by others than its owner: enrol again with a new key (--again)`,
    );
  try {
    return nodeSigner(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new IdentityError('KEY_UNREADABLE', `${file} holds no Ed25519 key: enrol again with a new one (--again)`, {
      cause,
    });
  }
}

/** Makes the host's key of 32 random bytes: PKCS #8 in PEM, 0600. Durable before anything is signed with it. */
export function makeKey(disk: Disk, folder: string, seed: Uint8Array): Signer {
  disk.makeFolder(folder);
  const pem = `-----BEGIN PRIVATE KEY-----\n${toBase64(pkcs8OfSeed(seed))}\n-----END PRIVATE KEY-----\n`;
  save(disk, folder, KEY_FILE, Buffer.from(pem, 'latin1'), 0o600);
  return nodeSigner(pem);
}

/** Undefined before enrolment. @throws {IdentityError} IDENTITY_UNREADABLE. */
export function readIdentity(disk: Disk, folder: string): Identity | undefined {
  const bytes = disk.read(`${folder}/${IDENTITY_FILE}`, STATE_FILE_BYTES_MAX);
  if (bytes === undefined) return undefined;
  try {
    return Identity.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new IdentityError(
      'IDENTITY_UNREADABLE',
      `${folder}/${IDENTITY_FILE} is damaged: enrol again with the same key, or with a new one (--again)`,
      { cause },
    );
  }
}

export function saveIdentity(disk: Disk, folder: string, identity: Identity): void {
  save(disk, folder, IDENTITY_FILE, new TextEncoder().encode(`${JSON.stringify(identity, null, 2)}\n`));
}
