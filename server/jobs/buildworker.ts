/** The build thread: asks the allowed sources in turn for one digest, reads the image once, and makes the texts of every rule. */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { zstdCompressSync } from 'node:zlib';
import { digestOf } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { BackendError, deploy, rulesOf, type Deployed, type Rule } from '#src/image/backend.ts';
import { parsePlatform } from '#src/image/ocimanifest.ts';
import { OriginsWriter } from '#src/image/origins.ts';
import { VerityKeep } from '#src/image/verity.ts';
import { parseReference } from '#src/image/reference.ts';
import type { ImageLimits } from '#src/limits.ts';
import { ContentGatherer } from '#src/manifest/contents.ts';
import { TREES } from '#src/manifest/entry.ts';
import type { FileManifest, ManifestWarning } from '#src/manifest/header.ts';
import { printVerity } from '#src/manifest/verity.ts';
import { manifestOf, readImage, type Image } from '#src/source/build.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { openSource } from '#server/sources.ts';
import type { BuildReason, BuildRequest, BuildResult, BuiltManifest, BuiltText } from './builder.ts';
import { KeptFiles } from './kept.ts';
import { PackageReader } from './packages.ts';
import { bothKeep, TextGatherer, TextSpool } from './texts.ts';

/** No image of a bootable host is older. */
const CREATED_FIRST = Date.UTC(2015, 0);
/** What hosts run; `oci` is for tools. */
const HOST_BACKENDS = ['ostree', 'composefs'] as const;

async function build(request: BuildRequest): Promise<BuildResult> {
  const reasons: BuildReason[] = [];
  for (const source of request.sources) {
    try {
      return await buildFrom(source, request);
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      reasons.push({ code: error.code, text: error.message });
    }
  }
  return { kind: 'failed', reasons };
}

async function buildFrom(
  { pattern, plainHttp }: BuildRequest['sources'][number],
  { digest, platform, env, caFiles, authFile, mirrors = [], builder, bounds }: BuildRequest,
): Promise<BuildResult> {
  const opened = await openSource(parseReference(pattern), {
    env,
    caFiles,
    authFile,
    mirrors,
    insecureHttp: plainHttp,
    // A person named this registry as one on loopback or in the local net; others keep to what their own name says.
    ...(plainHttp ? { reach: 'any' as const } : {}),
  });
  try {
    using kept = new KeptFiles();
    using spool = new TextSpool();
    const verity = new VerityKeep();
    const keep = bothKeep(bothKeep(kept, spool), verity);
    const image = await readImage(opened.source, digest, { platform: parsePlatform(platform), ...bounds, keep });
    const texts = new TextGatherer(spool);
    const packages = new PackageReader(kept);
    const origins = new OriginsWriter(layersOf(image));
    const contents = new ContentGatherer();
    const seen = new Set<string>();
    const manifests: BuiltManifest[] = [];
    const refused: BuildReason[] = [];
    const warnings: ManifestWarning[] = [];
    for (const backend of HOST_BACKENDS)
      for (const rule of rulesOf(backend)) {
        const deployed = deployedBy(image, rule, bounds.limits, packages);
        if (deployed instanceof BackendError) {
          if (rule === rulesOf(backend)[0])
            refused.push({ code: deployed.code, text: `${backend}: ${deployed.message}` });
          continue;
        }
        texts.add(deployed.entries);
        const made = manifestOf(image, rule, deployed, { builder });
        const { usr, etc } = made.header.trees;
        origins.add({ rule, deployed, texts: { usr: usr.main.full, etc: etc.main.full }, database: packages.found });
        for (const tree of TREES) {
          const { full } = made.header.trees[tree].main;
          // Rules share most of their texts.
          if (!seen.has(full)) contents.add(made.trees[tree].main);
          seen.add(full);
        }
        manifests.push({ header: made.header, trees: { usr: textsOf(made, 'usr'), etc: textsOf(made, 'etc') } });
        if (rule === rulesOf(backend)[0]) warnings.push(...made.header.warnings);
      }
    if (manifests.length === 0) return { kind: 'failed', reasons: refused };
    // Told beside the manifests' own, and in no header: it says nothing of what a host must show.
    for (const { code, text: message } of packages.notes)
      if (code !== 'PACKAGES_NONE') warnings.push({ code, layer: null, message });
    const version = image.facts.labels.get('org.opencontainers.image.version') ?? null;
    const config = image.manifest.config.digest;
    return {
      kind: 'built',
      pattern,
      digest: image.digest,
      index: image.index,
      config,
      version,
      madeAt: madeAt(image.config.created),
      manifests,
      warnings,
      refused,
      origins: zstdCompressSync(JSON.stringify(origins.done([...packages.notes]))),
      marks: contents.marks(),
      texts: texts.done(),
      verity: verityText(verity),
    };
  } finally {
    await opened.close();
  }
}

/** Builders that want the same bytes each time write the beginning of time: that says nothing. */
function madeAt(created: string | null): number | null {
  const at = created === null ? NaN : Date.parse(created);
  return at >= CREATED_FIRST ? at : null;
}

/** What the image tells of each of its layers. */
function layersOf({ manifest: { layers, components }, config: { history } }: Image) {
  return layers.map(({ digest, size }, index) => ({
    digest,
    size,
    createdBy: history[index]?.createdBy ?? null,
    comment: history[index]?.comment ?? null,
    components: components[index] ?? [],
  }));
}

function deployedBy(
  { layers, facts }: Image,
  rule: Rule,
  limits: ImageLimits,
  packages: PackageReader,
): Deployed | BackendError {
  try {
    return deploy(layers, facts, rule, limits, (root) => packages.owners(root));
  } catch (error) {
    if (error instanceof BackendError) return error;
    throw error;
  }
}

function textsOf(manifest: FileManifest, tree: (typeof TREES)[number]): BuiltManifest['trees']['usr'] {
  const { main, extra } = manifest.trees[tree];
  const digests = manifest.header.trees[tree];
  return { main: text(digests.main.full, main), extra: text(digests.extra, extra) };
}

function verityText({ found }: VerityKeep): BuiltText & { readonly length: number } {
  const content = [...printVerity(found)].join('');
  return { ...text(digestOf(content, nodeSha256), content), length: content.length };
}

function text(key: string, content: string): BuiltText {
  return { key, bytes: zstdCompressSync(Buffer.from(content, 'latin1')) };
}

assert.ok(parentPort !== null, 'this file runs as a worker thread');
const result = await build(workerData as BuildRequest);
// eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
parentPort.postMessage(result);
