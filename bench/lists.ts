/**
 * How long a page and its count take on a large fleet: 100,000 hosts, 20,000 groups, 1.9 million findings of which a tenth is open, as
 * rows made inside the database; every list that is offered, with every filter and sort (test/server/store/offered.ts), through the store's
 * own reads, so each figure is what an answer waits for. And how long a commit of reports takes while somebody lists.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sql, type CompiledQuery, type Kysely } from 'kysely';
import { parseFilter } from '#src/finding/filter.ts';
import { openEngine, storeOn } from '#server/store/open.ts';
import type { Engine } from '#server/store/engine.ts';
import { StoreError } from '#server/store/store.ts';
import { report } from '#test/server/store/make.ts';
import { hostFilters, lines, offered, planOf, recording, type Named } from '#test/server/store/offered.ts';

const GROUPS = 20_000;
const PER_HOST = 19;
const NOW = Date.UTC(2026, 10, 24);
/** An id of a host as servers give them, out of a number: digits that their alphabet lacks become letters. */
const hostId = (n: number): string =>
  `h_zzzzzzzzzzzzzzzzzzz${String(1_000_000 + n).replaceAll(/[0189]/g, (digit) => ({ 0: 'a', 1: 'b', 8: 'c', 9: 'd' })[digit]!)}`;
const HOST_ID = `('h_zzzzzzzzzzzzzzzzzzz' || replace(replace(replace(replace(cast(1000000 + i as text), '0', 'a'), '1', 'b'), '8', 'c'), '9', 'd'))`;
const NAMED: Named = {
  now: NOW,
  host: hostId(77),
  hostName: 'host-77',
  group: 'fg_1001999',
  image: 'sha256:7',
  hostGroup: 'lab',
  label: 'site=sha256:7',
  waiver: 'W-1',
};

