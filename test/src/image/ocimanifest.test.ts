import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  choosePlatform,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  formatPlatform,
  OCI_INDEX,
  OCI_MANIFEST,
  OciManifestError,
  parseConfig,
  parseManifest,
  parsePlatform,
  type IndexEntry,
} from '#src/image/ocimanifest.ts';
import { throwsCode } from '#test/throws.ts';

const bytes = (json: unknown) => new TextEncoder().encode(typeof json === 'string' ? json : JSON.stringify(json));
const d = (n: number) => `sha256:${String(n % 10).repeat(64)}`;
const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: d(2), size: 7 };
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: d(1), size: 5 };
const image = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] };
const entry = (n: number, platform?: object, more: object = {}) => ({
  mediaType: OCI_MANIFEST,
  digest: d(n),
  size: n,
  ...(platform ? { platform } : {}),
  ...more,
});
const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry(1, { os: 'linux', architecture: 'amd64' })] };

test('an image manifest gives its configuration and layers, OCI and Docker alike', () => {
  assert.deepEqual(parseManifest(bytes(image), OCI_MANIFEST), {
    kind: 'image',
    mediaType: OCI_MANIFEST,
    config,
    layers: [layer],
    components: [[]],
  });
  const docker = {
    schemaVersion: 2,
    mediaType: DOCKER_MANIFEST,
    config: { ...config, mediaType: 'application/vnd.docker.container.image.v1+json' },
    layers: [{ ...layer, mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' }],
  };
  assert.equal(parseManifest(bytes(docker), undefined).mediaType, DOCKER_MANIFEST);
});

test('an index gives its entries with platform, name and compression', () => {
  const annotations = {
    'org.opencontainers.image.ref.name': 'v1',
    'io.github.containers.compression.zstd': 'true',
    __proto__: 'x',
  };
  const parsed = parseManifest(
    bytes({
      ...index,
      manifests: [entry(3, { os: 'linux', architecture: 'arm64', variant: 'v8', x: 1 }, { annotations })],
    }),
    undefined,
  );
  assert.deepEqual(parsed, {
    kind: 'index',
    mediaType: OCI_INDEX,
    manifests: [
      {
        mediaType: OCI_MANIFEST,
        digest: d(3),
        size: 3,
        platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
        name: 'v1',
        zstd: true,
      },
    ],
  });
});

test('unknown fields, null annotations and a plain content type are let be', () => {
  const loose = {
    ...image,
    subject: {},
    annotations: null,
    layers: [{ ...layer, urls: ['x'], annotations: { a: 'b' } }],
  };
  assert.equal(parseManifest(bytes(loose), 'application/json').kind, 'image');
  assert.equal(parseManifest(bytes({ ...index, mediaType: undefined }), 'text/plain').kind, 'index');
});

const refused: [string, unknown, string | undefined, string][] = [
  ['nothing', '', undefined, 'MANIFEST_SYNTAX'],
  ['no JSON', '<html>', undefined, 'MANIFEST_SYNTAX'],
  ['a list', [], undefined, 'MANIFEST_SYNTAX'],
  ['null', null, undefined, 'MANIFEST_SYNTAX'],
  ['Docker schema 1', { schemaVersion: 1, fsLayers: [] }, undefined, 'MANIFEST_TYPE'],
  ['schema 3', { ...image, schemaVersion: 3 }, undefined, 'MANIFEST_SYNTAX'],
  ['an index that is an image too', { ...image, manifests: [] }, undefined, 'MANIFEST_AMBIGUOUS'],
  ['an image with history', { ...image, history: [] }, undefined, 'MANIFEST_AMBIGUOUS'],
  ['an image told as an index', image, OCI_INDEX, 'MANIFEST_AMBIGUOUS'],
  ['an image that calls itself an index', { ...image, mediaType: OCI_INDEX }, undefined, 'MANIFEST_AMBIGUOUS'],
  ['an index told as a Docker list', index, DOCKER_LIST, 'MANIFEST_AMBIGUOUS'],
  ['layers in two spellings', { ...image, Layers: [layer] }, undefined, 'MANIFEST_AMBIGUOUS'],
  ['another vendor type', { ...image, mediaType: undefined }, 'application/vnd.docker.plugin.v1+json', 'MANIFEST_TYPE'],
  ['no layers', { ...image, layers: [] }, undefined, 'NOT_AN_IMAGE'],
  [
    'an artifact',
    { ...image, config: { ...config, mediaType: 'application/vnd.oci.empty.v1+json' } },
    undefined,
    'NOT_AN_IMAGE',
  ],
  ['no configuration', { ...image, config: undefined }, undefined, 'MANIFEST_SYNTAX'],
  ['a negative size', { ...image, layers: [{ ...layer, size: -1 }] }, undefined, 'MANIFEST_SYNTAX'],
  ['half a byte', { ...image, layers: [{ ...layer, size: 1.5 }] }, undefined, 'MANIFEST_SYNTAX'],
  ['a size beyond 2^53', { ...image, layers: [{ ...layer, size: 2 ** 60 }] }, undefined, 'MANIFEST_SYNTAX'],
  ['a size in text', { ...image, layers: [{ ...layer, size: '7' }] }, undefined, 'MANIFEST_SYNTAX'],
  [
    'a digest with a path',
    { ...image, layers: [{ ...layer, digest: 'sha256:../../x' }] },
    undefined,
    'MANIFEST_SYNTAX',
  ],
  ['sha512', { ...image, layers: [{ ...layer, digest: `sha512:${'a'.repeat(128)}` }] }, undefined, 'MANIFEST_SYNTAX'],
  ['1,001 layers', { ...image, layers: Array.from({ length: 1001 }, () => layer) }, undefined, 'MANIFEST_LIMIT'],
  ['1,001 entries', { ...index, manifests: Array.from({ length: 1001 }, () => entry(1)) }, undefined, 'MANIFEST_LIMIT'],
  ['5 MiB', `${JSON.stringify(image)}${' '.repeat(5 * 2 ** 20)}`, undefined, 'MANIFEST_LIMIT'],
  ['bytes that are no UTF-8', undefined, undefined, 'MANIFEST_SYNTAX'],
];
for (const [name, json, told, code] of refused)
  test(`refuses ${name}`, () => {
    const text = json === undefined ? new Uint8Array([0x7b, 0xff, 0x7d]) : bytes(json);
    throwsCode(() => parseManifest(text, told), OciManifestError, code);
  });

test('brackets 100,000 deep are refused, not a crash', () => {
  throwsCode(() => parseManifest(bytes('['.repeat(100_000)), undefined), OciManifestError, 'MANIFEST_SYNTAX');
});

const parsedIndex = (...manifests: object[]): readonly IndexEntry[] => {
  const parsed = parseManifest(bytes({ ...index, manifests }), undefined);
  assert.equal(parsed.kind, 'index');
  return (parsed as { manifests: readonly IndexEntry[] }).manifests;
};
const on = (architecture: string, variant?: string) => ({ os: 'linux', architecture, ...(variant ? { variant } : {}) });
const zstd = { annotations: { 'io.github.containers.compression.zstd': 'true' } };

const choices: [string, object[], string, number | undefined][] = [
  ['the one of the architecture', [entry(1, on('arm64')), entry(2, on('amd64'))], 'linux/amd64', 2],
  ['none of another system', [entry(1, { os: 'windows', architecture: 'amd64' })], 'linux/amd64', undefined],
  ['no attestation', [entry(1, { os: 'unknown', architecture: 'unknown' }), entry(2, on('amd64'))], 'linux/amd64', 2],
  ['v8 where arm64 is meant', [entry(1, on('arm64', 'v8'))], 'linux/arm64', 1],
  ['the one without a variant first', [entry(1, on('arm', 'v7')), entry(2, on('arm'))], 'linux/arm', 2],
  ['the most capable that v7 can run', [entry(1, on('arm', 'v8')), entry(2, on('arm', 'v6'))], 'linux/arm/v7', 2],
  ['the same variant before lesser ones', [entry(1, on('arm', 'v6')), entry(2, on('arm', 'v7'))], 'linux/arm/v7', 2],
  ['no amd64 v3 unless it is named', [entry(1, on('amd64', 'v3'))], 'linux/amd64', undefined],
  ['amd64 v3 when it is named', [entry(1, on('amd64')), entry(2, on('amd64', 'v3'))], 'linux/amd64/v3', 2],
  ['zstd before gzip', [entry(1, on('amd64')), entry(2, on('amd64'), zstd)], 'linux/amd64', 2],
  ['the first of two alike', [entry(1, on('amd64')), entry(2, on('amd64'))], 'linux/amd64', 1],
  ['one without a platform last', [entry(1), entry(2, on('amd64'))], 'linux/amd64', 2],
  ['one without a platform if nothing else', [entry(1), entry(2, on('s390x'))], 'linux/amd64', 1],
];
for (const [name, entries, wanted, expected] of choices)
  test(`of an index, a host takes ${name}`, () => {
    const chosen = choosePlatform(parsedIndex(...entries), parsePlatform(wanted));
    assert.equal(chosen?.size, expected);
  });

test('a platform has one spelling', () => {
  for (const text of ['linux/amd64', 'linux/arm64/v8', 'linux/386'])
    assert.equal(formatPlatform(parsePlatform(text)), text);
  for (const text of ['', 'linux', 'linux/', '/amd64', 'Linux/amd64', 'linux/arm/v7/x', 'linux/amd64\n'])
    throwsCode(() => parsePlatform(text), OciManifestError, 'PLATFORM_SYNTAX');
});

const configJson = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [d(4)] } };

