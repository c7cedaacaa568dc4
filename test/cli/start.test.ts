/** What `npm start` prints for people: its commands are typed as they stand. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { access } from '#cli/start.ts';

test('the line that `npm start` prints makes commands find this server, on another port and in a folder with odd letters', (t) => {
  const top = mkdtempSync(join(tmpdir(), 'bootproof-start-'));
  t.after(() => rmSync(top, { recursive: true, force: true }));
  const folder = join(top, "it's $HOME here");
  mkdirSync(folder);
  writeFileSync(join(folder, 'admin-token'), 'bp_admin_abc\n');
  const text = access({ url: 'http://127.0.0.1:8341', adminToken: 'bp_admin_abc', isNewToken: false }, folder);
  const line = /^commands +(export .*)$/m.exec(text)?.[1];
  assert.ok(line !== undefined, text);
  const told = execFileSync('sh', ['-c', `${line}; printf '%s %s' "$BOOTPROOF_SERVER" "$BOOTPROOF_TOKEN"`], {
    encoding: 'utf8',
  });
  assert.equal(told, 'http://127.0.0.1:8341 bp_admin_abc');
});
