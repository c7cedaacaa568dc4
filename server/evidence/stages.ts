/** How far an export is, told a few times a second. */
import type { ExportStage, StageProgress } from '#server/store/evidencerecords.ts';

const TELL_MS = 250;

export class Stages {
  readonly #tell: (progress: readonly StageProgress[], hosts: number | null) => void;
  readonly #progress: StageProgress[] = [];
  #told = 0;
  /** In scope so far. */
  hosts = 0;

  constructor(tell: (progress: readonly StageProgress[], hosts: number | null) => void) {
    this.#tell = tell;
  }

  step(stage: ExportStage, done: number, total: number | null): void {
    const isNew = this.#progress.at(-1)?.stage !== stage;
    if (isNew) this.#progress.push({ stage, done, total });
    else this.#progress[this.#progress.length - 1] = { stage, done, total };
    const now = performance.now();
    if (!isNew && now - this.#told < TELL_MS) return;
    this.#told = now;
    this.#tell([...this.#progress], this.hosts === 0 ? null : this.hosts);
  }
}
