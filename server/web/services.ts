/** What pages are given. */
import type { Access } from '#server/access/admin.ts';
import type { Principal } from '#server/access/principal.ts';
import type { ChannelDeps } from '#server/decisions/channels.ts';
import type { WaiverDeps } from '#server/decisions/waivers.ts';
import type { Deps } from '#server/deps.ts';
import type { Exports } from '#server/evidence/exports.ts';
import type { Enrolments } from '#server/ingest/enrol.ts';
import type { Examiner } from '#server/ingest/examiner.ts';
import type { Anchors } from '#server/log/anchors.ts';
import type { EvidenceLog } from '#server/log/evidencelog.ts';
import type { KnownImages } from '#server/ingest/known.ts';
import type { KnownDefaults } from '#server/ingest/lineage.ts';
import type { KnownOrigins } from '#server/origins.ts';
import type { RetentionSettings } from '#server/retention.ts';
import type { Policies } from '#server/policies.ts';
import type { Basis } from '#server/trust/basis.ts';
import type { KnownTrust } from '#server/trust/known.ts';

export type WebServices = Deps &
  WaiverDeps & {
    readonly access: Access;
    /** The OpenAPI document: the same object as long as the server runs. */
    readonly apiDocument: () => object;
    readonly basis: Basis;
    readonly defaults: KnownDefaults;
    readonly enrolments: Enrolments;
    readonly evidence: EvidenceLog;
    readonly exports: Exports;
    readonly retention: RetentionSettings;
    readonly anchors: Anchors;
    readonly examiner: Examiner;
    readonly images: KnownImages;
    readonly notices: ChannelDeps;
    readonly origins: KnownOrigins;
    readonly policies: Policies;
    readonly trust: KnownTrust;
    readonly baseUrl: () => string;
  };

/** Every page behind the sign-in knows who reads it. */
export type Env = { Variables: { principal: Principal } };
