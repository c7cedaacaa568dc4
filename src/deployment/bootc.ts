/**
 * `bootc status --format=json --format-version=1` (bootc, crates/lib/src/spec.rs), of every bootc from 0.1 on: fields came one
 * by one, so every one is optional, and what is not known here is kept.
 */
import { z } from 'zod';
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { HOST_STATUS_BYTES_MAX } from '#src/limits.ts';
import { checkLength, DeploymentError } from './error.ts';

const Text = z.string().max(4096).nullish();
const Flag = z.boolean().nullish();

const ImageReference = z.looseObject({
  image: Text,
  transport: Text,
  /** Omitted where nothing is demanded; `insecure` only in old documents. */
  signature: z.union([z.string().max(4096), z.looseObject({ ostreeRemote: Text })]).nullish(),
});

const ImageStatus = z.looseObject({
  image: ImageReference.nullish(),
  /** Of the manifest for this architecture; on old composefs hosts a config digest or bare hex. */
  imageDigest: Text,
  version: Text,
  timestamp: Text,
  architecture: Text,
});
export type BootcImage = z.infer<typeof ImageStatus>;

const BootEntry = z.looseObject({
  /** Null where rpm-ostree layered something (`incompatible`), and for plain ostree refs. */
  image: ImageStatus.nullish(),
  cachedUpdate: ImageStatus.nullish(),
  incompatible: Flag,
  pinned: Flag,
  ostree: z.looseObject({ stateroot: Text, checksum: Text, deploySerial: z.number().nullish() }).nullish(),
  composefs: z.looseObject({ verity: Text, bootType: Text, missingVerityAllowed: Flag }).nullish(),
});
export type BootcEntry = z.infer<typeof BootEntry>;

const Host = z.looseObject({
  status: z.looseObject({
    staged: BootEntry.nullish(),
    booted: BootEntry.nullish(),
    rollback: BootEntry.nullish(),
    otherDeployments: z.array(BootEntry).max(1000).nullish(),
    rollbackQueued: Flag,
    /** libostree's unlocked state; on the composefs backend any mount at /usr, a sysext too. */
    usrOverlay: z.looseObject({ accessMode: Text, persistence: Text }).nullish(),
  }),
});
export type BootcStatus = z.infer<typeof Host>['status'];

const Kind = z.looseObject({ apiVersion: z.string().max(100), kind: z.string().max(100) });

/**
 * The status of the whole host.
 * @throws {DeploymentError} BOOTC_STATUS_YAML for the default output, BOOTC_STATUS_VERSION for another API than v1 and v1alpha1,
 *   BOOTC_STATUS_SYNTAX for anything else, HOST_TEXT_TOO_LARGE
 */
export function parseBootcStatus(bytes: ByteString): BootcStatus {
  checkLength("bootc's status", bytes.length, HOST_STATUS_BYTES_MAX);
  let json: unknown;
  try {
    json = JSON.parse(toUtf8(bytes) ?? '');
  } catch (cause) {
    // Without --format bootc writes YAML to whatever is no terminal.
    if (/^(?:---\s|apiVersion:|kind:|spec:|status:)/m.test(bytes.slice(0, 4096)))
      throw new DeploymentError(
        'BOOTC_STATUS_YAML',
        'this is the YAML output of bootc: use bootc status --format=json --format-version=1',
        { cause },
      );
    throw new DeploymentError('BOOTC_STATUS_SYNTAX', "bootc's status is not JSON", { cause });
  }
  const kind = Kind.safeParse(json);
  if (!kind.success || kind.data.kind !== 'BootcHost')
    throw new DeploymentError('BOOTC_STATUS_SYNTAX', 'not the status of a bootc host: kind is not BootcHost');
  if (!/^org\.containers\.bootc\/v1(?:alpha1|beta1)?$/.test(kind.data.apiVersion))
    throw new DeploymentError(
      'BOOTC_STATUS_VERSION',
      `bootc's status has apiVersion ${JSON.stringify(kind.data.apiVersion)}; only org.containers.bootc/v1 is known`,
    );
  const host = Host.safeParse(json);
  if (host.success) return host.data.status;
  const [issue] = host.error.issues;
  throw new DeploymentError(
    'BOOTC_STATUS_SYNTAX',
    `bootc's status is not as its schema says: ${issue?.path.join('.')}: ${issue?.message}`,
    { cause: host.error },
  );
}

/** `containerPolicy`, `insecure` or `ostreeRemote:NAME`; null where nothing is demanded. */
export function signatureOf(image: BootcImage): string | null {
  const signature = image.image?.signature;
  if (signature === null || signature === undefined) return null;
  if (typeof signature === 'string') return signature;
  return typeof signature.ostreeRemote === 'string' ? `ostreeRemote:${signature.ostreeRemote}` : 'unknown';
}
