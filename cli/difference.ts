/** How a host changed a text file of /etc, as `diff -u` shows it: nothing in it can act on the terminal, and signs say it without colour. */
import { DIFF_SIGNS, hunkHead, NO_NEWLINE, type Hunk } from '#src/drift/linediff.ts';
import { EXIT, shownText, type Exit, type Io } from '#src/terminal.ts';
import { painter } from '#agent/present.ts';

// As the API answers (server/api/differences.ts).
export type Difference = {
  readonly host: { readonly id: string; readonly name: string } | null;
  readonly path: string;
  readonly seq: number | null;
  readonly change: 'added' | 'modified' | null;
  readonly hidden: { readonly why: string; readonly text: string } | null;
  readonly hunks: readonly Hunk[];
};

/** Whether there is something to say: a difference, or why one that is there is not shown. */
export const isTold = ({ hidden }: Difference): boolean => hidden?.why !== 'no-content';

/** 1 where a difference is shown, 2 where it is not. */
export async function tellDifference(difference: Difference, io: Io): Promise<Exit> {
  const { host, path, seq, change, hidden, hunks } = difference;
  if (hidden !== null) {
    await io.stdout.write(`what changed in ${shownText(path)} is not shown: ${shownText(hidden.text)}\n`);
    return EXIT.unknown;
  }
  const paint = painter(io.stdout, io.env);
  const styles = { same: undefined, del: 'red', add: 'green' } as const;
  const lines = [
    paint('bold', `--- ${change === 'added' ? '/dev/null' : `/usr${shownText(path)}`}  (the image)`),
    paint('bold', `+++ ${shownText(path)}  (${shownText(host?.name ?? '')}, report ${seq})`),
  ];
  for (const hunk of hunks) {
    lines.push(paint('dim', hunkHead(hunk)));
    for (const { kind, text, open } of hunk.lines) {
      // A tab moves the cursor forward and nothing else, and configuration is full of them.
      const line = `${DIFF_SIGNS[kind]}${text.split('\t').map(shownText).join('\t')}`;
      const style = styles[kind];
      lines.push(style === undefined ? line : paint(style, line));
      if (open === true) lines.push(NO_NEWLINE);
    }
  }
  await io.stdout.write(`${lines.join('\n')}\n`);
  return EXIT.different;
}
