/**
 * The demo's images: real files of this very machine, packed into OCI layers with what makes layers hard: whiteouts, an opaque folder, hard
 * links, a setuid file, a file capability. What a host must then show is worked out from the same list, apart from the code it tests.
 */
import { hash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { Agent, fetch, type Response } from 'undici';
import type { Digest, Sha256 } from '#src/digest.ts';
import { digestOf } from '#src/digest.ts';
import { tarChunks, type TarItem } from './tar.ts';

/** OpenSSL's SHA-256: the portable one is too slow for whole layers. */
export const nodeSha256: Sha256 = (data) => hash('sha256', data, 'hex');

/** What this user may do to files; as an ordinary user images and hosts belong to that user, without capabilities. */
export type Privileges = {
  readonly uid: number;
  readonly gid: number;
  readonly chown: boolean;
  readonly capability: boolean;
};

/** cap_net_raw=ep, version 2 (linux/capability.h, struct vfs_cap_data). */
export const CAP_NET_RAW = Uint8Array.from(Buffer.from('0100000200200000000000000000000000000000', 'hex'));

const FILE_BYTES_MAX = 1_500_000;
const TOTAL_BYTES_MAX = 24_000_000;
const PROGRAMS =
  'bash cat chmod cp cut date dd df env find grep gzip head id ln ls mkdir mktemp mount mv nproc od ps pwd readlink rm sed sh sleep sort stat su tail tar tee test tr true umount uname wc xargs'.split(
    ' ',
  );
// Where a library lies differs from one distribution to the next.
const LIBRARY_FOLDERS = ['/usr/lib64', `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`];
const LIBRARY =
  /^lib(?:c|m|z|dl|rt|pthread|resolv|selinux|acl|attr|cap|pcre2-8|lzma|bz2|gcc_s|zstd|crypt|blkid|mount|uuid|tinfo|readline)\.so(?:\.\d+)*$/;
const ETC =
  'bash.bashrc bashrc debian_version redhat-release environment gai.conf host.conf hosts inputrc issue ld.so.conf login.defs networks nsswitch.conf os-release profile protocols rpc services shells xattr.conf'.split(
    ' ',
  );

const CONTENTS = ['/etc/ssh/sshd_config', '/etc/ssh/sshd_config.d/*.conf', '/etc/sudoers.d/*', '/etc/locale.conf'];

export type Layer = { readonly about: string; readonly items: readonly TarItem[] };

/** The layers of one image, lowest first. */
export function demoLayers(who: Privileges): Layer[] {
  const owner = { uid: who.chown ? 0 : who.uid, gid: who.chown ? 0 : who.gid };
  const dir = (path: string, mode = 0o755): TarItem => ({ path, type: 'dir', mode, ...owner });
  const file = (path: string, content: string | Uint8Array, mode = 0o644): TarItem => ({
    path,
    type: 'file',
    mode,
    ...owner,
    content: typeof content === 'string' ? Buffer.from(content) : content,
  });
  const link = (path: string, target: string): TarItem => ({
    path,
    type: 'symlink',
    mode: 0o777,
    ...owner,
    link: target,
  });
  const hard = (path: string, target: string): TarItem => ({
    path,
    type: 'hardlink',
    mode: 0o755,
    ...owner,
    link: target,
  });

  const real = realFiles();
  const tool = real.find(({ path }) => path === 'usr/bin/cat') ?? real[0];
  if (tool === undefined) throw new Error('no readable file under /usr/bin: the demo packs real files of this machine');
  const folders = [...new Set(real.flatMap(({ path }) => parents(path)))];
  const fixed = [
    'usr/share/demo',
    'usr/share/demo/old',
    'etc/conf.d',
    'etc/ssh',
    'usr/lib/bootproof',
    'usr/lib',
    'usr/bin',
    'usr',
    'etc',
    'usr/share',
  ];
  const base: Layer = {
    about: 'base',
    items: [
      dir('.'),
      ...[...new Set([...fixed, ...folders])].sort().map((path) => dir(path)),
      ...real.map((item): TarItem =>
        item.link === undefined ? file(item.path, item.content, item.mode) : link(item.path, item.link),
      ),
      file('usr/lib/libdemo.so.1', `\x7fELF stand-in library ${'.'.repeat(400)}\n`, 0o755),
      // Whose content the hosts of this image may tell of where it differs.
      file('usr/lib/bootproof/agent.json', `${JSON.stringify({ contents: CONTENTS })}\n`),
      file('usr/lib/libobsolete.so.0', 'removed by the next layer\n'),
      file('usr/share/demo/old/a', 'hidden by an opaque folder\n'),
      file('etc/conf.d/10-site.conf', 'color = blue\n'),
      file('etc/conf.d/obsolete.conf', 'removed by the next layer\n'),
      file('etc/ssh/sshd_config', 'PermitRootLogin no\nPasswordAuthentication no\n', 0o600),
      file('etc/shadow', 'root:*::0:99999:7:::\n', 0o600),
      file('etc/passwd', 'root:x:0:0:root:/root:/bin/bash\n'),
      file('etc/motd', 'Welcome.\n'),
    ],
  };
  const app: Layer = {
    about: 'application: hard links, a setuid file, a capability, whiteouts',
    items: [
      dir('usr'),
      dir('usr/bin'),
      { ...file('usr/bin/netprobe', tool.content, 0o755), ...(who.capability ? { capability: CAP_NET_RAW } : {}) },
      hard('usr/bin/netprobe6', 'usr/bin/netprobe'),
      file('usr/bin/elevate', tool.content, 0o4755),
      dir('usr/lib'),
      file('usr/lib/.wh.libobsolete.so.0', ''),
      dir('usr/share'),
      dir('usr/share/demo'),
      dir('usr/share/demo/old'),
      file('usr/share/demo/old/.wh..wh..opq', ''),
      file('usr/share/demo/old/b', 'what the opaque folder holds now\n'),
    ],
  };
  const config: Layer = {
    about: 'configuration',
    items: [
      dir('etc'),
      dir('etc/conf.d'),
      file('etc/conf.d/.wh.obsolete.conf', ''),
      file('etc/conf.d/20-app.conf', 'workers = 2\n'),
      link('etc/localtime', '../usr/share/zoneinfo/UTC'),
    ],
  };
  return [base, app, config];
}

type RealFile = { readonly path: string; readonly mode: number; readonly content: Uint8Array; readonly link?: string };

/** Readable files of this machine, small and few enough for a demo; what this user may not read is left out. */
function realFiles(): RealFile[] {
  const wanted = PROGRAMS.map((name) => `/usr/bin/${name}`);
  for (const folder of LIBRARY_FOLDERS)
    wanted.push(
      ...names(folder)
        .filter((name) => LIBRARY.test(name))
        .map((name) => `${folder}/${name}`),
    );
  wanted.push(
    '/usr/lib/os-release',
    ...ETC.map((name) => `/etc/${name}`),
    ...names('/etc/profile.d').map((name) => `/etc/profile.d/${name}`),
  );
  const found: RealFile[] = [];
  let total = 0;
  for (const path of wanted) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    const common = { path: path.slice(1), mode: stat.mode & 0o777 };
    if (stat.isSymbolicLink()) found.push({ ...common, content: new Uint8Array(), link: readlinkSync(path, 'latin1') });
    if (!stat.isFile() || stat.size > FILE_BYTES_MAX || total + stat.size > TOTAL_BYTES_MAX) continue;
    const content = readable(path);
    if (content === undefined) continue;
    found.push({ ...common, content });
    total += content.length;
  }
  return found;
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function readable(path: string): Uint8Array | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return undefined; // an ordinary user's demo goes without it
    throw error;
  }
}

