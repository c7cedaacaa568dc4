import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import { comparisonEntry, comparisonText } from '#src/drift/redact.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { extraText, mainText } from '#src/manifest/mtree.ts';
import { digestTree, textDigests } from '#src/manifest/treedigest.ts';

const sha256 = (data: string | Uint8Array) => hash('sha256', data, 'hex');
const dir = (path: string): Entry => ({ path, type: 'dir', mode: 0o755, uid: 0, gid: 0 });
const file = (path: string): Entry => ({
  path,
  type: 'file',
  mode: 0o600,
  uid: 0,
  gid: 0,
  size: 3,
  sha256: sha256(path),
});
const etc = [dir('/etc'), file('/etc/passwd'), { ...file('/etc/ping'), capability: 'AQ==' }, file('/etc/shadow')];
const usr = [dir('/usr'), dir('/usr/etc'), file('/usr/etc/shadow')];

test('the digests are what sha256sum says of the texts', () => {
  const { texts, digests } = digestTree(etc, sha256, comparisonText);
  assert.deepEqual(texts, { main: mainText(etc), extra: extraText(etc) });
  assert.equal(digests.entries, 4);
  assert.equal(digests.main.full, `sha256:${sha256(mainText(etc))}`);
  assert.equal(digests.main.comparison, `sha256:${sha256(mainText([...etc.slice(0, 3), comparisonEntry(etc[3]!)]))}`);
  assert.equal(digests.extra, `sha256:${sha256('./etc/ping\tsecurity.capability=0sAQ==\n')}`);
});

test('/usr has no secrets: its full and comparison digests are one', () => {
  const { digests } = digestTree(usr, sha256, comparisonText);
  assert.equal(digests.main.full, digests.main.comparison);
});

test('texts read back have the same digests', () => {
  for (const entries of [etc, usr]) {
    const { texts, digests } = digestTree(entries, sha256, comparisonText);
    assert.deepEqual({ ...textDigests(texts, sha256, comparisonText), entries: entries.length }, digests);
  }
});
