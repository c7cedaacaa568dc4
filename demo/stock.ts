/** What the demo's registry holds: its images, signed as their stories say, and what a server must be given to judge them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '#src/digest.ts';
import { readTrustFiles, trustSetup, type TrustSetup } from '#server/trust/setup.ts';
import { DEMO_IMAGES } from './host.ts';
import { keylessBundle, keylessSignature } from './keyless.ts';
import { manifestSize, packImage, push, type PackedImage } from './pack.ts';
import { serveRegistry, type Registry } from './registry.ts';
import { keyPolicy, makeKey, signatureImage, signatureOf, signatureTag } from './sign.ts';
import { startSigstore, type Who } from './sigstore.ts';

export type ImageName = keyof typeof DEMO_IMAGES;
export type ImageDigests = Readonly<Record<ImageName, Digest>>;

export const IMAGE = 'demo/os';
/** What the demo's images must be signed by, as teams write it. */
const POLICY = 'image-policy.yaml';
/** Whose certificates and logs count for it, under the name by which the policy calls it. */
const TRUST_ROOT = { name: 'demo', file: 'trusted_root.json' } as const;
/** Who builds the demo's images, and who must not. */
const BUILDER: Who = {
  issuer: 'https://token.actions.githubusercontent.com',
  subject: 'https://github.com/acme/os/.github/workflows/build.yml@refs/heads/main',
};
const BRANCH: Who = { ...BUILDER, subject: BUILDER.subject.replace(/main$/, 'try-it') };
/** The same layers under several versions. */
export function packImages(layers: Parameters<typeof packImage>[0]): Map<ImageName, PackedImage> {
  const names = Object.keys(DEMO_IMAGES) as ImageName[];
  return new Map(names.map((name) => [name, packImage(layers, DEMO_IMAGES[name])]));
}

/** Pushes images, and signs those of `toSign` for the registry's name. @throws the signal's reason. */
export async function stock(
  { folder, signal }: { readonly folder: string; readonly signal: AbortSignal },
  registry: Registry,
  images: ReadonlyMap<ImageName, PackedImage>,
  toSign: ImageDigests | null,
): Promise<void> {
  for (const [name, image] of images) {
    signal.throwIfAborted();
    await push(image, registry.host, IMAGE, DEMO_IMAGES[name]);
  }
  if (toSign === null) return;
  signal.throwIfAborted();
  const { policy, trustedRoot } = await signImages(toSign, registry.host);
  writeFileSync(join(folder, POLICY), policy);
  writeFileSync(join(folder, TRUST_ROOT.file), trustedRoot);
}

/** Signs with keys that are forgotten at once, each image as its story says; answers what a server must be given to judge them. */
async function signImages(
  images: ImageDigests,
  registry: string,
): Promise<{ readonly policy: string; readonly trustedRoot: string }> {
  const [own, stranger] = [makeKey(), makeKey()];
  const name = `${registry}/${IMAGE}`;
  const byKey = (digest: Digest, key: typeof own) => signatureImage(digest, [signatureOf(digest, name, key)]);
  const signed = byKey(images.signed, own);
  const foreign = byKey(images.foreign, stranger);
  await push(signed.image, registry, IMAGE, signed.tag);
  await push(foreign.image, registry, IMAGE, foreign.tag);
  // Whoever may push can lay a good signature beside any image.
  await push(signed.image, registry, IMAGE, signatureTag(images.copied));

  const sigstore = await startSigstore();
  // Both forms: a bundle alone would be no signature to a host that enforces containers policy.
  const bundle = await keylessBundle(sigstore, BUILDER, {
    digest: images.keyless,
    size: await manifestSize(registry, IMAGE, images.keyless),
  });
  await push(bundle, registry, IMAGE, bundle.digest);
  const keyless = await keylessSignature(sigstore, BUILDER, images.keyless, name);
  await push(keyless.image, registry, IMAGE, keyless.tag);
  const branch = await keylessSignature(sigstore, BRANCH, images.branch, name);
  await push(branch.image, registry, IMAGE, branch.tag);
  const { name: trustRootRef } = TRUST_ROOT;
  // Any port: it may be another one at the next start.
  const policy = keyPolicy(
    'demo',
    `127.0.0.1:*/${IMAGE}@*`,
    [own],
    [{ name: 'builder', keyless: { identities: [BUILDER], trustRootRef }, ctlog: { trustRootRef } }],
  );
  return { policy, trustedRoot: sigstore.trustedRoot };
}

/** The port it had, so that the server's sources still name it; another one if that is taken now. */
export async function openRegistry(folder: string, port: number): Promise<Registry> {
  try {
    return await serveRegistry(folder, port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    return serveRegistry(folder, 0);
  }
}

/** Who must have signed the images, as `stock` wrote it. */
export async function imagePolicy(folder: string): Promise<TrustSetup> {
  const roots = [`${TRUST_ROOT.name}=${join(folder, TRUST_ROOT.file)}`];
  return trustSetup(await readTrustFiles({ policies: [join(folder, POLICY)], roots }));
}
