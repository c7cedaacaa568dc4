/** The contract of server/store/store.ts as tests: no list that is offered reads a large table whole, or sorts what has no bound. */
import assert from 'node:assert/strict';
import type { CompiledQuery } from 'kysely';
import { isFull } from '#test/depth.ts';
import { FILTER_FIELDS } from '#src/finding/filter.ts';
import { storeOn } from '#server/store/open.ts';
import { openedEngine, type Suite } from './contract.ts';
import { ADMIN, commit, digest, enrolment, groupId, hostId, present, report, T0 } from './make.ts';
import { lines, offered, planOf, recording, type Named, type Step } from './offered.ts';

/** Tables that grow with hosts, findings or time. All others hold what people wrote down. */
const LARGE = new Set([
  'audit',
  'bulk_item',
  'episode',
  'finding',
  'finding_group',
  'group_change',
  'group_count',
  'host',
  'host_label',
  'host_stay',
  'log_entry',
  'log_payload',
  'pulse',
  'report',
  'verdict_change',
]);

/** Reads of a whole table that stay: what of, and why that is bounded. */
const WHOLE: readonly (readonly [RegExp, string])[] = [
  [
    /^finding_group$/,
    'the set of groups that a word or glob matches: one row of some hundred bytes for each kind of change, not for each host',
  ],
];
/** Sorts that stay. */
const SORTED: readonly (readonly [RegExp, RegExp, string])[] = [
  [/ host:/, /ORDER BY|Sort/, 'the findings of hosts that are named, which are few'],
  [/^waivers, /, /ORDER BY|Sort/, 'waivers are written and decided by people, one by one'],
  [/./, /GROUP BY|DISTINCT|UNION|LAST TERM/, 'sums and sets: as many rows as they have answers'],
  [/changes of a group within a scope/, /ORDER BY|Sort/, 'the newest episodes of one group, on the hosts of the scope'],
];

const complaint = (name: string, step: Step): string | undefined => {
  if (step.kind === 'sort')
    return SORTED.some(([names, what]) => names.test(name) && what.test(step.what)) ? undefined : `sorts: ${step.what}`;
  if (step.kind === 'search' || !LARGE.has(step.table)) return undefined;
  if (step.index === null)
    return WHOLE.some(([table]) => table.test(step.table)) ? undefined : `reads all of ${step.table}`;
  // Past every row of an index is the way of lists; past every host only where the index holds all that is asked.
  const wide = (step.table === 'host' || step.table === 'pulse') && !step.covering;
  return wide && !/by (?:name|attention)/.test(name) ? `reads all rows of ${step.table} by ${step.index}` : undefined;
};

export function plans(suite: Suite): void {
  suite('no list that is offered sorts, or reads a large table whole, whatever its filter', async (url, t) => {
    const { engine } = await openedEngine(t, url);
    const store = storeOn(engine);
    for (let n = 0; n < 3; n++) {
      await store.hosts.admit({ ...enrolment(n), group: 'lab', labels: { site: 'a' } }, ADMIN);
      await commit(store, hostId(n), (host) => ({
        ...report(host, 'full'),
        images: { booted: digest('a'), staged: null, rollback: null },
        findings: [present(1), present(2, 1)],
      }));
    }
    const of: Named = {
      now: T0,
      host: hostId(1),
      hostName: 'host-1',
      group: groupId(1),
      image: digest('a'),
      hostGroup: 'lab',
      label: 'site=a',
      waiver: 'W-1',
    };
    assert.deepEqual(new Set(lines(of).flatMap(([, line]) => line.map(({ field }) => field))), new Set(FILTER_FIELDS));
    const asked: CompiledQuery[] = [];
    const heard = storeOn(recording(engine, asked));
    // So few rows are read whole and sorted at best: made dear, a plan shows whether an index gives the order.
    const settings =
      engine.kind === 'sqlite' ? [] : ['seqscan', 'sort', 'bitmapscan'].map((way) => `enable_${way} = off`);
    const seen = new Map<string, string>();
    const wrong: string[] = [];
    let queries = 0;
    // A plan of PostgreSQL's is dear: every third, and all of them in depth (test/depth.ts).
    const every = isFull || engine.kind === 'sqlite' ? 1 : 3;
    for (const [index, { name, deep, ask }] of [...offered(of)].entries()) {
      if (index % every !== 0) continue;
      asked.length = 0;
      await ask(heard);
      for (const query of asked) {
        if (seen.has(query.sql)) continue;
        seen.set(query.sql, name);
        queries++;
        const plan = await planOf(engine, query, settings);
        for (const step of plan) {
          const what = complaint(name, step);
          if (what !== undefined) wrong.push(`${name}: ${what}\n${query.sql}\n${JSON.stringify(plan)}`);
        }
        // From a cursor the walk begins there, not at its start.
        if (deep && /order by/.test(query.sql) && !plan.some(({ kind }) => kind === 'search'))
          wrong.push(`${name}, from a cursor: walks from the start\n${query.sql}\n${JSON.stringify(plan)}`);
      }
    }
    assert.deepEqual(wrong.slice(0, 5), [], `${wrong.length} of ${queries} queries`);
    assert.ok(queries > 300 / every, `only ${queries} queries were looked at`);
    // The test can fail: a sort that no index serves is seen as one.
    const bad = await engine.reading(async (db) =>
      db.selectFrom('finding').selectAll().orderBy('detail').limit(50).compile(),
    );
    const steps = await planOf(engine, bad, settings);
    assert.ok(
      steps.some((step) => complaint('bad', step)?.startsWith('sorts')),
      JSON.stringify(steps),
    );
  });
}
