/** The SQL that PostgreSQL's distributed kin take (docs/durability.md 7), read from the store's own files. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DIALECTS, MIGRATIONS } from '#server/store/migrate.ts';

const root = join(import.meta.dirname, '../../..');
const list = readFileSync(join(root, 'docs/durability.md'), 'utf8').split('## 7 ')[1]!;
const code = (file: string): string =>
  readFileSync(join(root, file), 'utf8')
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|\s)\/\/ .*$/gm, '');

/** What may not stand in the store; and where it does, because it is about SQLite alone or is the exception that the list names. */
const FORBIDDEN: readonly (readonly [rule: string, pattern: RegExp, but?: RegExp])[] = [
  ['no-sequence', /\b(?:serial|bigserial|nextval|setval|autoincrement|create sequence|as identity)\b/i],
  ['no-trigger', /\b(?:create (?:or replace )?(?:trigger|function|procedure)|foreign key|references \w+ ?\()/i],
  ['no-table-lock', /\block table\b|\bpg_(?:try_)?advisory_\w+/i, /postgres\.ts: pg_advisory_xact_lock$/],
  [
    'no-session',
    /\b(?:listen|notify|unlisten) \w+;?['`]|\bdeclare \w+ cursor\b|\bcreate temp(?:orary)? table\b|\bprepare transaction\b/i,
  ],
  [
    'no-physical',
    /\b(?:ctid|xmin|tablesample)\b|\btruncate (?:table )?\w+|\bcluster \w+ using\b|\bvacuum\b/i,
    /copy\.ts: vacuum$/,
  ],
];

test('nothing in the store is SQL that the distributed kin do not take', () => {
  const found: string[] = [];
  for (const file of globSync('server/store/**/*.ts', { cwd: root }))
    for (const [rule, pattern, but] of FORBIDDEN)
      for (const [text] of code(file).matchAll(new RegExp(pattern, `${pattern.flags}g`)))
        if (but?.test(`${file}: ${text}`) !== true) found.push(`${rule}: ${file}: ${text}`);
  assert.deepEqual(found, []);
});

for (const [text, rule] of [
  [`create table t (id bigserial)`, 'no-sequence'],
  [`select nextval('n')`, 'no-sequence'],
  [`create trigger t before insert`, 'no-trigger'],
  [`host_id text references host (id)`, 'no-trigger'],
  [`lock table host`, 'no-table-lock'],
  [`select pg_advisory_lock(1)`, 'no-table-lock'],
  [`sql\`listen reports\``, 'no-session'],
  [`create temp table t (n int)`, 'no-session'],
  [`delete from job where ctid in`, 'no-physical'],
  [`truncate job`, 'no-physical'],
] as const)
  test(`${JSON.stringify(text)} would be found`, () => {
    assert.deepEqual(
      FORBIDDEN.filter(([, pattern]) => pattern.test(text)).map(([name]) => name),
      [rule],
    );
  });

const PLAIN =
  /^(?:create (?:unique )?index \w+ on|create table \w+ \(|drop index \w+$|alter table \w+ add column \w+ \w+(?: collate "C")?(?: not null default (?:'[^']*'|-?[0-9]+))?$|insert into \w+|update \w+ set)/;

test('migrations only create, add and fill', () => {
  for (const schema of MIGRATIONS)
    for (const statement of schema(DIALECTS.postgres)) assert.match(statement.trim().replace(/\s+/g, ' '), PLAIN);
  for (const wrong of [
    'alter table host alter column name type text',
    'alter table host add column n bigint not null',
    'drop table host',
  ])
    assert.doesNotMatch(wrong, PLAIN);
});

test('the list in the docs names each rule that is held here, and no other', () => {
  const told = [...list.matchAll(/^\| ([a-z0-9-]+) \|/gm)].map(([, rule]) => rule).filter((rule) => rule !== 'rule');
  // The last two are held by running: contract-intake.ts (writers at once) and postgres.test.ts (40001).
  assert.deepEqual(told, [...FORBIDDEN.map(([rule]) => rule), 'plain-ddl', 'ordered-locks', 'retry-40001']);
});