/** Fills an empty store. Numbers follow from row numbers, so every run has the same fleet; rows are as wide as real ones. */
async function seedFleet(engine: Engine, hosts: number): Promise<void> {
  const groups = Math.min(GROUPS, hosts);
  const isSqlite = engine.kind === 'sqlite';
  const wide = isSqlite ? `hex(zeroblob(1500))` : `repeat('0', 3000)`;
  const bytes = (n: number) => (isSqlite ? `zeroblob(${n})` : `decode(repeat('00', ${n}), 'hex')`);
  // Of host i and its j-th finding.
  const group = `((i * 7919 + j * 10007) % ${groups})`;
  const mixed = `((i * 13 + j * 29 + i / 97) % 10)`;
  const decided = `((i / 10 + j * 7) % 40)`;
  await engine.write(async ({ db }) => {
    const run = (text: string) => sql.raw(text).execute(db);
    // Making the fleet takes longer than any statement of a server may.
    if (!isSqlite) await run('set local statement_timeout = 0');
    const numbers = (n: number) =>
      `with recursive n(i) as (select cast(0 as bigint) union all select i + 1 from n where i < ${n - 1})`;
    await run(`insert into host (id, name, name_fold, machine_id, public_key, state, host_group, labels, token_id, created_at,
        facts, image_booted, image_staged, image_rollback, rule, verdict, rank, since, integrity, provenance, allowed, waived,
        reasons, drift, open0, open1, open2, open3, open4, acknowledged, waived_findings)
      ${numbers(hosts)} select ${HOST_ID}, 'host-' || i, 'host-' || i, 'm' || i, 'k' || i, 'active',
        case i % 5 when 0 then 'lab' when 1 then 'prod/web' else 'prod' end, '{}', null, ${NOW}, '{"wide":"' || ${wide} || '"}',
        'sha256:' || (i * 7 % 40), null, 'sha256:' || (i * 3 % 40), 'ostree/1',
        case when i % 7 < 2 then 'drifted' else 'compliant' end, case when i % 7 < 2 then 43 else 0 end, ${NOW},
        case when i % 7 < 2 then 'drifted' else 'intact' end, 'trusted', 0, 0, '[]', null, 0, 0, 0, 1, 0, 0, 0 from n`);
    await run(`insert into pulse (host_id, revision, state, verdict, head_seq, full_seq, full_digest, same_count, recent, doubts,
        last_seq, last_kind, last_class, last_started, last_received, live_at, report_interval, late_after, silent_after,
        silence_noted, same_envelope)
      ${numbers(hosts)} select ${HOST_ID}, 1, 'active', case when i % 7 < 2 then 'drifted' else 'compliant' end, 1, 1,
        'sha256:x', 0, ${bytes(38)}, '{"boots":[],"gaps":[],"flags":{}}', 1, 'full', 'live', ${NOW}, ${NOW}, ${NOW}, 900000,
        case when i % 50 = 0 then ${NOW - 1000} else ${NOW + 1_800_000} end,
        case when i % 100 = 0 then ${NOW - 1000} else ${NOW + 3_600_000} end, 0, ${bytes(1200)} from n`);
    await run(`insert into host_label (host_id, key, value) select id, 'site', image_booted from host`);
    await run(`insert into finding_group (id, rule, kind, subject, signature, sev, is_open, first_seen, last_new_at, status)
      ${numbers(groups)} select 'fg_' || (1000000 + i), 'rule-' || (i % 30), 'drift',
        case i % 4 when 0 then '/etc/d' else '/usr/lib/d' end || (i % 700) || '/file-' || i,
        '"modified;sha256=' || i || '"', (i * 7) % 5, 1, ${NOW} - (i % 997) * 3600000, ${NOW} - (i % 997) * 60000, 0 from n`);
    await run(`insert into finding (host_id, group_id, is_open, disposition, sev, first_seen, opened_at, resolved_at, episode,
        waiver_id, detail, until)
      ${numbers(hosts)}, k(j) as (select cast(0 as bigint) union all select j + 1 from k where j < ${PER_HOST - 1}),
      all_of(i, j, g, o, d) as (select i, j, ${group}, case when ${mixed} = 0 and ${group} % 10 <> 3 then 1 else 0 end, ${decided}
        from n, k)
      select ${HOST_ID}, 'fg_' || (1000000 + g), o,
        case when o = 0 then 0 when d = 0 then 2 when d = 1 then 1 else 0 end, (g * 7) % 5, ${NOW} - 3600000,
        ${NOW} - ((i * 37 + j * 7919) % 1000000) * 1000, case o when 1 then null else ${NOW} end, 1 + (i + j) % 50 / 49,
        case when o = 1 and d = 0 then 'W-' || (1 + i % 3) end, '{"reason":"r","verdict":"drifted","controls":[]}',
        case when o = 1 and d < 2 then ${NOW + 86_400_000} else null end from all_of`);
    await run(`insert into group_count (group_id, open, acknowledged, waived, ever, reopened)
      select group_id, sum(case when is_open = 1 and disposition = 0 then 1 else 0 end),
        sum(case when is_open = 1 and disposition = 1 then 1 else 0 end),
        sum(case when is_open = 1 and disposition = 2 then 1 else 0 end), count(*),
        sum(case when is_open = 1 and episode > 1 then 1 else 0 end) from finding group by group_id`);
    await run(`update finding_group set status = coalesce((select case when open > 0 then 0 when acknowledged > 0 then 1
        when waived > 0 then 2 else 3 end from group_count where group_id = finding_group.id), 3)`);
    await run(`update finding_group set is_open = case when status < 3 then 1 else 0 end`);
  });
  // As the server's own vacuum leaves a table that stands for some hours; it refuses to run in a transaction.
  if (!isSqlite) await engine.reading((db) => sql.raw('vacuum (analyze)').execute(db as unknown as Kysely<never>));
}

type Timed = ReadonlyMap<string, number>;

