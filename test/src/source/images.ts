/** Small images for tests: tars, layouts and their documents, made by hand so that each lie can be told on purpose. */
import { gzipSync } from 'node:zlib';
import { digestOf, type Digest } from '#src/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import { nodeSha256 } from '#src/source/verified.ts';

export type Member = {
  readonly name: string;
  readonly content?: string;
  readonly type?: string;
  readonly mode?: number;
  readonly owner?: readonly [uid: number, gid: number];
  readonly link?: string;
};

/** A ustar archive with its two zero blocks. */
export function tar(members: readonly Member[]): Uint8Array {
  const blocks: Buffer[] = [];
  for (const {
    name,
    content = '',
    type = name.endsWith('/') ? '5' : '0',
    mode = 0o644,
    owner = [0, 0],
    link = '',
  } of members) {
    const body = Buffer.from(content, 'latin1');
    const header = Buffer.alloc(512);
    header.write(name, 0, 100, 'latin1');
    const [mode8, uid8, gid8] = [mode, ...owner].map((value) => value.toString(8).padStart(7, '0'));
    header.write(`${mode8}\0${uid8}\0${gid8}\0`, 100);
    header.write(`${body.length.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0        ${type}`, 124, 'latin1');
    header.write(link, 157, 100, 'latin1');
    header.write('ustar\x0000', 257);
    let sum = 0;
    for (const byte of header) sum += byte;
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    blocks.push(header, body, Buffer.alloc((512 - (body.length % 512)) % 512));
  }
  return new Uint8Array(Buffer.concat([...blocks, Buffer.alloc(1024)]));
}

export type TestImage = {
  /** By `sha256:…`: layers, configuration, manifest, index. */
  readonly blobs: Map<string, Uint8Array>;
  readonly digest: Digest;
  readonly manifest: { schemaVersion: number; mediaType: string; config: Described; layers: Described[] };
};
type Described = { mediaType: string; digest: Digest; size: number };

/** What a bootable image needs least, and a file that says which image it is. */
export function members(mark: string): Member[] {
  return [
    { name: 'usr/', mode: 0o755 },
    { name: 'usr/mark', content: mark },
    { name: 'etc/', mode: 0o755 },
    { name: 'etc/mark', content: mark },
    { name: 'usr/lib/', mode: 0o755 },
    { name: 'usr/lib/modules/', mode: 0o755 },
    { name: 'usr/lib/modules/1/', mode: 0o755 },
    { name: 'usr/lib/modules/1/vmlinuz', content: 'kernel' },
    { name: 'usr/lib/modules/1/initramfs.img', content: 'initramfs' },
    { name: 'usr/lib/os-release', content: 'ID=test\n' },
  ];
}

/** An image of gzip layers. `configPatch` and `patch` go over the documents before they are hashed. */
export function image(
  layers: readonly (readonly Member[])[],
  { architecture = 'amd64', configPatch = {}, patch = (x: TestImage['manifest']): object => x } = {},
): TestImage {
  const blobs = new Map<string, Uint8Array>();
  const add = (bytes: Uint8Array, mediaType: string): Described => {
    const digest = digestOf(bytes, nodeSha256);
    blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const tars = layers.map(tar);
  const config = add(
    json({
      os: 'linux',
      architecture,
      config: { Labels: { test: '1' } },
      rootfs: { type: 'layers', diff_ids: tars.map((bytes) => digestOf(bytes, nodeSha256)) },
      ...configPatch,
    }),
    'application/vnd.oci.image.config.v1+json',
  );
  const manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config,
    layers: tars.map((bytes) => add(new Uint8Array(gzipSync(bytes)), 'application/vnd.oci.image.layer.v1.tar+gzip')),
  };
  return { blobs, manifest, digest: add(json(patch(manifest)), OCI_MANIFEST).digest };
}

/** An index over images, by platform; put into the first one's blobs. */
export function indexOf(
  entries: readonly { of: { digest: Digest; blobs: Map<string, Uint8Array> }; platform?: object; mediaType?: string }[],
) {
  const blobs = new Map(entries.flatMap(({ of }) => [...of.blobs]));
  const bytes = json({
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: entries.map(({ of, platform, mediaType = OCI_MANIFEST }) => ({
      mediaType,
      digest: of.digest,
      size: of.blobs.get(of.digest)!.length,
      ...(platform ? { platform } : {}),
    })),
  });
  const digest = digestOf(bytes, nodeSha256);
  blobs.set(digest, bytes);
  return { blobs, digest };
}

export function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}
