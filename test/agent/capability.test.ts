import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { capabilityText } from '#agent/capability.ts';
import { scan } from '#agent/scan.ts';
import { emptyRoot, has, isRoot } from './roots.ts';

const texts = [
  ['AQAAAgAgAAAAAAAAAAAAAAAAAAA=', 'cap_net_raw=ep'],
  ['AAAAAgAgAAAAAAAAAAAAAAAAAAA=', 'cap_net_raw=p'],
  ['AQAAAgAkAAAAIAAAAAAAAAAAAAA=', 'cap_net_bind_service=ep cap_net_raw=eip'],
  ['AAAAAgAAAAAAAAAAgAAAAAAAAAA=', 'cap_bpf=p'],
  ['AAAAAgAAAAAAAAAAAAAAgAAAAAA=', 'cap_63=p'],
  ['AAAAAgAAAAAAAAAAAAAAAAAAAAA=', '='],
  ['AQAAASAAAAAAAAAA', 'cap_kill=ep'],
  ['AQAAAwAgAAAAAAAAAAAAAAAAAADoAwAA', 'cap_net_raw=ep [rootid=1000]'],
  ['AQ==', 'AQ=='],
  ['AQAACQAgAAAAAAAAAAAAAAAAAAA=', 'AQAACQAgAAAAAAAAAAAAAAAAAAA='],
  ['AQAAAgAgAAAAAAAAAAAAAAAAAA==', 'AQAAAgAgAAAAAAAAAAAAAAAAAA=='],
] as const;
for (const [base64, text] of texts) test(`${base64} reads ${text}`, () => assert.equal(capabilityText(base64), text));

test('what setcap wrote reads as getcap reads it', async (t) => {
  if (!isRoot || !has('setcap') || !has('getcap')) return t.skip('needs root, setcap and getcap');
  const root = emptyRoot(t);
  const sets = [
    'cap_net_raw=ep',
    'cap_chown,cap_bpf,cap_checkpoint_restore=ei',
    'cap_setuid,cap_setgid=eip',
    'cap_kill=i',
  ];
  for (const [i, caps] of sets.entries()) {
    writeFileSync(`${root}/usr/${i}`, '');
    execFileSync('setcap', [caps, `${root}/usr/${i}`]);
  }
  const empty = { main: '', extra: '' };
  const { drift } = await scan({ root, expected: { trees: { usr: empty, etc: empty } } });
  const ours = drift.flatMap((d) =>
    'actual' in d && d.actual.capability !== undefined ? [capabilityText(d.actual.capability)] : [],
  );
  const theirs = sets.map((_, i) =>
    execFileSync('getcap', [`${root}/usr/${i}`])
      .toString()
      .trim()
      .replace(/^\S+ (= )?/, ''),
  );
  assert.deepEqual(ours, theirs);
});
