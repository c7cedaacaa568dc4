import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { throwsCode } from '#test/throws.ts';
import { fromHex, toBytes } from '#src/bytes.ts';
import { parseCommit } from '#src/deployment/commit.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { readDict, readVariant } from '#src/deployment/gvariant.ts';
import { parseComposefsStaged, parseOstreeBooted, parseOstreeStaged } from '#src/deployment/runstate.ts';
import { vector } from './vectors.ts';

type Case = { readonly name: string; readonly type: string; readonly hex?: string; readonly sha256?: string };
const cases = JSON.parse(vector('gvariant.json')) as Case[];
function bytesOf(name: string): Uint8Array {
  return fromHex(cases.find((one) => one.name === name)!.hex!);
}

const values = [
  ['empty dictionary', new Map()],
  ['numbers of every width', [255, -2, 65535, -3, 4294967295, -4n, 18446744073709551615n, 1.5]],
  [
    'array of tuples of mixed sizes',
    [
      ['a', 1, 'bcd', ['x', '', 'zz']],
      ['', 2, 'ü', []],
    ],
  ],
  ['bytes', Uint8Array.of(1, 2, 3)],
  [
    'dictionary with number keys',
    [
      [1, 'one'],
      [2, 'two'],
    ],
  ],
  ['more than 255 bytes', ['x'.repeat(200), 'y'.repeat(100), '']],
] as const;
for (const [name, value] of values)
  test(`reads what GLib wrote: ${name}`, () =>
    assert.deepEqual(readVariant(cases.find((one) => one.name === name)!.type, bytesOf(name)), value));

test('reads an array with offsets of four bytes', () => {
  const text = `${'x'.repeat(40_000)}\0${'y'.repeat(30_000)}\0`;
  const bytes = toBytes(`${text}\x41\x9c\0\0\x72\x11\x01\0`);
  const { sha256 } = cases.find((one) => one.name === 'more than 65,535 bytes')!;
  assert.equal(createHash('sha256').update(bytes).digest('hex'), sha256);
  assert.deepEqual(readVariant('as', bytes), ['x'.repeat(40_000), 'y'.repeat(30_000)]);
});

test("a booted machine's /run/ostree-booted: keys that are there and false are false", () => {
  assert.deepEqual(parseOstreeBooted(bytesOf('ostree-booted, composefs without verity')), {
    composefs: true,
    verity: false,
    transientRoot: false,
    backing: { device: 0xfe00n, inode: 0x23n },
  });
  assert.deepEqual(parseOstreeBooted(bytesOf('ostree-booted, verity and transient etc')), {
    composefs: true,
    verity: true,
    transientRoot: true,
    backing: null,
  });
});

test('an empty /run/ostree-booted, as old ostree leaves it, tells nothing', () => {
  assert.deepEqual(parseOstreeBooted(new Uint8Array()), {
    composefs: null,
    verity: null,
    transientRoot: null,
    backing: null,
  });
});

test('the staged deployment is named by its target', () => {
  const staged = parseOstreeStaged(bytesOf('staged deployment'));
  assert.equal(staged?.checksum, 'b9'.repeat(32));
  assert.equal(staged?.serial, 1);
  assert.equal(staged?.stateroot, 'default');
  assert.equal(parseOstreeStaged(bytesOf('empty dictionary')), null);
});

test('bootc names the staged composefs deployment in JSON', () => {
  const id = 'ab'.repeat(64);
  assert.equal(parseComposefsStaged(`{"depl_id":"${id}","finalization_locked":false}`).checksum, id);
  for (const text of ['', '{}', '{"depl_id":"../x"}'])
    throwsCode(() => parseComposefsStaged(text), DeploymentError, 'BOOTC_STATUS_SYNTAX');
});

const IMAGE = '2eb3113010c26a892bb3e3a8ab0bcf7d0e6a8c1b0bc452634aa8bb8e52107645';
const LAYERED = '0fe9359fe1fe07273e0de3e2646b21737e278d60f9578b930dd2929e1a68988b';
test('a commit tells which image it was imported from', () => {
  assert.deepEqual(parseCommit(toBytes(vector(`commits/${IMAGE}.commit`))), {
    parent: null,
    manifestDigest: `sha256:${'ca'.repeat(32)}`,
    version: '10.1',
    layered: false,
  });
});
test("rpm-ostree's own commit has the image's for its parent", () => {
  assert.deepEqual(parseCommit(toBytes(vector(`commits/${LAYERED}.commit`))), {
    parent: IMAGE,
    manifestDigest: null,
    version: null,
    layered: true,
  });
});

const deep = (levels: number) => {
  let value = toBytes('\0\0b'); // a variant of `false`
  for (let i = 1; i < levels; i++) value = Uint8Array.of(...value, 0, 0x76);
  return value;
};
test('variants inside variants are read down to a bound', () => {
  assert.equal(readVariant('v', deep(20)), false);
});

const refused = [
  ['a boolean of two', 'b', '\x02'],
  ['a short number', 't', '\0\0\0'],
  ['a string without its end', 's', 'abc'],
  ['a string with a zero byte inside', 's', 'a\0b\0'],
  ['a string that is not UTF-8', 's', '\xff\0'],
  ['a variant without a type', 'v', 'abc'],
  ['a variant of an empty type', 'v', 'abc\0'],
  ['a variant of two types', 'v', 'abc\0ss'],
  ['a variant of a type that is open', 'v', 'abc\0(s'],
  ['a variant of a type that is not read', 'v', 'abc\0ms'],
  ['an array whose offsets fall', 'as', 'a\0b\0\x04\x02'],
  ['an array whose last offset is beyond its end', 'as', 'a\0b\0\x02\x09'],
  ['an array with a part of an offset table', 'as', 'a\0\x01\0\0\x03'],
  ['half an item', 'au', '\0\0\0\0\0\0'],
  ['a tuple without its offsets', '(ss)', ''],
  ['a tuple whose offset is beyond its end', '(ss)', 'a\0b\0\x09'],
  ['a dictionary that is a string', 'a{sv}', 'hello'],
  ['a dictionary of a random tail', 'a{sv}', '\x01\x02\x03\x04\x05'],
] as const;
for (const [name, type, bytes] of refused)
  test(`refuses ${name}`, () =>
    throwsCode(() => readVariant(type, toBytes(bytes)), DeploymentError, 'GVARIANT_SYNTAX'));
test('refuses nests without end', () => {
  throwsCode(() => readVariant('v', deep(5000)), DeploymentError, 'GVARIANT_SYNTAX');
  throwsCode(() => readVariant(`${'a'.repeat(200)}s`, new Uint8Array()), DeploymentError, 'GVARIANT_SYNTAX');
});
test('refuses more than 10 MiB', () =>
  throwsCode(() => readDict(new Uint8Array(10 * 2 ** 20 + 1)), DeploymentError, 'HOST_TEXT_TOO_LARGE'));
test('refuses a commit that is cut', () => {
  const whole = toBytes(vector(`commits/${IMAGE}.commit`));
  for (let end = 0; end < whole.length; end++)
    assert.throws(() => parseCommit(whole.subarray(0, end)), DeploymentError, `cut at ${end}`);
});
