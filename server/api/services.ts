/** What the API's routes are given. */
import type { Access } from '#server/access/admin.ts';
import type { Lapses } from '#server/decisions/lapse.ts';
import type { Deps } from '#server/deps.ts';
import type { KnownWaivers } from '#server/exempt.ts';
import type { Batch } from '#server/ingest/batch.ts';
import type { Enrolments } from '#server/ingest/enrol.ts';
import type { Exports } from '#server/evidence/exports.ts';
import type { Examiner } from '#server/ingest/examiner.ts';
import type { KnownImages } from '#server/ingest/known.ts';
import type { KnownDefaults } from '#server/ingest/lineage.ts';
import type { NotedImages } from '#server/ingest/noted.ts';
import type { Pipeline } from '#server/ingest/pipeline.ts';
import type { Load } from '#server/ingest/quota.ts';
import type { ChannelDeps } from '#server/decisions/channels.ts';
import type { Anchors } from '#server/log/anchors.ts';
import type { EvidenceLog } from '#server/log/evidencelog.ts';
import type { Health } from '#server/health.ts';
import type { Metrics } from '#server/metrics.ts';
import type { KnownOrigins } from '#server/origins.ts';
import type { RetentionSettings } from '#server/retention.ts';
import type { Policies } from '#server/policies.ts';
import type { Basis } from '#server/trust/basis.ts';
import type { KnownTrust } from '#server/trust/known.ts';

export type ApiServices = Deps & {
  readonly access: Access;
  readonly basis: Basis;
  readonly batch: Batch;
  readonly enrolments: Enrolments;
  readonly examiner: Examiner;
  readonly images: KnownImages;
  readonly origins: KnownOrigins;
  readonly defaults: KnownDefaults;
  readonly noted: NotedImages;
  readonly load: Load;
  readonly pipeline: Pipeline;
  readonly trust: KnownTrust;
  readonly waivers: KnownWaivers;
  readonly lapses: Lapses;
  readonly policies: Policies;
  readonly notices: ChannelDeps;
  readonly metrics: Metrics;
  readonly health: Health;
  readonly evidence: EvidenceLog;
  readonly exports: Exports;
  readonly retention: RetentionSettings;
  readonly anchors: Anchors;
  /** Without a slash at its end; what tokens' enrolment lines name. */
  readonly baseUrl: () => string;
  /** Work may be due now: looked for at once. */
  readonly wake: () => void;
};
