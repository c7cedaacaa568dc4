import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressClass, reaches } from '#src/source/address.ts';

/** As a URL spells it: that is what the code sees. */
const host = (text: string) => new URL(`http://${text}/`).hostname;

const classes: [string, string][] = [
  ['127.0.0.1', 'loopback'],
  ['127.9.9.9', 'loopback'],
  ['2130706433', 'loopback'],
  ['0x7f.1', 'loopback'],
  ['0.0.0.0', 'loopback'],
  ['0', 'loopback'],
  ['localhost', 'loopback'],
  ['LOCALHOST.', 'loopback'],
  ['a.localhost', 'loopback'],
  ['[::1]', 'loopback'],
  ['[::]', 'loopback'],
  ['[0:0:0:0:0:0:0:1]', 'loopback'],
  ['[::ffff:127.0.0.1]', 'loopback'],
  ['[::127.0.0.1]', 'loopback'],
  ['[64:ff9b::127.0.0.1]', 'loopback'],
  ['[2002:7f00:1::]', 'loopback'],
  ['169.254.169.254', 'link-local'],
  ['0xa9fea9fe', 'link-local'],
  ['[fe80::1]', 'link-local'],
  ['[febf::1]', 'link-local'],
  ['[::ffff:169.254.169.254]', 'link-local'],
  ['[64:ff9b::a9fe:a9fe]', 'link-local'],
  ['[fd00:ec2::254]', 'link-local'],
  ['100.100.100.200', 'link-local'],
  ['168.63.129.16', 'link-local'],
  ['10.0.0.1', 'other'],
  ['192.168.1.1', 'other'],
  ['[fd12::1]', 'other'],
  ['[fec0::1]', 'other'],
  ['[2001:db8::1]', 'other'],
  ['[::ffff:10.0.0.1]', 'other'],
  ['quay.io', 'other'],
  ['127.0.0.1.example.org', 'other'],
  ['localhost.example.org', 'other'],
  ['notlocalhost', 'other'],
];
for (const [text, expected] of classes)
  test(`${text} is ${expected}`, () => assert.equal(addressClass(host(text)), expected));

test('addresses as a resolver gives them are classed alike, zones left aside', () => {
  assert.equal(addressClass('fe80::1%eth0'), 'link-local');
  assert.equal(addressClass('::1'), 'loopback');
  assert.equal(addressClass('2001:db8::1'), 'other');
  assert.equal(addressClass('not:an:address'), 'other');
});

test('each reach holds what the one before it holds', () => {
  assert.deepEqual(
    (['public', 'loopback', 'any'] as const).map((reach) =>
      (['other', 'loopback', 'link-local'] as const).filter((address) => reaches(reach, address)),
    ),
    [['other'], ['other', 'loopback'], ['other', 'loopback', 'link-local']],
  );
});
