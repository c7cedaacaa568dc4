/** Ways back to the image, as commands to copy: only those that are right for what this host shows. */
import { pathOfSubject } from '#src/finding/describe.ts';
import { isSecret } from '#src/drift/redact.ts';
import type { JudgementKind } from '#src/policy/judgement.ts';
import type { About } from './hostabout.ts';
import { shellPath, takenBack, type Way } from './parts/ways.ts';
import { count } from './words.ts';

/** Files of /etc that are named one by one. */
const FILES_MAX = 4;

/** What would bring this host back, least first. Empty where nothing is wrong, or where it cannot be told. */
export function waysOf({ examined, findings, view }: Pick<About, 'examined' | 'findings' | 'view'>): readonly Way[] {
  const deployment = examined?.report.deployment;
  if (deployment === undefined || examined === undefined) return [];
  const open = findings.filter(({ status }) => status === 'open' || status === 'acknowledged');
  const ways: Way[] = [];
  const drift = new Map(examined.contents.drift.map((line) => [line.path, line]));
  const etc: { readonly path: string; readonly added: string | undefined }[] = [];
  let lost = 0;
  let usr = false;
  for (const { group } of open) {
    const kind = group.kind as JudgementKind;
    const path = pathOfSubject({ kind, subject: group.subject });
    if (path === undefined) continue;
    if (path.startsWith('/usr')) usr ||= kind === 'drift';
    // The image's own shadow would lock everybody out: what is secret is left to a person.
    else if ((kind === 'drift' || kind === 'stale-config') && !isSecret(path)) {
      if (etc.length >= FILES_MAX) lost++;
      else {
        const line = drift.get(path);
        etc.push({ path, added: line?.change === 'added' ? line.actual.type : undefined });
      }
    }
  }
  for (const { kind, path, detail } of deployment.overlays) {
    if (kind === 'usr-overlay')
      ways.push({
        why: 'The overlay on /usr is gone after a restart, with all that was changed in it.',
        commands: ['systemctl reboot'],
      });
    if (kind === 'hotfix')
      ways.push({
        why: 'A hotfix lies over /usr and stays over restarts. The next deployment is without it.',
        commands: ['bootc upgrade --apply'],
      });
    if (kind === 'sysext' || kind === 'confext')
      ways.push({
        why: `${kind === 'sysext' ? 'System' : 'Configuration'} extensions are merged over ${path}: ${detail.slice(0, 200)}.`,
        commands: [`systemd-${kind} unmerge`],
      });
    if (kind === 'bind')
      ways.push({ why: `Something is mounted over ${path}.`, commands: [`umount ${shellPath(path)}`] });
  }
  if (etc.length > 0)
    ways.push({
      why: `What /etc had from the image still lies in /usr/etc.${lost > 0 ? ` ${count(lost)} more files likewise.` : ''}`,
      commands: foldersLast(etc).map(({ path, added }) => takenBack(path, added)),
    });
  if ((deployment.booted?.layered.length ?? 0) > 0)
    ways.push({
      why: 'Packages are layered over the image. This takes all of them away, with the next restart.',
      commands: ['rpm-ostree reset', 'systemctl reboot'],
    });
  if (usr && !deployment.overlays.some(({ kind }) => kind === 'usr-overlay' || kind === 'hotfix'))
    ways.push({
      why: 'Files of the deployment itself are not as the image has them: deploy it anew.',
      commands: ['ostree fsck', 'bootc upgrade --apply'],
    });
  const bad = view.verdict === 'drifted' || view.verdict === 'unsigned';
  if (bad && deployment.staged !== null)
    ways.push({ why: 'A newer image is staged and waits for a restart.', commands: ['systemctl reboot'] });
  if (bad && deployment.rollback !== null)
    ways.push({ why: 'The deployment before is still there.', commands: ['bootc rollback', 'systemctl reboot'] });
  if (view.verdict === 'unsigned' && deployment.booted?.image?.reference != null)
    ways.push({
      why: 'To an image that is signed; from then on pulls demand it.',
      commands: [`bootc switch --enforce-container-sigpolicy ${shellPath(deployment.booted.image.reference)}`],
    });
  return ways;
}

/** Folders that were added go after what lies in them, the deepest first. */
function foldersLast<T extends { readonly path: string; readonly added: string | undefined }>(all: readonly T[]): T[] {
  const folders = all.filter(({ added }) => added === 'dir');
  return [...all.filter(({ added }) => added !== 'dir'), ...folders.sort((a, b) => b.path.length - a.path.length)];
}
