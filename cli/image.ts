/** The options by which commands name an image and how to read it, and the reading itself. */
import { arch } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import type { Command } from 'commander';
import { parseReference, type Reference } from '#src/image/reference.ts';
import { parsePlatform, type Platform } from '#src/image/ocimanifest.ts';
import { backendOf, BACKENDS, rulesOf, RULES, type Backend, type Rule } from '#src/image/backend.ts';
import type { Keep } from '#src/image/keep.ts';
import { BOUND_NAMES, imageBounds, type ImageBounds } from '#src/source/bounds.ts';
import { readImage, type Image } from '#src/source/build.ts';
import { parseMirrors } from '#server/mirrors.ts';
import { openSource } from '#server/sources.ts';
import { argument, UsageError, type Io } from '#src/terminal.ts';
import { VERSION } from '#src/version.ts';
import { sizeText } from '#agent/present.ts';
import { ProgressLine } from '#agent/output.ts';
import type { Expected } from '#agent/manifestfile.ts';
import type { TreeName } from '#src/manifest/entry.ts';
import type { FileManifest } from '#src/manifest/header.ts';

/** What `imageOptions` adds to a command, as commander hands it on. */
export type ImageOptions = {
  readonly platform?: string;
  readonly insecureHttp?: boolean;
  readonly ca?: readonly string[];
  readonly authfile?: string;
  readonly mirror?: readonly string[];
  readonly limit?: readonly string[];
};
export type RuleOptions = { readonly backend?: string; readonly rule?: string };

export const BUILDER = `bootproof ${VERSION}`;

/** For options that may be repeated. */
export const list = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];

/** Adds the options of `ImageOptions`. */
export function imageOptions(command: Command): Command {
  return command
    .option('--platform <os/arch[/variant]>', `which image of an index (default: ${hostPlatform()})`)
    .option('--authfile <file>', 'registry credentials, instead of where podman and docker keep them')
    .option('--ca <file>', 'trust the certificates in FILE besides those of this machine (repeatable)', list)
    .option('--mirror <from=to>', 'ask for what lies under FROM in TO (repeatable)', list)
    .option('--insecure-http', 'speak plain http with a registry that is not on loopback')
    .option(
      '--limit <name=number>',
      `change a bound (repeatable; K, M, G for powers of 1024): ${BOUND_NAMES.join(', ')}`,
      list,
    );
}

/** Adds `--backend` and `--rule`. */
export function ruleOptions(command: Command): Command {
  return command
    .option('--backend <name>', `how hosts import the image: ${BACKENDS.join(', ')} (default: ostree, or the rule's)`)
    .option('--rule <rule>', `a rule of its own instead of the backend's newest: ${RULES.join(', ')}`);
}

/** The rule that the options name. @throws {UsageError} */
export function ruleOf({ backend, rule }: RuleOptions): Rule {
  const named = backend === undefined ? undefined : backendNamed(backend);
  const found = rule === undefined ? rulesOf(named ?? 'ostree')[0] : RULES.find((name) => name === rule);
  if (found === undefined) throw new UsageError(`no rule ${JSON.stringify(rule)}; there are ${RULES.join(', ')}`);
  if (named !== undefined && backendOf(found) !== named)
    throw new UsageError(
      `--backend ${named} and --rule ${found} contradict each other: rules of ${named} are ${rulesOf(named).join(', ')}`,
    );
  return found;
}

/** @throws {UsageError} */
export function backendNamed(name: string): Backend {
  const found = BACKENDS.find((known) => known === name);
  if (found === undefined) throw new UsageError(`no backend ${JSON.stringify(name)}; there are ${BACKENDS.join(', ')}`);
  return found;
}

/**
 * Reads the image that a reference names, with progress on standard error.
 * @throws {UsageError | BootproofError}
 */
export async function loadImage(text: string, options: ImageOptions, io: Io, keep?: Keep): Promise<Image> {
  const reference: Reference = argument(() => parseReference(text));
  const { limits, imageBytes } = limitsOf(options);
  const platform: Platform = parsePlatform(options.platform ?? hostPlatform());
  // V8 lets the young generation grow to 48 MB and keeps it: for this stream of short-lived chunks that is memory without a gain
  // (peak of a 630 MB layer of 42,000 paths: 263 MB with growth, 185 without, in the same time).
  setFlagsFromString('--semi-space-growth-factor=1');
  const line = new ProgressLine(io);
  const { source, close } = await openSource(reference, {
    env: io.env,
    caFiles: options.ca ?? [],
    authFile: options.authfile,
    insecureHttp: options.insecureHttp ?? false,
    mirrors: parseMirrors(options.mirror ?? [], () => options.insecureHttp ?? false),
    // Who types a registry's name vouches for where it lies.
    reach: 'any',
  });
  try {
    return await readImage(source, reference.digest ?? reference.tag, {
      platform,
      platformOnly: options.platform !== undefined,
      limits,
      imageBytes,
      ...(keep === undefined ? {} : { keep }),
      onProgress: ({ bytes, bytesTotal, layers }) =>
        line.show(() => `reading ${layers} layers: ${sizeText(bytes)} of ${sizeText(bytesTotal)}`),
    });
  } finally {
    await line.clear();
    await close();
  }
}

/** What a scan is held against, of a manifest. */
export function expectedOf({ header, trees }: FileManifest): Expected {
  const digests = (tree: TreeName) => ({
    main: header.trees[tree].main.comparison,
    extra: header.trees[tree].extra,
  });
  return { image: header.image, rule: header.rule, trees, digests: { usr: digests('usr'), etc: digests('etc') } };
}

/** Architectures as OCI names them. */
function hostPlatform(): string {
  const names: Record<string, string> = { x64: 'amd64', ia32: '386', arm64: 'arm64', ppc64: 'ppc64le' };
  return `linux/${names[arch()] ?? arch()}`;
}

/** What `--limit` makes of the bounds. @throws {UsageError} */
export function limitsOf({ limit = [] }: Pick<ImageOptions, 'limit'>): ImageBounds {
  return imageBounds(limit, '--limit');
}
