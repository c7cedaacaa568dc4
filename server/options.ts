/** What a server is started with, and where what is its own lies when nobody says. */
import type { BlockList } from 'node:net';
import { arch, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Clock } from '#src/clock.ts';
import type { Policy } from '#src/policy/document.ts';
import type { ImageBounds } from '#src/source/bounds.ts';
import { VERSION } from '#src/version.ts';
import type { Configured } from '#server/access/bindings.ts';
import type { OidcSettings } from '#server/access/oidc.ts';
import type { Make } from '#server/evidence/inworker.ts';
import type { Build } from '#server/jobs/builder.ts';
import type { LookUp } from '#server/jobs/tags.ts';
import type { AnchorsSettings } from '#server/log/anchors.ts';
import type { NoticeTarget } from '#server/notices/target.ts';
import type { Assessor } from '#server/trust/assessor.ts';
import type { RootRefresh } from '#server/trust/roots.ts';
import type { TrustSetup } from '#server/trust/setup.ts';
import type { CertificateFiles } from './certificate.ts';
import type { Log } from './deps.ts';
import type { Address } from './listen.ts';
import type { MetricsFor } from './metrics.ts';
import type { Mirror, SignatureRepository } from './mirrors.ts';
import type { PolicySource } from './policies.ts';
import type { RetentionSettings } from './retention.ts';

export type StartOptions = {
  /** `sqlite:PATH` or `postgres://…` (server/store/open.ts). */
  readonly storeUrl: string;
  /** Whether the start brings it up to this build, which it does by default; else it waits until somebody did. */
  readonly migrates?: boolean;
  /** One that never changes, or where it comes from. */
  readonly policy: Policy | PolicySource;
  readonly listen: Address;
  /** Files of the server's own certificate and its key; null: it speaks plain HTTP. */
  readonly tls?: CertificateFiles | null;
  /** How hosts and people reach this server; by default where it listens. */
  readonly baseUrl?: string | undefined;
  /** Sources that are allowed from the start, beside those that people allowed. */
  readonly sources?: readonly { readonly reference: string; readonly plainHttp?: boolean }[];
  /** How registries are spoken to. */
  readonly registry?: {
    readonly env?: Readonly<Record<string, string | undefined>>;
    readonly caFiles?: readonly string[];
    readonly authFile?: string | undefined;
    /** Registries and repositories that are asked for elsewhere. */
    readonly mirrors?: readonly Mirror[];
    /** Where signatures lie besides an image's own repository. */
    readonly signatureRepositories?: readonly SignatureRepository[];
  };
  /** How large images may be whose manifests are built. */
  readonly imageBounds?: ImageBounds;
  readonly newAdminToken?: boolean;
  /** How people come in beside the admin token. */
  readonly access?: {
    readonly oidc?: OidcSettings | null;
    /** Roles for groups of the provider. */
    readonly configured?: readonly Configured[];
    readonly proxies?: BlockList;
  };
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: (bytes: number) => Uint8Array;
  readonly build?: Build;
  readonly lookUp?: LookUp;
  /** What images must be signed by; without it nothing is assessed. */
  readonly trust?: TrustSetup | null;
  readonly assess?: Assessor;
  /** Trust roots that are kept up with a TUF repository, and how often; none unless the operator allowed it. */
  readonly rootRefreshes?: readonly RootRefresh[];
  readonly refreshRootsEveryMs?: number;
  /** How often each image's signatures are looked for again. */
  readonly reverifyEveryMs?: number;
  /** Receivers of notices that whoever runs this allows to lie inside. */
  readonly noticeTargets?: readonly NoticeTarget[];
  /** Who may read `/metrics`; whoever shows a token by default. */
  readonly metrics?: MetricsFor;
  /** The evidence log's name, and where its last checkpoint is kept apart from the store; by default beside an SQLite database. */
  readonly evidence?: { readonly origin?: string | undefined; readonly checkpointFile?: string | null };
  /** Where bundles that were exported lie, by default beside an SQLite database; and how they are made. */
  readonly exports?: { readonly folder?: string; readonly make?: Make };
  /** Who signs or stamps its checkpoints besides; nobody by default. */
  readonly anchors?: Partial<AnchorsSettings>;
  /** How long what lies beside the log stays; for good by default. */
  readonly retention?: RetentionSettings;
  /** How often waiting work and silent hosts are looked for, ms. */
  readonly jobsEveryMs?: number;
  /** What requests under way get when it closes, ms. */
  readonly stopWithinMs?: number;
};

/** Beside an SQLite database, or in the data folder. */
export const LOG_CHECKPOINT = 'log.checkpoint';
/** The folder of exported bundles, likewise. */
export const EXPORTS = 'evidence';

const besideSqlite = (storeUrl: string): string | undefined =>
  storeUrl.startsWith('sqlite:') ? dirname(storeUrl.slice('sqlite:'.length)) : undefined;

/** Where the last checkpoint is kept apart from the store; null: nowhere. */
export function checkpointPath({ evidence = {}, storeUrl }: StartOptions): string | null {
  const beside = besideSqlite(storeUrl);
  const { checkpointFile = beside === undefined ? null : join(beside, LOG_CHECKPOINT) } = evidence;
  return checkpointFile;
}

/** Where bundles lie; with PostgreSQL below the temporary folder, where the options do not say. */
export function exportFolder({ exports, storeUrl }: StartOptions): string {
  return exports?.folder ?? join(besideSqlite(storeUrl) ?? tmpdir(), EXPORTS);
}

/** How registries are spoken to. */
export function registryOf({ registry = {} }: StartOptions) {
  const names: Record<string, string> = {
    x64: 'amd64',
    arm64: 'arm64',
    ppc64: 'ppc64le',
    s390x: 's390x',
    riscv64: 'riscv64',
  };
  return {
    env: registry.env ?? {},
    caFiles: registry.caFiles ?? [],
    authFile: registry.authFile,
    mirrors: registry.mirrors ?? [],
    // Only where a host names an index: the platform most like ours, until hosts tell theirs.
    platform: `linux/${names[arch()] ?? 'amd64'}`,
    builder: `bootproof ${VERSION}`,
  };
}
