/** `/metrics` whole: every name that the dashboard, the alerts and the docs use is there, and what happens to reports is counted. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { enrol, image, serverFor } from './fleet.ts';

const OPERATING = join(import.meta.dirname, '../../docs/operating');
const read = (name: string): string => readFileSync(join(OPERATING, name), 'utf8');

type Sample = { readonly name: string; readonly labels: string; readonly value: number };
const samplesOf = (text: string): Sample[] =>
  text.split('\n').flatMap((line) => {
    const match = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    return match === null ? [] : [{ name: match[1]!, labels: match[2] ?? '', value: Number(match[3]) }];
  });

test('what becomes of reports is counted, and every name that is used elsewhere is told', async (t) => {
  const os = image('os');
  const server = await serverFor(t, { images: [os] });
  const host = await enrol(server, os);
  await host.sendFull();
  const wrong = await fetch(`${server.server.url}/api/v1/reports`, { method: 'POST', body: 'no envelope' });
  assert.equal(wrong.status, 400);
  const answer = await fetch(`${server.server.url}/metrics`, { headers: { authorization: `Bearer ${server.admin}` } });
  assert.equal(answer.status, 200);
  const text = await answer.text();
  const samples = samplesOf(text);
  const of = (name: string, labels = '') =>
    samples.find((one) => one.name === name && one.labels === labels)?.value ?? assert.fail(`${name}{${labels}}`);
  assert.equal(of('bootproof_intake_total', 'outcome="accepted"'), 1);
  assert.equal(of('bootproof_intake_total', 'outcome="refused"'), 1);
  assert.equal(of('bootproof_intake_refusals_total', 'code="ENVELOPE_SYNTAX"'), 1);
  assert.ok(of('bootproof_intake_batch_reports_count') >= 1);
  assert.ok(of('bootproof_intake_commit_seconds_count') >= 1);
  assert.equal(of('bootproof_intake_waiting', 'at="open"'), 0);
  assert.equal(of('bootproof_report_seconds_count'), 2);
  assert.ok(of('bootproof_store_bytes', 'part="database"') > 100_000);
  assert.ok(of('bootproof_store_bytes', 'part="free"') > 0);
  assert.deepEqual([of('bootproof_ready'), of('bootproof_degraded')], [1, 0]);
  assert.ok(!text.includes(host.id), 'no label names a host');

  const told = new Set(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name, type]) =>
      type === 'histogram' ? ['bucket', 'sum', 'count'].map((part) => `${name}_${part}`).concat(name!) : [name!],
    ),
  );
  const used = (what: string) => new Set(what.match(/\bbootproof_[a-z0-9_]+[a-z]\b/g));
  const alerts = read('alerts.yaml');
  const dashboard = read('dashboard.json');
  assert.ok(used(alerts).size > 15 && used(dashboard).size > 15);
  for (const [where, what] of [
    ['alerts.yaml', alerts],
    ['dashboard.json', dashboard],
  ] as const)
    assert.deepEqual(
      [...used(what)].filter((name) => !told.has(name)),
      [],
      where,
    );
});

type Rule = {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook_url?: string };
};

test('each alert says what is wrong and what to do, and its page has a section for it', () => {
  const { groups } = parse(read('alerts.yaml')) as { groups: { name: string; rules: Rule[] }[] };
  const page = readFileSync(join(OPERATING, '../operating.md'), 'utf8');
  const rules = groups.flatMap((group) => group.rules);
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
  for (const { alert, expr, labels, annotations } of rules) {
    assert.match(alert, /^Bootproof[A-Z]\w+$/);
    assert.match(labels.severity, /^(?:critical|warning)$/, alert);
    assert.ok(annotations.summary.length > 10 && annotations.description.length > 40 && expr.length > 5, alert);
    assert.ok(page.includes(`| ${alert} |`), `docs/operating.md says what to do about ${alert}`);
  }
});

test('the dashboard is one that Grafana imports: panels with queries, each in its place', () => {
  const { title, panels, templating } = JSON.parse(read('dashboard.json')) as {
    title: string;
    templating: { list: { name: string; type: string }[] };
    panels: {
      id: number;
      title: string;
      type: string;
      gridPos: { x: number; y: number; w: number; h: number };
      targets?: { expr: string; refId: string }[];
    }[];
  };
  assert.equal(title, 'Bootproof');
  assert.deepEqual(
    templating.list.map(({ type }) => type),
    ['datasource', 'query'],
  );
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const cells = new Set<string>();
  for (const { title: name, type, gridPos, targets = [] } of panels) {
    assert.ok(type === 'row' || targets.length > 0, name);
    for (const { expr } of targets) assert.match(expr, /bootproof_\w+(?:\{[^}]*instance=~"\$instance"[^}]*\})/, name);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.ok(x < 24 && !cells.has(`${x},${y}`), `${name} lies over another`);
        cells.add(`${x},${y}`);
      }
  }
});
