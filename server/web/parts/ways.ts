/** Ways back of one change, as commands to copy, with the hosts for which each is right (design, section 6). */
import { pathOfSubject } from '#src/finding/describe.ts';
import { isSecret } from '#src/drift/redact.ts';
import { shellQuoted } from '#src/terminal.ts';
import type { FindingGroup, Host } from '#server/store/records.ts';
import { commandHtml, html, type Html } from '../html.ts';
import { plural } from '../words.ts';

export type Way = { readonly why: string; readonly commands: readonly string[] };

/** `hosts`: those that the page shows. Nothing where no command is right for all of them. */
export function waysSheet(group: FindingGroup, hosts: readonly Host[]): Html | undefined {
  return waysHtml(hosts.length === 0 ? [] : waysOf(group, hosts));
}

/** A sheet of ways back, each with what it is right for; nothing where there are none. */
export function waysHtml(ways: readonly Way[]): Html | undefined {
  if (ways.length === 0) return undefined;
  return html`<section class="sheet cut-on-paper">
    <header><h2>Ways back</h2></header>
    <div class="pad form">
      ${ways.map(
        ({ why, commands }) =>
          html`<div class="way">
            <p>${why}</p>
            ${commands.map(commandHtml)}
          </div>`,
      )}
    </div>
  </section>`;
}

/**
 * The command by which a path of /etc is as the image has it: away, or copied from the image's own in /usr/etc. `added`: the type of what the
 * image does not have. A folder goes when it is empty alone: what lies in it may be somebody's.
 */
export function takenBack(path: string, added: string | undefined): string {
  if (added === undefined) return `cp -a ${shellPath(`/usr${path}`)} ${shellPath(path)}`;
  return `${added === 'dir' ? 'rmdir' : 'rm'} ${shellPath(path)}`;
}

/** Type of what was added, by the change's signature (src/policy/judgement.ts); undefined where it was not added. */
function addedType(signature: string): string | undefined {
  const [change, ...fields] = signature.split(';');
  if (change !== 'added') return undefined;
  return fields.find((field) => field.startsWith('type='))?.slice('type='.length) ?? 'file';
}

/** A word of a shell's command, whatever bytes it is made of. */
export function shellPath(path: string): string {
  if (/^[\w./@:+=,-]+$/.test(path) && !path.startsWith('-')) return path;
  if (/^[\x20-\x7e]+$/.test(path)) return shellQuoted(path);
  const escaped = Array.from(path, (char) => {
    if (char === "'" || char === '\\') return `\\${char}`;
    return /[\x20-\x7e]/.test(char) ? char : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `$'${escaped.join('')}'`;
}

function waysOf(group: FindingGroup, hosts: readonly Host[]): readonly Way[] {
  const { kind, signature } = group;
  const path = pathOfSubject(group);
  const staged = hosts.filter(({ images }) => images.staged !== null).length;
  const restart: readonly Way[] = [
    ...(staged > 0
      ? [{ why: `${plural(staged, 'host')} shown here, image staged: restart into it`, commands: ['systemctl reboot'] }]
      : []),
    ...(staged < hosts.length
      ? [
          {
            why: `${staged > 0 ? `The other ${plural(hosts.length - staged, 'host')}` : 'Each host'}: fetch the newest, then restart`,
            commands: ['bootc upgrade --apply'],
          },
        ]
      : []),
  ];
  switch (kind) {
    case 'drift':
    case 'secret':
    case 'stale-config':
      if (path === undefined) return [];
      if (path.startsWith('/etc/')) {
        const added = addedType(String(signature));
        if (added !== undefined)
          return [
            {
              why: `On each host: take it away${added === 'dir' ? ', after what lies in it' : ''}`,
              commands: [takenBack(path, added)],
            },
          ];
        if (isSecret(path)) return [];
        return [
          {
            why: 'On each host: the image’s own still lies in /usr/etc',
            commands: [takenBack(path, undefined)],
          },
        ];
      }
      return path.startsWith('/usr/') ? restart : [];
    case 'overlay':
      if (String(signature).startsWith('sysext'))
        return [{ why: 'On each host: take the extensions off', commands: ['systemd-sysext unmerge'] }];
      if (String(signature).startsWith('confext'))
        return [{ why: 'On each host: take the extensions off', commands: ['systemd-confext unmerge'] }];
      if (String(signature).startsWith('usr-overlay'))
        return [{ why: 'The overlay is gone with the next restart', commands: ['systemctl reboot'] }];
      return restart;
    case 'layered':
      return [
        {
          why: 'Takes all layered packages away, with the next restart',
          commands: ['rpm-ostree reset', 'systemctl reboot'],
        },
      ];
    case 'outdated':
    case 'rollback':
      return restart;
    case 'provenance':
      return [
        { why: 'The deployment before is still there on most hosts', commands: ['bootc rollback', 'systemctl reboot'] },
      ];
    default:
      return [];
  }
}
