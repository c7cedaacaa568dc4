/** The synthetic tree of bench/intake.ts: as many paths as a small server image, 2,000 of them in /etc. */
import type { Entry } from '#src/manifest/entry.ts';
import { dir, file } from '#test/server/fleet.ts';

export function treeOfPaths(): Entry[] {
  const out: Entry[] = [dir('/etc'), dir('/usr')];
  for (const [top, folders, files] of [
    ['/etc', 20, 100],
    ['/usr', 580, 100],
  ] as const)
    for (let f = 0; f < folders; f++) {
      out.push(dir(`${top}/folder-${f}`));
      for (let n = 0; n < files; n++) out.push(file(`${top}/folder-${f}/file-${n}`, `${f} ${n}`));
    }
  return out;
}

/** 100 added files below `top`; of two rounds that follow each other 90 are the same. */
export function addedIn(top: string, round: number): Entry[] {
  return Array.from({ length: 100 }, (_, n) =>
    file(`${top}/added-${String(round * 10 + n).padStart(6, '0')}`, `added ${n}`),
  );
}
