/** What this host's server says its trees must be, for `agent scan --server`. */
import { verifyInPool } from '#src/signing/node.ts';
import { parsePublicKey } from '#src/signing/ed25519.ts';
import type { TreeName } from '#src/manifest/entry.ts';
import { UsageError, type Io } from '#src/terminal.ts';
import { readConfig, type Flags } from './config.ts';
import { nodeDisk } from './disk.ts';
import { lockFolder } from './lock.ts';
import type { Expected } from './manifestfile.ts';
import { ManifestError, Manifests, NO_SERVER_KEY } from './manifests.ts';
import { observe } from './observe.ts';
import { Outbox } from './outbox.ts';
import { giveToOwner, identityIn, outboxDeps, parseImage, serverFor } from './settings.ts';

/**
 * What this host's server says its trees must be, fetched and proved as for a report. `image` where the root cannot tell what it booted.
 * @throws {UsageError | IdentityError | ManifestError} with what to do.
 */
export async function expectedByServer(
  flags: Pick<Flags, 'url' | 'state' | 'root'> & { readonly image?: string | undefined },
  io: Io,
): Promise<Expected> {
  const image = flags.image === undefined ? undefined : parseImage('--digest', flags.image);
  const config = readConfig(nodeDisk, io.env, flags);
  const { identity, signer } = identityIn(config);
  if (identity.serverKey === null) throw new ManifestError('MANIFEST_UNAVAILABLE', NO_SERVER_KEY);
  const observed = await observe({ root: config.root, image });
  const digest = observed.state.booted?.image?.digest ?? image;
  if (digest === undefined)
    throw new UsageError('the root does not tell which image it booted: --digest sha256:… says it');
  using _lock = lockFolder(config.stateFolder);
  const { chain } = await Outbox.open(outboxDeps(io), { folder: config.stateFolder, host: identity.host, signer });
  const server = serverFor(config, config.url!, io);
  try {
    const manifests = new Manifests(
      {
        disk: nodeDisk,
        clock: Date.now,
        verify: verifyInPool,
        server,
        bearer: chain.answer?.manifestBearer ?? identity.manifestBearer,
        serverKey: parsePublicKey(identity.serverKey),
      },
      `${config.stateFolder}/manifests`,
    );
    const backend = observed.state.backend === 'unknown' ? 'ostree' : observed.state.backend;
    const found = await manifests.headers(digest, backend, false);
    if (found.kind === 'none') throw new ManifestError('MANIFEST_UNAVAILABLE', found.why);
    const known = chain.rules.find(({ image }) => image === found.headers[0]!.image)?.rule;
    const header = found.headers.find(({ rule }) => rule === known) ?? found.headers[0]!;
    const loaded = await manifests.manifest(header);
    if (loaded.kind === 'none') throw new ManifestError('MANIFEST_UNAVAILABLE', loaded.why);
    const digests = (tree: TreeName) => ({ main: header.trees[tree].main.comparison, extra: header.trees[tree].extra });
    return {
      image: header.image,
      rule: header.rule,
      trees: loaded.trees,
      digests: { usr: digests('usr'), etc: digests('etc') },
    };
  } finally {
    server.close();
    giveToOwner(config.stateFolder);
  }
}