function parents(path: string): string[] {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}

/** What the layers leave, by path: the demo's own small model of an overlay, for layers that hold no surprises. */
export function flatten(layers: readonly Layer[]): Map<string, TarItem> {
  const tree = new Map<string, TarItem>();
  const drop = (path: string) => {
    for (const other of tree.keys()) if (other === path || other.startsWith(`${path}/`)) tree.delete(other);
  };
  for (const { items } of layers) {
    for (const { path } of items) {
      const [, folder = '', name = ''] = /^(.*)\/\.wh\.(.*)$/.exec(path) ?? [];
      if (name === '.wh..opq') for (const other of tree.keys()) if (other.startsWith(`${folder}/`)) tree.delete(other);
      if (name !== '' && name !== '.wh..opq') drop(`${folder}/${name}`);
    }
    for (const item of items) {
      if (/(?:^|\/)\.wh\./.test(item.path)) continue;
      const { link: _, ...rest } = item;
      if (item.type === 'hardlink') tree.set(item.path, { ...tree.get(item.link!)!, path: item.path });
      else tree.set(item.path, item.type === 'symlink' ? item : rest);
    }
  }
  return tree;
}

/** An image as it is pushed: blobs by digest, and the manifest. */
export type PackedImage = {
  readonly digest: Digest;
  readonly manifest: Uint8Array;
  readonly blobs: ReadonlyMap<Digest, Uint8Array>;
};

