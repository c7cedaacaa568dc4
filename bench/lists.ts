/**
 * How long a page and its count take on a large fleet: 100,000 hosts, 20,000 groups, 1.9 million findings of which a tenth is open, as
 * rows made inside the database. Through the store's own reads, so each figure is what an answer waits for.
 */
import { sql } from 'kysely';
import { parseFilter } from '#src/finding/filter.ts';
import { openEngine, storeOn } from '#server/store/open.ts';
import type { Engine } from '#server/store/engine.ts';

const GROUPS = 20_000;
const PER_HOST = 19;
const NOW = Date.UTC(2026, 10, 24);

/** Fills an empty store. Numbers follow from row numbers, so every run has the same fleet. */
export async function seedFleet(engine: Engine, hosts: number): Promise<void> {
  const groups = Math.min(GROUPS, hosts);
  await engine.write(async ({ db }) => {
    const run = (text: string) => sql.raw(text).execute(db);
    // Making the fleet takes longer than any statement of a server may.
    if (engine.kind === 'postgres') await run('set local statement_timeout = 0');
    const numbers = (n: number) =>
      `with recursive n(i) as (select cast(0 as bigint) union all select i + 1 from n where i < ${n - 1})`;
    await run(`insert into host (id, name, name_fold, machine_id, public_key, state, host_group, labels, token_id, created_at,
        facts, image_booted, image_staged, image_rollback, rule, verdict, rank, since, integrity, provenance, allowed, waived,
        reasons, drift, open0, open1, open2, open3, open4, acknowledged, waived_findings)
      ${numbers(hosts)} select 'h_' || (1000000 + i), 'host-' || i, 'host-' || i, 'm' || i, 'k' || i, 'active',
        case i % 5 when 0 then 'lab' when 1 then 'prod/web' else 'prod' end, '{}', null, ${NOW}, null,
        'sha256:' || (i % 40), null, null, 'ostree/1', case when i % 5 < 2 then 'drifted' else 'compliant' end,
        case when i % 5 < 2 then 43 else 0 end, ${NOW}, 'drifted', 'trusted', 0, 0, '[]', null, 0, 0, 0, 1, 0, 0, 0 from n`);
    await run(`insert into pulse (host_id, revision, state, verdict, head_seq, full_seq, full_digest, same_count, recent, doubts,
        last_seq, last_kind, last_class, last_started, last_received, live_at, report_interval, late_after, silent_after,
        silence_noted)
      select id, 1, state, verdict, 1, 1, 'sha256:x', 0, ${engine.kind === 'sqlite' ? "x''" : "''::bytea"}, '{}', 1, 'full', 'live',
        ${NOW}, ${NOW}, ${NOW}, 900000, ${NOW + 1_800_000}, ${NOW + 3_600_000}, 0 from host`);
    await run(`insert into host_label (host_id, key, value) select id, 'site', image_booted from host`);
    await run(`insert into finding_group (id, rule, kind, subject, signature, sev, is_open, first_seen, last_new_at, status)
      ${numbers(groups)} select 'fg_' || (1000000 + i), 'rule-' || (i % 30), 'drift', '/usr/lib/d' || (i % 700) || '/file-' || i,
        '"modified;sha256=' || i || '"', (i * 7) % 5, 1, ${NOW} - (i % 997) * 3600000, ${NOW} - (i % 997) * 60000, 0 from n`);
    await run(`insert into finding (host_id, group_id, is_open, disposition, sev, first_seen, opened_at, resolved_at, episode,
        waiver_id, detail, until)
      ${numbers(hosts)}, k(j) as (select cast(0 as bigint) union all select j + 1 from k where j < ${PER_HOST - 1})
      select 'h_' || (1000000 + i), 'fg_' || (1000000 + (i * 31 + j * 61) % ${groups}),
        case when (i + j) % 10 = 0 then 1 else 0 end,
        case when (i + j) % 400 = 0 then 2 when (i + j) % 200 = 0 then 1 else 0 end,
        (i + j) % 5, ${NOW} - 3600000, ${NOW} - (i + j) * 1000, null, 1,
        case when (i + j) % 400 = 0 then 'W-1' else null end, '{"reason":"r","verdict":"drifted","controls":[]}',
        case when (i + j) % 200 = 0 then ${NOW + 86_400_000} else null end from n, k`);
    await run(`insert into group_count (group_id, open, acknowledged, waived, ever, reopened)
      select group_id, sum(case when is_open = 1 and disposition = 0 then 1 else 0 end),
        sum(case when is_open = 1 and disposition = 1 then 1 else 0 end),
        sum(case when is_open = 1 and disposition = 2 then 1 else 0 end), count(*), 0 from finding group by group_id`);
    await run(`update finding_group set status = coalesce((select case when open > 0 then 0 when acknowledged > 0 then 1
        when waived > 0 then 2 else 3 end from group_count where group_id = finding_group.id), 3)`);
    await run(`update finding_group set is_open = case when status < 3 then 1 else 0 end`);
    if (engine.kind === 'postgres') await run('analyze');
  });
}

/** Filters as people type them: wide, narrow, of hosts, of groups, none. */
const LINES = [
  '',
  'sev:>=high',
  'path:/usr/lib/d1*/**',
  'group:lab',
  '-group:lab is:stale',
  'label:site=sha256:7',
  'host:host-77',
  'waiver:W-1',
  'file-1999',
];

/** The table's rows: a page and a count of each list, the slower of three rounds each. */
export async function benchLists(url: string, hosts = 100_000): Promise<string> {
  const engine = await openEngine(url);
  try {
    const began = performance.now();
    await seedFleet(engine, hosts);
    process.stderr.write(`seeded in ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
    const { read } = storeOn(engine);
    const rows: string[] = [];
    for (const text of LINES) {
      const filter = { line: parseFilter(text), now: NOW };
      const times = [
        await slowest(() => read.groups(filter, 'severity', { cursor: null, limit: 50 })),
        await slowest(() => read.groups({ ...filter, tab: 'open' }, 'recent', { cursor: null, limit: 50 })),
        await slowest(() => read.countGroups(filter, 10_000)),
        await slowest(() => read.findings(filter, { cursor: null, limit: 50 })),
        await slowest(() => read.countFindings(filter, 10_000)),
      ];
      rows.push(`| ${text === '' ? '(none)' : `\`${text}\``} | ${times.map((ms) => ms.toFixed(1)).join(' | ')} |`);
    }
    const verdicts = await slowest(() => read.verdicts(NOW));
    const fleet = await slowest(() =>
      read.hosts({ now: NOW, verdicts: ['drifted'] }, 'attention', { cursor: null, limit: 50 }),
    );
    rows.push(
      `| hosts: counts by verdict ${verdicts.toFixed(1)}, drifted by attention ${fleet.toFixed(1)} | | | | | |`,
    );
    return rows.join('\n');
  } finally {
    await engine.close();
  }
}

async function slowest(act: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < 3; round++) {
    const began = performance.now();
    await act();
    times.push(performance.now() - began);
  }
  return Math.max(...times.slice(1));
}
