/** `bootproof controls` and `bootproof evidence sample`. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { main as controls } from '#cli/controls.ts';
import { main as evidence } from '#cli/evidence.ts';
import { EXIT, UsageError } from '#src/terminal.ts';
import { ran } from '#test/ran.ts';
import { rejectsCode } from '#test/throws.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootproof-controls-'));
after(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

test('controls are listed with their mark, and one is shown with what it does not prove', async () => {
  const listed = await ran(controls, ['list', 'nist-800-53']);
  assert.match(listed.out, /^SI-7 +draft +R-int +Unauthorised change is detected$/m);
  const shown = await ran(controls, ['show', 'pci-dss-4:11.5.2']);
  for (const part of ['draft', 'every 7 days', 'does not prove']) assert.ok(shown.out.includes(part), part);
  const { framework, rules } = JSON.parse((await ran(controls, ['show', 'pci-dss-4:11.5.2', '--json'])).out) as Record<
    string,
    unknown
  >;
  assert.deepEqual([framework, rules], ['pci-dss-4', ['R-int', 'R-inv']]);
});

test('what is asked for in another spelling is told', async () => {
  await assert.rejects(ran(controls, ['show', 'nist-800-53:si-07 (1)']), /did you mean SI-7\(1\)\?/);
  await rejectsCode(() => ran(controls, ['list', 'nist']), UsageError, 'USAGE');
});

test('a mapping that is none is told with its line, and exits as different', async () => {
  const bad = file('bad.yaml', 'format: bootproof.controls/1\nframework: x\n');
  const { exit, out } = await ran(controls, ['check', bad]);
  assert.equal(exit, EXIT.different);
  assert.match(out, /bad\.yaml:1:1: title is missing/);
  assert.equal((await ran(controls, ['check'])).exit, EXIT.ok);
});

test('a sample is drawn from any table, and can be drawn again', async () => {
  const table = file('list.csv', '\uFEFFid,what\r\n1,"a, b"\r\n2,\'=x\r\n3,c\r\n');
  const draw = (...args: string[]) => ran(evidence, ['sample', table, '--seed', 's', ...args]);
  const { out, err } = await draw('--size', '3');
  assert.equal(out.split('\r\n').length, 5);
  assert.ok(out.includes("2,'=x,") && out.includes('"a, b"'), 'cells are as they were');
  assert.match(err, /^3 of 3 drawn/);
  const { drawn } = JSON.parse((await draw('--size', '2', '--column', 'what', '--json')).out) as { drawn: unknown[] };
  assert.equal(drawn.length, 2);
});

const refused: readonly (readonly [what: string, text: string, ...args: string[]])[] = [
  ['no number', 'id\n1\n', '--size', 'x'],
  ['no column', 'id\n1\n', '--size', '1', '--column', 'x'],
  ['an id twice', 'id\n1\n1\n', '--size', '1'],
  ['a row of another length', 'id,x\n1\n', '--size', '1'],
];
for (const [what, text, ...args] of refused)
  test(`no sample from a table with ${what}`, () =>
    rejectsCode(
      () => ran(evidence, ['sample', file('refused.csv', text), '--seed', 's', ...args]),
      UsageError,
      'USAGE',
    ));
