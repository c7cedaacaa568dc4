/** Building runs in a worker thread with a heap of its own: intake goes on beside it, and a monstrous image ends there. */
import { Worker } from 'node:worker_threads';
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { BUILD_HEAP_MB } from '#src/limits.ts';
import type { ContentMarks } from '#src/manifest/contents.ts';
import type { ManifestHeader, ManifestWarning } from '#src/manifest/header.ts';
import type { ImageBounds } from '#src/source/bounds.ts';
import type { TreeName } from '#src/manifest/entry.ts';
import type { Mirror } from '#server/mirrors.ts';
import { threadEnv } from '#server/thread.ts';
import type { KeptTexts } from './texts.ts';

/** A source that may be asked, in its canonical spelling. */
export type AllowedSource = { readonly pattern: string; readonly plainHttp: boolean };

export type BuildRequest = {
  /** Manifest digest that is looked for. */
  readonly digest: Digest;
  /** Asked in this order. */
  readonly sources: readonly AllowedSource[];
  /** `linux/amd64`: which image of an index. */
  readonly platform: string;
  readonly builder: string;
  /** What an image may make us do: the site's settings. */
  readonly bounds: ImageBounds;
  /** Where proxies and registry credentials are named. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly caFiles: readonly string[];
  readonly authFile: string | undefined;
  /** Registries that are asked for elsewhere. */
  readonly mirrors?: readonly Mirror[];
};

/** A text, compressed with zstd; its key is the digest of what it decodes to. */
export type BuiltText = { readonly key: string; readonly bytes: Uint8Array };
export type BuiltManifest = {
  readonly header: ManifestHeader;
  readonly trees: Readonly<Record<TreeName, { readonly main: BuiltText; readonly extra: BuiltText }>>;
};
/** What a source, or a backend, said no with. */
export type BuildReason = { readonly code: string; readonly text: string };

/** What an image keeps of its build for who makes it. */
export type BuildNotes = { readonly warnings: readonly ManifestWarning[]; readonly refused: readonly BuildReason[] };

export type BuildResult =
  | {
      readonly kind: 'built';
      readonly pattern: string;
      readonly digest: Digest;
      readonly index: Digest | null;
      readonly config: Digest;
      readonly version: string | null;
      /** When the image says that it was made. */
      readonly madeAt?: Instant | null;
      readonly manifests: readonly BuiltManifest[];
      readonly warnings: readonly ManifestWarning[];
      /** Backends that cannot deploy it. */
      readonly refused: readonly BuildReason[];
      /** Where its paths come from (`OriginsJson`, in zstd), and which contents it has; absent where the builder does not say. */
      readonly origins?: Uint8Array;
      readonly marks?: ContentMarks;
      /** Its /etc text files; absent where the builder does not say. */
      readonly texts?: KeptTexts;
      /** The fs-verity digests of its contents (docs/manifest.md, rule 8), and the bytes of that text; absent where the builder does not say. */
      readonly verity?: BuiltText & { readonly length: number };
    }
  /** No source had it; one reason a source. */
  | { readonly kind: 'failed'; readonly reasons: readonly BuildReason[] };

/** Builds an image's manifests. Rejects for our own faults only. */
export type Build = (request: BuildRequest, signal: AbortSignal) => Promise<BuildResult>;

export const buildInWorker: Build = (request, signal) =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./buildworker.ts', import.meta.url), {
      workerData: request,
      resourceLimits: { maxOldGenerationSizeMb: BUILD_HEAP_MB },
      // The thread asks no variable by itself: what it needs is in the request.
      env: threadEnv(),
    });
    const stop = (): void => void worker.terminate();
    signal.addEventListener('abort', stop, { once: true });
    let result: BuildResult | undefined;
    worker.once('message', (message: BuildResult) => {
      result = message;
    });
    worker.once('error', (error: NodeJS.ErrnoException) => {
      // The image is too much, whatever it is; trying again with the same memory gives the same.
      if (error.code === 'ERR_WORKER_OUT_OF_MEMORY')
        result = {
          kind: 'failed',
          reasons: [{ code: 'IMAGE_LIMIT', text: `building took more than ${BUILD_HEAP_MB} MB of memory` }],
        };
      else reject(error);
    });
    worker.once('exit', (code) => {
      signal.removeEventListener('abort', stop);
      if (result !== undefined) resolve(result);
      else
        reject(
          new Error(signal.aborted ? 'the build was stopped' : `the build thread ended with ${code} and said nothing`),
        );
    });
  });
