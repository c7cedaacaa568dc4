/** What a host says of its deployments and of what lies over them: all foreign formats brought to one shape. */
import { z } from 'zod';

/** Characters of one text, items of one list: far above any real host. */
export const STATE_TEXT_MAX = 4096;
export const STATE_LIST_MAX = 500;
const Text = z.string().max(STATE_TEXT_MAX);
/** Longer than any digest, short enough for a database's index; and no database's text holds a NUL. */
const DigestText = z
  .string()
  .max(200)
  .refine((text) => !text.includes('\0'), 'must not hold a NUL');
const List = STATE_LIST_MAX;

export const DeploymentImage = z.strictObject({
  /** As the host tells it; editable by root, a claim apart from the digest. */
  reference: Text.nullable(),
  transport: Text.nullable(),
  /** Digest of the image manifest as the host tells it; may be a config digest or bare hex on old hosts. */
  digest: DigestText.nullable(),
  version: Text.nullable(),
  /** How the origin says that pulls are checked: `containerPolicy`, `ostreeRemote:NAME`, `insecure`; null where nothing is demanded or told. */
  signature: Text.nullable(),
});

export const DeploymentEntry = z.strictObject({
  image: DeploymentImage.nullable(),
  /** ostree commit or composefs verity digest. */
  checksum: Text.nullable(),
  stateroot: Text.nullable(),
  pinned: z.boolean(),
  /** Layered packages, overrides and the like: what rpm-ostree put on top of the image. */
  layered: z.array(Text).max(List),
});
export type DeploymentEntry = z.infer<typeof DeploymentEntry>;

export const Overlay = z.strictObject({
  /** Where it lies: `/usr`, `/usr/bin/sudo`, `/etc` … */
  path: Text,
  kind: z.enum(['usr-overlay', 'hotfix', 'sysext', 'confext', 'bind', 'transient-etc', 'state-overlay', 'other']),
  /** Extension names, mount source and options: what a person needs to see. */
  detail: Text,
  writable: z.boolean(),
  /** It hides what the image put there, and the scan has a hole at this path. A transient /etc or the deployment's own /usr does not. */
  masks: z.boolean(),
  /** What a look beneath it showed; null until the agent looks. */
  beneath: z.enum(['image', 'altered']).nullable(),
});
export type Overlay = z.infer<typeof Overlay>;

export const DeploymentState = z.strictObject({
  /** `unknown` where nothing told: judged by the server with the newest rule of each backend. */
  backend: z.enum(['ostree', 'composefs', 'unknown']),
  /** Where the answer came from. */
  via: z.enum(['bootc', 'rpm-ostree', 'origin', 'option', 'none']),
  booted: DeploymentEntry.nullable(),
  staged: DeploymentEntry.nullable(),
  rollback: DeploymentEntry.nullable(),
  overlays: z.array(Overlay).max(List),
  kargs: z.array(Text).max(List),
  kernel: Text.nullable(),
  /** composefs mounted with verity=require; null where it could not be told. */
  verity: z.boolean().nullable(),
  /** `/` has an upper layer that the next boot throws away: /usr can be written without a mount of its own. Null where it could not be told. */
  transientRoot: z.boolean().nullable(),
  /** Sources that contradict each other, or could not be read, in words. */
  contradictions: z.array(Text).max(List),
});
export type DeploymentState = z.infer<typeof DeploymentState>;