/** Every offered list by name: the slower of two rounds after one that warms, ms. */
async function timesOf(engine: Engine): Promise<{ readonly times: Timed; readonly whole: readonly string[] }> {
  const asked: CompiledQuery[] = [];
  const store = storeOn(recording(engine, asked));
  const times = new Map<string, number>();
  const whole: string[] = [];
  for (const { name, ask } of offered(NAMED)) {
    let slowest = 0;
    for (let round = 0; round < 3; round++) {
      asked.length = 0;
      const began = performance.now();
      // One that is given up counts with the time after which it was.
      await ask(store).catch((error: unknown) => {
        if (!(error instanceof StoreError) || error.code !== 'STORE_SLOW') throw error;
        process.stderr.write(`${name}: ${error.message}\n`);
      });
      if (round > 0) slowest = Math.max(slowest, performance.now() - began);
    }
    times.set(name, Math.max(slowest, times.get(name) ?? 0));
    for (const query of asked)
      for (const step of await planOf(engine, query))
        if (step.kind === 'scan' && step.index === null && step.table === 'finding')
          whole.push(`${name}: ${step.table}`);
  }
  return { times, whole: [...new Set(whole)] };
}

/** Commits of twenty reports each, one after another, for some seconds: how long each takes, ms, in order of length. */
async function commits(engine: Engine, seconds: number): Promise<readonly number[]> {
  const store = storeOn(engine);
  const ids = Array.from({ length: 20 }, (_, n) => hostId(100 + n));
  const took: number[] = [];
  for (let at = NOW, until = performance.now() + seconds * 1000; performance.now() < until; at += 900_000) {
    const began = performance.now();
    const hosts = await store.hosts.getMany(ids);
    await store.intake(ids.map((id) => report(hosts.get(id)!, 'same', at)));
    took.push(performance.now() - began);
    await sleep(5);
  }
  return took.sort((a, b) => a - b);
}

/** The same while somebody asks for one heavy list after another. */
async function commitsBeside(engine: Engine, seconds: number): Promise<readonly number[]> {
  const { read } = storeOn(engine);
  const over = new AbortController();
  const listing = (async () => {
    const line = parseFilter('-group:lab label:site=sha256:7 nothing-has-this');
    while (!over.signal.aborted) {
      await Promise.all([read.countFindings({ line, now: NOW }, 10_000), read.countGroups({ line, now: NOW }, 10_000)]);
      // As requests come: a list that is read on the event loop would otherwise never let it turn.
      await sleep(1);
    }
  })();
  const took = await commits(engine, seconds);
  over.abort();
  await listing;
  return took;
}