test('a configuration gives platform, diff IDs and labels', () => {
  const labels = { 'ostree.final-diffid': d(4), __proto__: 'x' };
  const parsed = parseConfig(bytes({ ...configJson, variant: '', config: { Labels: labels }, history: [] }), 1);
  assert.deepEqual(parsed.platform, { os: 'linux', architecture: 'amd64' });
  assert.deepEqual(parsed.diffIds, [d(4)]);
  assert.equal(parsed.labels.get('ostree.final-diffid'), d(4));
  assert.equal(parseConfig(bytes({ ...configJson, config: { Labels: null } }), 1).labels.size, 0);
  assert.equal(parseConfig(bytes({ ...configJson, config: null }), 1).labels.size, 0);
  const created = (more: object) => parseConfig(bytes({ ...configJson, ...more }), 1).created;
  assert.equal(created({ created: '2026-11-01T00:00:00Z' }), '2026-11-01T00:00:00Z');
  for (const none of [{}, { created: null }, { created: 7 }]) assert.equal(created(none), null);
});

const refusedConfigs: [string, unknown, string][] = [
  ['no JSON', 'x', 'CONFIG_SYNTAX'],
  ['another number of layers', { ...configJson, rootfs: { type: 'layers', diff_ids: [] } }, 'CONFIG_SYNTAX'],
  ['a diff ID that is none', { ...configJson, rootfs: { type: 'layers', diff_ids: ['x'] } }, 'CONFIG_SYNTAX'],
  ['another root', { ...configJson, rootfs: { type: 'x', diff_ids: [d(4)] } }, 'CONFIG_SYNTAX'],
  ['no architecture', { ...configJson, architecture: undefined }, 'CONFIG_SYNTAX'],
  ['5 MiB', `${JSON.stringify(configJson)}${' '.repeat(5 * 2 ** 20)}`, 'MANIFEST_LIMIT'],
];
for (const [name, json, code] of refusedConfigs)
  test(`refuses a configuration with ${name}`, () =>
    throwsCode(() => parseConfig(bytes(json), 1), OciManifestError, code));
