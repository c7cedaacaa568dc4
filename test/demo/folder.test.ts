/** Where `npm start` keeps its things when it may not write here. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { UsageError, type Io } from '#src/terminal.ts';
import { usableFolder } from '#demo/folder.ts';
import { rejectsCode } from '#test/throws.ts';

/** A working folder in which no folder can be made, even by root: a file has the name. */
function place(t: TestContext): { fallback: string; io: Io; said: string[] } {
  const top = mkdtempSync(join(tmpdir(), 'bootproof-place-'));
  const before = process.cwd();
  t.after(() => {
    process.chdir(before);
    rmSync(top, { recursive: true, force: true });
  });
  writeFileSync(join(top, 'bootproof-data'), '');
  process.chdir(top);
  const said: string[] = [];
  const stream = (keep: (text: string) => void) => ({
    isTTY: false,
    columns: 80,
    write: async (text: string | Uint8Array) => keep(String(text)),
  });
  return {
    fallback: join(top, 'tmp'),
    io: { stdout: stream(() => {}), stderr: stream((text) => said.push(text)), env: {} },
    said,
  };
}

const uid = process.getuid!();

test('where this folder cannot be written, one of this user alone is made, used again, and said', async (t) => {
  const { fallback, io, said } = place(t);
  const used = await usableFolder(undefined, fallback, uid, io);
  assert.equal(used, join(fallback, `bootproof-${uid}`));
  assert.equal(statSync(used).mode & 0o777, 0o700);
  assert.match(said.join(''), /cannot be written, so everything is kept in/);
  assert.equal(await usableFolder(undefined, fallback, uid, io), used);
});

test('a place to fall back to that others may write, that is a link, or that another user made is not used', async (t) => {
  const { fallback, io, said } = place(t);
  const other = join(fallback, `bootproof-${uid}`);
  const isRefused = () => rejectsCode(() => usableFolder(undefined, fallback, uid, io), UsageError, 'USAGE');
  mkdirSync(other, { recursive: true });
  chmodSync(other, 0o777);
  await isRefused();
  rmSync(other, { recursive: true });
  mkdirSync(join(fallback, 'theirs'), { mode: 0o700 });
  symlinkSync('theirs', other);
  await isRefused();
  mkdirSync(join(fallback, `bootproof-${uid + 1}`), { mode: 0o700 });
  await rejectsCode(() => usableFolder(undefined, fallback, uid + 1, io), UsageError, 'USAGE');
  assert.deepEqual(said, []);
});
