import assert from 'node:assert/strict';
import { test } from 'node:test';
import { throwsCode } from '#test/throws.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { kargText, kargValue, parseKargs } from '#src/deployment/kargs.ts';

test('splits arguments as the kernel does, quotes and all', () => {
  assert.deepEqual(parseKargs('root=/dev/vda  rw dyndbg="file a.c +p" "init=/bin/my shell"\tempty= "" x=a=b'), [
    { name: 'root', value: '/dev/vda' },
    { name: 'rw', value: null },
    { name: 'dyndbg', value: 'file a.c +p' },
    { name: 'init', value: '/bin/my shell' },
    { name: 'empty', value: '' },
    { name: '', value: null },
    { name: 'x', value: 'a=b' },
  ]);
  assert.deepEqual(parseKargs('\n'), []);
});

test('an open quote ends with the line', () => {
  assert.deepEqual(parseKargs('a="b c'), [{ name: 'a', value: 'b c' }]);
});

test('of one argument given twice the last counts', () => {
  const kargs = parseKargs('console=ttyS0 console=tty0');
  assert.equal(kargValue(kargs, 'console'), 'tty0');
  assert.equal(kargValue(kargs, 'selinux'), undefined);
});

test('the text may be of any bytes', () => {
  assert.deepEqual(parseKargs('a=\xc3\xa9 b=\xff'), [
    { name: 'a', value: 'é' },
    { name: 'b', value: 'ÿ' },
  ]);
});

// What must not leave the host, and what must: policy compares arguments.
const told = [
  ['systemd.set_credential=pw:hunter2', 'systemd.set_credential=…'],
  ['rd.iscsi.password=hunter2', 'rd.iscsi.password=…'],
  ['rd.iscsi.in.passwd=', 'rd.iscsi.in.passwd=…'],
  ['inst.token=hunter2', 'inst.token=…'],
  ['netroot=iscsi:joe:hunter2@192.0.2.1::3260::iqn.2009', 'netroot=iscsi:…@192.0.2.1::3260::iqn.2009'],
  ['netroot=iscsi:joe:hun/te@r2@192.0.2.1', 'netroot=iscsi:…@192.0.2.1'],
  ['netroot=iscsi:@192.0.2.1::3260::iqn.2009', 'netroot=iscsi:@192.0.2.1::3260::iqn.2009'],
  ['ds=nocloud;s=http://joe:hunter2@h/', 'ds=nocloud;s=http://…@h/'],
  ['root=UUID=1234-abcd', 'root=UUID=1234-abcd'],
  ['systemd.unit=foo@bar.service', 'systemd.unit=foo@bar.service'],
  ['composefs=?ab', 'composefs=?ab'],
  ['rd.luks.key=/keyfile:UUID=x', 'rd.luks.key=/keyfile:UUID=x'],
  ['rd.break', 'rd.break'],
] as const;
for (const [text, leaves] of told)
  test(`tells ${text} as ${leaves}`, () => assert.deepEqual(parseKargs(text).map(kargText), [leaves]));

test('refuses a command line that no kernel takes', () =>
  throwsCode(() => parseKargs('a'.repeat(2 ** 16 + 1)), DeploymentError, 'HOST_TEXT_TOO_LARGE'));
