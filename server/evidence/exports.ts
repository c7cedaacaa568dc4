/** Exports as people ask for them (docs/evidence.md 7): what may be asked for, who may see which, and their files. */
import type { Instant } from '#src/clock.ts';
import { formatInstant } from '#src/clock.ts';
import { lies, type Scope } from '#src/finding/scope.ts';
import { EXPORT_KEPT_MS, EXPORT_PERIOD_MS, EXPORTS_MAX } from '#src/limits.ts';
import { acting, type Principal, type Role } from '#server/access/principal.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { mustBe } from '#server/decisions/may.ts';
import type { Chore } from '#server/jobs/runner.ts';
import type { EvidenceExport, ExportSampling } from '#server/store/evidencerecords.ts';
import type { Page } from '#server/store/records.ts';
import type { PageRequest } from '#server/store/store.ts';
import { EvidenceError, hostsLine } from './selection.ts';
import { exportChore, exportJob, type ExportDeps } from './work.ts';

/** Who takes evidence away: auditors and admins, and operators of their own host groups. */
export const EXPORTERS = ['auditor', 'operator', 'admin'] as const satisfies readonly Role[];

/** What results are computed with, where nobody says otherwise (docs/controls.md 2). */
export const PARAMETERS = { completenessMin: 0.95, answerHours: 72 } as const;

export type Wanted = {
  readonly from: Instant;
  readonly to: Instant;
  /** A filter line about hosts; null for every one. */
  readonly hosts: string | null;
  /** Ids of mappings; undefined for all that ship. */
  readonly frameworks: readonly string[] | undefined;
  readonly sampling: ExportSampling | null;
  readonly parameters: Partial<EvidenceExport['parameters']>;
};

/** A finished export's file. */
export type ExportFile = {
  /** From one place to another, that included. */
  readonly read: (from: number, to: number) => AsyncIterable<Uint8Array>;
  readonly bytes: number;
  readonly sha256: string;
  /** For whoever keeps it: `evidence-2026-07-01-2026-10-01.zip`. */
  readonly name: string;
};

type Deps = Pick<ExportDeps, 'store' | 'clock' | 'files'>;

export class Exports {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** @throws {EvidenceError | DecisionError} */
  async create(wanted: Wanted, who: Principal): Promise<EvidenceExport> {
    const { store, clock } = this.#deps;
    const may = mustBe(who, 'export evidence', ...EXPORTERS);
    const now = clock();
    checkPeriod(wanted, now);
    const made = await store.evidence.exports.create(
      {
        from: wanted.from,
        to: wanted.to,
        filter: hostsLine(wanted.hosts),
        scope: may.groups,
        frameworks: await frameworksOf(wanted.frameworks),
        sampling: wanted.sampling,
        parameters: { ...PARAMETERS, ...wanted.parameters },
        expiresAt: now + EXPORT_KEPT_MS,
      },
      { actor: who.id, at: now },
      EXPORTS_MAX,
      (id) => exportJob(id, now),
    );
    if (made !== undefined) return made;
    throw new EvidenceError(
      'EVIDENCE_FULL',
      `${EXPORTS_MAX} exports are kept already: delete one that was taken away (DELETE /api/v1/evidence/exports/ID, or on the page)`,
    );
  }

  /** @throws {EvidenceError} EVIDENCE_UNKNOWN */
  async get(id: string, who: Principal): Promise<EvidenceExport> {
    const found = await this.#deps.store.evidence.exports.get(id);
    if (found === undefined || !isTheirs(found, who))
      throw new EvidenceError('EVIDENCE_UNKNOWN', 'there is no such export; its time may be over');
    return found;
  }

  list(
    who: Principal,
    page: PageRequest<{ readonly id: string }>,
  ): Promise<Page<EvidenceExport, { readonly id: string }>> {
    const scope = scopeOf(who);
    if (scope === undefined) return Promise.resolve({ items: [], next: null });
    return this.#deps.store.evidence.exports.list(scope, page);
  }

  /** @throws {EvidenceError | DecisionError} */
  async remove(id: string, who: Principal): Promise<void> {
    const { store, clock, files } = this.#deps;
    mustBe(who, 'delete an export', ...EXPORTERS);
    await this.get(id, who);
    await store.evidence.exports.remove(id, { actor: who.id, at: clock() });
    await files.remove(id);
  }

  /** @throws {EvidenceError} EVIDENCE_STATE where it is not done, or was removed by hand */
  async file(id: string, who: Principal): Promise<ExportFile> {
    const found = await this.get(id, who);
    const { state, file } = found;
    if (state !== 'done' || file === null)
      throw new EvidenceError('EVIDENCE_STATE', `the export is ${state}: there is no file yet`);
    const { files } = this.#deps;
    if (!(await files.has(found, file.bytes)))
      throw new EvidenceError('EVIDENCE_STATE', 'the file is not there any more, it was removed by hand: export again');
    return { read: (from, to) => files.read(found, from, to), ...file, name: Exports.nameOf(found) };
  }

  /** Under which it is saved. */
  static nameOf({ from, to }: Pick<EvidenceExport, 'from' | 'to'>): string {
    const day = (at: Instant): string => formatInstant(at).slice(0, 10);
    return `evidence-${day(from)}-${day(to)}.zip`;
  }

  /** Removes what is over. */
  chore(everyMs: number): Chore {
    return exportChore(this.#deps, everyMs);
  }
}

const scopeOf = (who: Principal): Scope | undefined => acting(who, ...EXPORTERS)?.groups;

/** Whoever sees less than was exported must not have it. */
function isTheirs({ scope }: EvidenceExport, who: Principal): boolean {
  const theirs = scopeOf(who);
  return theirs !== undefined && lies(scope, theirs);
}

function checkPeriod({ from, to }: Pick<Wanted, 'from' | 'to'>, now: Instant): void {
  const wrong =
    from >= to
      ? `it must begin before it ends: from ${formatInstant(from)} to ${formatInstant(to)}`
      : to > now
        ? `it must be over: it is ${formatInstant(now)}, and it ends at ${formatInstant(to)}`
        : to - from > EXPORT_PERIOD_MS
          ? 'it is longer than ten years'
          : undefined;
  if (wrong !== undefined) throw new EvidenceError('EVIDENCE_PERIOD', `the period: ${wrong}`);
}

async function frameworksOf(wanted: readonly string[] | undefined): Promise<readonly string[]> {
  const known = (await shippedFrameworks()).map(({ framework }) => framework.id);
  if (wanted === undefined) return known;
  const strange = wanted.find((id) => !known.includes(id));
  if (strange !== undefined)
    throw new EvidenceError(
      'EVIDENCE_FRAMEWORK',
      `no mapping describes the framework ${JSON.stringify(strange)}; there are ${known.join(', ')}`,
    );
  return known.filter((id) => wanted.includes(id));
}
