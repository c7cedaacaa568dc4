/**
 * What ostree and bootc leave below /run about the boot: /run/ostree-booted (libostree, otcore.h),
 * /run/ostree/staged-deployment (ostree-sysroot-deploy.c) and /run/composefs/staged-deployment (bootc, status.rs).
 */
import { z } from 'zod';
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { HOST_STATUS_BYTES_MAX } from '#src/limits.ts';
import { checkLength, DeploymentError } from './error.ts';
import { readDict, type Variant } from './gvariant.ts';
import { parseDeploymentPath } from './overlay.ts';

/** Written by ostree-prepare-root in the initramfs. Keys may be there and false; null where a key is absent. */
export type OstreeBooted = {
  readonly composefs: boolean | null;
  readonly verity: boolean | null;
  readonly transientRoot: boolean | null;
  /** The deployment's folder, as stat gives it. */
  readonly backing: { readonly device: bigint; readonly inode: bigint } | null;
};

/** @throws {DeploymentError} GVARIANT_SYNTAX, HOST_TEXT_TOO_LARGE */
export function parseOstreeBooted(bytes: Uint8Array): OstreeBooted {
  // Before 2023 the file was empty: it only had to be there.
  const dict = bytes.length === 0 ? new Map<string, Variant>() : readDict(bytes);
  const flag = (key: string): boolean | null => {
    const value = dict.get(key);
    return typeof value === 'boolean' ? value : null;
  };
  const pair = dict.get('backing-root-device-inode');
  const [device, inode] = Array.isArray(pair) ? (pair as Variant[]) : [];
  const transient = [flag('root.transient'), flag('root.transient-ro')];
  return {
    composefs: flag('composefs'),
    verity: flag('composefs.verity'),
    transientRoot: transient.includes(true) ? true : transient.includes(false) ? false : null,
    backing: typeof device === 'bigint' && typeof inode === 'bigint' ? { device, inode } : null,
  };
}

export type Staged = { readonly checksum: string; readonly serial: number | null; readonly stateroot: string | null };

/**
 * The deployment that ostree finalizes at shutdown; null where the file does not name one.
 * @throws {DeploymentError} GVARIANT_SYNTAX, HOST_TEXT_TOO_LARGE
 */
export function parseOstreeStaged(bytes: Uint8Array): Staged | null {
  const target: unknown = readDict(bytes).get('target');
  if (!(target instanceof Map)) return null;
  const path = parseDeploymentPath(`/ostree/deploy/${target.get('osname')}/deploy/${target.get('name')}`);
  return path?.backend === 'ostree' ? path : null;
}

const ComposefsStaged = z.looseObject({ depl_id: z.string().regex(/^(?:[0-9a-f]{64}|[0-9a-f]{128})$/) });

/** @throws {DeploymentError} BOOTC_STATUS_SYNTAX, HOST_TEXT_TOO_LARGE */
export function parseComposefsStaged(bytes: ByteString): Staged {
  checkLength('the staged deployment', bytes.length, HOST_STATUS_BYTES_MAX);
  try {
    const { depl_id: checksum } = ComposefsStaged.parse(JSON.parse(toUtf8(bytes) ?? ''));
    return { checksum, serial: null, stateroot: null };
  } catch (cause) {
    throw new DeploymentError('BOOTC_STATUS_SYNTAX', 'the staged deployment is not as bootc writes it', { cause });
  }
}
