/** The manifest bench: one big gzip layer, read by our builder and by decompressors with the two digests that any reader needs. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { alternate, table } from './measure.ts';

/** Packs this machine's /usr/lib, up to about 600 MB, into an image of one layer. */
export async function benchManifest(folder: string, rounds: number): Promise<string> {
  const layout = join(folder, 'layout');
  const blobs = join(layout, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const tar = join(folder, 'layer.tar');
  // A parent entry for every path: real layers have them, and without them the builder only warns.
  const list = `find usr/lib -xdev \\( -type d -o -type f -size -20000k -o -type l \\) | sort`;
  execFileSync('sh', [
    '-c',
    `cd / && { echo usr; ${list}; } | head -n 40000 | tar --no-recursion -cf ${tar} -T - --owner=0 --group=0`,
  ]);
  execFileSync('sh', ['-c', `gzip -6 -k -f ${tar}`]);
  const add = (bytes: Buffer) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (value: unknown) => add(Buffer.from(JSON.stringify(value)));
  const layer = add(readFileSync(`${tar}.gz`));
  const diffId = `sha256:${execFileSync('sha256sum', [tar]).toString().slice(0, 64)}`;
  const config = json({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [diffId] },
    config: {},
  });
  const media = 'application/vnd.oci.image';
  const manifest = json({
    schemaVersion: 2,
    mediaType: `${media}.manifest.v1+json`,
    config: { mediaType: `${media}.config.v1+json`, ...config },
    layers: [{ mediaType: `${media}.layer.v1.tar+gzip`, ...layer }],
  });
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        {
          mediaType: `${media}.manifest.v1+json`,
          ...manifest,
          annotations: { 'org.opencontainers.image.ref.name': 'latest' },
        },
      ],
    }),
  );
  const blob = join(blobs, layer.digest.slice(7));
  const two = (decompress: string) => `sha256sum ${blob} & ${decompress} < ${blob} | sha256sum; wait`;
  const ours = 'bootproof manifest build';
  const commands = new Map([[ours, `./bootproof manifest build oci:${layout}:latest --backend ostree --format mtree`]]);
  for (const [program, name] of [
    ['igzip', 'igzip -dc, sha256sum of both'],
    ['pigz', 'pigz -dc, sha256sum of both'],
    ['gunzip', 'gunzip -c, sha256sum of both'],
  ] as const)
    if (has(program))
      commands.set(name, two(program === 'igzip' ? 'igzip -d -c' : program === 'pigz' ? 'pigz -dc' : 'gunzip -c'));
  const figures = await alternate(commands, rounds);
  const paths = execFileSync('sh', ['-c', `tar -tf ${tar} | wc -l`])
    .toString()
    .trim();
  return `## Manifest\n\nOne gzip layer, ${(statSync(tar).size / 1e6).toFixed(0)} MB of tar in ${(layer.size / 1e6).toFixed(0)} MB, ${paths} paths, ${rounds} rounds in turn. The rivals decompress and make the two digests of the layer; ours makes them too, and that of each file.\n\n${table(figures, ours)}`;
}

function has(program: string): boolean {
  try {
    return execFileSync('sh', ['-c', `command -v ${program}`]).length > 0;
  } catch {
    return false; // `command -v` answers by its exit code
  }
}
