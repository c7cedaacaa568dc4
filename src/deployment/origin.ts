/**
 * `.origin` files: GLib key files beside each deployment (ostree: deploy/CHECKSUM.SERIAL.origin; bootc's composefs backend:
 * state/deploy/VERITY/VERITY.origin). Root can edit them: what stands here is a claim, the commit's metadata are another.
 */
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { ORIGIN_BYTES_MAX } from '#src/limits.ts';
import { checkLength, DeploymentError } from './error.ts';

/** Where an image is pulled from, in bootc's words. */
export type ImageSource = {
  readonly reference: string;
  /** `registry`, `containers-storage`, `oci` … as `bootc status` names them. */
  readonly transport: string;
  /** `containerPolicy` or `ostreeRemote:NAME`; null where the origin demands nothing beyond the host's policy.json. */
  readonly signature: string | null;
};

export type Origin = {
  /** Null for a plain ostree ref, and where the reference is in no form that ostree-ext knows. */
  readonly image: ImageSource | null;
  /** As written, for messages. */
  readonly imageText: string | null;
  /** A plain ostree ref, where no image is tracked. */
  readonly refspec: string | null;
  /** `hotfix`, or what else `ostree admin unlock` may write one day. */
  readonly unlocked: string | null;
  readonly pinned: boolean;
  /** What rpm-ostree was asked to put on top. */
  readonly layered: readonly string[];
  /** A group of rpm-ostree's is there: bootc then calls the deployment incompatible and names no image. */
  readonly rpmOstree: boolean;
  /** `[image] manifest_digest`, written by bootc from 1.16 on for composefs deployments. */
  readonly manifestDigest: string | null;
  /** `[boot] boot_type` and `digest` of a composefs deployment. */
  readonly bootType: string | null;
  readonly bootDigest: string | null;
};

type KeyFile = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** bootc, utils.rs origin_has_rpmostree_stuff. */
const RPMOSTREE_GROUPS = ['rpmostree', 'packages', 'overrides', 'modules'];

/**
 * @throws {DeploymentError} ORIGIN_SYNTAX with the line, HOST_TEXT_TOO_LARGE
 */
export function parseOrigin(bytes: ByteString): Origin {
  const file = parseKeyFile(bytes);
  const value = (group: string, key: string): string | null => file.get(group)?.get(key) ?? null;
  const imageText = value('origin', 'container-image-reference');
  return {
    image: imageText === null ? null : parseImageSource(imageText),
    imageText,
    refspec: value('origin', 'refspec') ?? value('origin', 'baserefspec'),
    unlocked: value('origin', 'unlocked'),
    pinned: value('libostree-transient', 'pinned') === 'true',
    layered: layeredOf(file),
    rpmOstree: RPMOSTREE_GROUPS.some((group) => file.has(group)),
    manifestDigest: value('image', 'manifest_digest'),
    bootType: value('boot', 'boot_type'),
    bootDigest: value('boot', 'digest'),
  };
}

/** GKeyFile's rules: white space around names is dropped, a later key wins, groups of one name are one. */
function parseKeyFile(bytes: ByteString): KeyFile {
  checkLength('an origin file', bytes.length, ORIGIN_BYTES_MAX);
  const text = toUtf8(bytes);
  if (text === undefined) throw new DeploymentError('ORIGIN_SYNTAX', 'an origin file that is not UTF-8');
  const file = new Map<string, Map<string, string>>();
  let group: Map<string, string> | undefined;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const equals = line.indexOf('=');
    if (line.startsWith('[') && line.endsWith(']')) {
      const name = line.slice(1, -1);
      group = file.get(name) ?? new Map();
      file.set(name, group);
    } else if (group !== undefined && equals > 0) {
      group.set(line.slice(0, equals).trimEnd(), unescape(line.slice(equals + 1).trimStart()));
    } else {
      throw new DeploymentError('ORIGIN_SYNTAX', `line ${index + 1} of the origin file is neither group nor key`);
    }
  }
  return file;
}

const ESCAPES: Readonly<Record<string, string>> = { s: ' ', n: '\n', t: '\t', r: '\r', '\\': '\\' };

function unescape(value: string): string {
  return value.replace(/\\([sntr\\])/g, (_, char: string) => ESCAPES[char]!);
}

function list(value: string | undefined): string[] {
  return (value ?? '').split(';').filter((item) => item !== '');
}

/** rpm-ostree, origin.rs: what each group asks for, in the words that `src/deployment/rpmostree.ts` uses too. */
function layeredOf(file: KeyFile): string[] {
  const get = (group: string, key: string) => list(file.get(group)?.get(key));
  const flag = (group: string, key: string) => file.get(group)?.get(key) === 'true';
  return [
    ...get('packages', 'requested').map((name) => `package ${name}`),
    ...get('packages', 'requested-local').map((name) => `local package ${withoutDigest(name)}`),
    ...get('packages', 'requested-local-fileoverride').map((name) => `local package ${withoutDigest(name)}`),
    ...get('overrides', 'remove').map((name) => `removed ${name}`),
    ...get('overrides', 'replace-local').map((name) => `replaced ${withoutDigest(name)}`),
    ...get('overrides', 'replace').map((name) => `replaced ${name}`),
    ...get('modules', 'enable').map((name) => `module ${name}`),
    ...get('modules', 'install').map((name) => `module ${name}`),
    ...get('rpmostree', 'initramfs-etc').map((path) => `initramfs with ${path}`),
    ...(flag('rpmostree', 'regenerate-initramfs') ? ['initramfs made on the host'] : []),
  ];
}

/** Local packages are written `sha256:NEVRA`. */
function withoutDigest(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

/**
 * `container-image-reference` (ostree-ext, container/mod.rs OstreeImageReference); null for what it would not read either.
 */
export function parseImageSource(text: string): ImageSource | null {
  const [scheme, rest] = cut(text);
  switch (scheme) {
    case 'ostree-unverified-registry':
      return rest === '' ? null : { reference: rest, transport: 'registry', signature: null };
    case 'ostree-unverified-image':
      return withTransport(rest, null);
    case 'ostree-image-signed':
      return withTransport(rest, 'containerPolicy');
    case 'ostree-remote-registry':
    case 'ostree-remote-image': {
      const [remote, reference] = cut(rest);
      if (remote === '') return null;
      const signature = `ostreeRemote:${remote}`;
      if (scheme === 'ostree-remote-image') return withTransport(reference, signature);
      return reference === '' ? null : { reference, transport: 'registry', signature };
    }
    default:
      return null;
  }
}

function withTransport(text: string, signature: string | null): ImageSource | null {
  const [transport, rest] = cut(text);
  const registry = transport === 'docker' || transport === 'registry';
  const reference = registry && rest.startsWith('//') ? rest.slice(2) : rest;
  if (reference === '' || transport === '') return null;
  return { reference, transport: registry ? 'registry' : transport, signature };
}

function cut(text: string): readonly [head: string, rest: string] {
  const colon = text.indexOf(':');
  return colon < 0 ? ['', text] : [text.slice(0, colon), text.slice(colon + 1)];
}
