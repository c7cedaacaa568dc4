/** Gives what was logged its place in the evidence log, signs and publishes (docs/log.md): in whichever process comes first. */
import type { EvidenceLog } from '#server/log/evidencelog.ts';
import type { Chore } from './runner.ts';

/** Within a second after its commit; oftener costs more checkpoints than it is worth. */
const MOST_MS = 1000;
const LEAST_MS = 200;

export function logChore(evidence: Pick<EvidenceLog, 'turn'>, everyMs: number): Chore {
  return {
    name: 'log',
    everyMs: Math.min(Math.max(everyMs, LEAST_MS), MOST_MS),
    run: () => evidence.turn(),
  };
}
