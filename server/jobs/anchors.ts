/** Asks witnesses and timestamp authorities that are due, and tells of what must not wait (docs/log.md 8). */
import type { Anchors } from '#server/log/anchors.ts';
import type { EvidenceLog } from '#server/log/evidencelog.ts';
import { tellAlarms, type AlarmDeps } from '#server/notices/alarm.ts';
import type { Chore } from './runner.ts';

export type AnchorChoreDeps = AlarmDeps & {
  readonly anchors: Pick<Anchors, 'turn' | 'standing'>;
  readonly evidence: Pick<EvidenceLog, 'published' | 'refusal'>;
};

export function anchorChore(deps: AnchorChoreDeps, wake: () => void, everyMs: number): Chore {
  return {
    name: 'anchors',
    everyMs,
    run: async () => {
      const { anchors, evidence } = deps;
      await anchors.turn();
      const { alarms } = await anchors.standing(evidence.published?.checkpoint.origin);
      const told = alarms.map(({ name, trouble }) => ({ subject: name, text: trouble!.text }));
      const { refusal } = evidence;
      if (refusal !== undefined) told.push({ subject: 'unsigned', text: `nothing is signed: ${refusal.message}` });
      if (await tellAlarms(told, deps)) wake();
    },
  };
}