const MEDIA = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;

type PackedLayer = { readonly diffId: Digest; readonly gzip: Uint8Array };
const packedLayers = new WeakMap<readonly Layer[], readonly PackedLayer[]>();
/** Several versions have the same layers: they are packed once. */
function packLayers(layers: readonly Layer[]): readonly PackedLayer[] {
  let packed = packedLayers.get(layers);
  if (packed === undefined) {
    packed = layers.map(({ items }) => {
      const tar = Buffer.concat([...tarChunks(items)]);
      return { diffId: digestOf(tar, nodeSha256), gzip: gzipSync(tar, { level: 6 }) };
    });
    packedLayers.set(layers, packed);
  }
  return packed;
}

/** Packs layers into an OCI image (image-spec 1.1); the same layers give the same digest. */
export function packImage(layers: readonly Layer[], version: string): PackedImage {
  const blobs = new Map<Digest, Uint8Array>();
  const add = (mediaType: string, bytes: Uint8Array) => {
    const digest = digestOf(bytes, nodeSha256);
    blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const packed = packLayers(layers);
  const descriptors = packed.map(({ gzip }) => add(MEDIA.layer, gzip));
  const config = {
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: { Labels: { 'containers.bootc': '1', 'org.opencontainers.image.version': version } },
    rootfs: { type: 'layers', diff_ids: packed.map(({ diffId }) => diffId) },
    history: layers.map(({ about }) => ({ created_by: about })),
  };
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: add(MEDIA.config, Buffer.from(JSON.stringify(config))),
      layers: descriptors,
    }),
  );
  return { digest: digestOf(manifest, nodeSha256), manifest, blobs };
}

/**
 * A connection for each request: while the demo makes keys and certificates, nothing else runs here, and a connection that was kept is then one
 * that the registry has long closed.
 */
const ONCE = new Agent({ pipelining: 0 });

/** Pushes as any client does: each blob in one request, then the manifest under its tag (distribution-spec, "Push"). */
export async function push(image: PackedImage, registry: string, name: string, tag: string): Promise<void> {
  for (const [digest, bytes] of image.blobs) {
    const start = await expectStatus(
      fetch(`http://${registry}/v2/${name}/blobs/uploads/`, { method: 'POST', dispatcher: ONCE }),
      202,
    );
    const location = new URL(start.headers.get('location') ?? '', `http://${registry}`);
    location.searchParams.set('digest', digest);
    await expectStatus(fetch(location, { method: 'PUT', body: bytes, dispatcher: ONCE }), 201);
  }
  const put = fetch(`http://${registry}/v2/${name}/manifests/${tag}`, {
    method: 'PUT',
    headers: { 'content-type': MEDIA.manifest },
    body: image.manifest,
    dispatcher: ONCE,
  });
  await expectStatus(put, 201);
}

/** Bytes of a manifest that a registry has. */
export async function manifestSize(registry: string, name: string, reference: string): Promise<number> {
  const url = `http://${registry}/v2/${name}/manifests/${reference}`;
  const { headers } = await expectStatus(fetch(url, { method: 'HEAD', dispatcher: ONCE }), 200);
  return Number(headers.get('content-length'));
}

async function expectStatus(pending: Promise<Response>, status: number): Promise<Response> {
  const response = await pending;
  if (response.status !== status)
    throw new Error(`registry: ${response.url} answered ${response.status}, not ${status}: ${await response.text()}`);
  await response.arrayBuffer();
  return response;
}