const quantile = (sorted: readonly number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
const ms = (n: number | undefined): string => (n === undefined ? '' : n < 10 ? n.toFixed(1) : n.toFixed(0));

/** The section of RESULTS.md. `places`: engines by name with the URL of an empty store. */
export async function benchLists(places: ReadonlyMap<string, string>, hosts = 100_000): Promise<string> {
  const measured: { readonly name: string; readonly times: Timed; readonly whole: readonly string[] }[] = [];
  const beside: string[] = [];
  for (const [name, url] of places) {
    const engine = await openEngine(url);
    try {
      const began = performance.now();
      await seedFleet(engine, hosts);
      process.stderr.write(`${name}: seeded in ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
      measured.push({ name, ...(await timesOf(engine)) });
      process.stderr.write(`${name}: timed after ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
      const row = (what: string, took: readonly number[]) =>
        beside.push(
          `| ${name}, ${what} | ${took.length} | ${ms(quantile(took, 0.5))} | ${ms(quantile(took, 0.99))} | ${ms(took.at(-1))} |`,
        );
      row('nobody lists', await commits(engine, 8));
      row('heavy lists beside', await commitsBeside(engine, 8));
    } finally {
      await engine.close();
    }
    if (!url.startsWith('sqlite:')) continue;
    // As it was before lists had threads.
    const inline = await openEngine(url, { inlineBytes: Infinity });
    try {
      const took = await commitsBeside(inline, 8);
      beside.push(
        `| ${name}, heavy lists on the event loop | ${took.length} | ${ms(quantile(took, 0.5))} | ${ms(quantile(took, 0.99))} | ${ms(took.at(-1))} |`,
      );
    } finally {
      await inline.close();
    }
  }
  return [
    sectionHead(hosts, measured),
    listTable(measured),
    hostTable(measured),
    restTable(measured),
    besideTable(beside),
  ].join('\n\n');
}

type Measured = readonly { readonly name: string; readonly times: Timed; readonly whole: readonly string[] }[];

function sectionHead(hosts: number, measured: Measured): string {
  const findings = ((hosts * PER_HOST) / 1e6).toFixed(1);
  const all = measured.map(({ name, times, whole }) => {
    const sorted = [...times.values()].sort((a, b) => a - b);
    const [slowest] = [...times].sort(([, a], [, b]) => b - a)[0]!;
    return `${name}: ${sorted.length} questions, median ${ms(quantile(sorted, 0.5))} ms, 99th of a hundred ${ms(quantile(sorted, 0.99))} ms, slowest ${ms(sorted.at(-1))} ms (${slowest.replaceAll('|', '\\|')}); plans that read all of the findings: ${whole.length === 0 ? 'none' : whole.join('; ')}.`;
  });
  return `Milliseconds for a page of 50 and for a count up to 10,000, on ${hosts.toLocaleString('en')} hosts with ${findings} million findings in 20,000 groups, a tenth open; warm, the slower of two rounds, with facts of 3 KB a host. Every list that is offered, with every filter and sort.\n\n${all.join('\n\n')}`;
}

const both = (measured: Measured, fits: (name: string) => boolean): string =>
  measured
    .map(({ times }) => {
      const some = [...times].filter(([name]) => fits(name)).map(([, one]) => one);
      return some.length === 0 ? '' : ms(Math.max(...some));
    })
    .join(' / ');

function listTable(measured: Measured): string {
  const rows = lines(NAMED).map(([text]) => {
    const of = (list: string, counted: boolean) =>
      both(measured, (name) => {
        const isCount = name.endsWith(', counted');
        const [head = '', ...rest] = name.split(', ');
        const asked = rest.join(', ').replace(/, (?:counted|by severity|by recent)$/, '');
        return head.startsWith(`${list} `) && isCount === counted && asked === text;
      });
    return `| \`${text.replaceAll('|', '\\|')}\` | ${of('groups', false)} | ${of('groups', true)} | ${of('findings', false)} | ${of('findings', true)} |`;
  });
  return `Slowest of all tabs, statuses, sorts and places, ${measured.map(({ name }) => name).join(' / ')}:\n\n| filter | groups | groups counted | findings | findings counted |\n|---|---|---|---|---|\n${rows.join('\n')}`;
}

function hostTable(measured: Measured): string {
  const rows = hostFilters(NAMED).map(([text]) => {
    const of = (how: string) => both(measured, (name) => name === `hosts, ${text}, ${how}`);
    return `| \`${text}\` | ${of('by name')} | ${of('by attention')} | ${of('counted')} |`;
  });
  return `| hosts | by name | by attention | counted |\n|---|---|---|---|\n${rows.join('\n')}`;
}

function restTable(measured: Measured): string {
  const rest = [...measured[0]!.times.keys()].filter(
    (name) =>
      !/^(?:groups (?:all|open|acknowledged|waived|resolved)|findings (?:any|open|acknowledged|waived)|hosts), /.test(
        name,
      ),
  );
  return `| other lists | ms |\n|---|---|\n${rest.map((name) => `| ${name} | ${both(measured, (one) => one === name)} |`).join('\n')}`;
}

function besideTable(rows: readonly string[]): string {
  return `Commits of twenty \`same\` reports into that store, read and written, one after another with 5 ms between them, while two heavy counts are asked for all the time:\n\n| | commits in 8 s | median ms | 99th of a hundred | longest |\n|---|---|---|---|---|\n${rows.join('\n')}\n`;
}
