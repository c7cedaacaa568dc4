/** A process that writes to a store until it is killed: `writer.ts URL TAG HOSTS`. Prints each acknowledged report on a line of its own. */
import { writeSync } from 'node:fs';
import { openStore } from '#server/store/open.ts';
import type { Severity } from '#server/store/records.ts';
import { absent, admit, present, report, T0 } from './make.ts';

const [url, tag, count] = process.argv.slice(2);
const store = await openStore(url!);
const ids: string[] = [];
for (let n = 0; n < Number(count); n++) ids.push((await admit(store, `${tag} ${n}`)).id);
writeSync(1, 'ready\n');
for (let round = 0; ; round++) {
  const hosts = [...(await store.hosts.getMany(ids)).values()];
  const writes = hosts.map((host, n) => ({
    ...report(host, round % 2 ? 'same' : 'full', T0 + round),
    findings: [0, 1, 2].map((g) => ((g + n + round) % 3 ? present(g, (round % 5) as Severity) : absent(g))),
  }));
  const results = await store.intake(writes);
  const said = writes.flatMap(({ hostId, report }, i) =>
    results[i]?.kind === 'committed' && report !== undefined ? `${hostId} ${report.seq}\n` : [],
  );
  // In one write: what the pipe holds was acknowledged, and a cut line is none.
  writeSync(1, said.join(''));
}
