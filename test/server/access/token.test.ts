/** Admin tokens, sessions and bearers. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { bearerOf, isAdminToken, newAdminToken, Seal } from '#server/access/token.ts';

test('an admin token is known by its hash, and no other text is', () => {
  const { token, hash } = newAdminToken(randomBytes);
  assert.ok(isAdminToken(token, hash));
  assert.ok(!hash.includes(token.slice(9)));
  for (const other of [
    newAdminToken(randomBytes).token,
    '',
    hash,
    token.slice(0, -1),
    `${token} `,
    token.toLowerCase(),
  ])
    assert.ok(!isAdminToken(other, hash), other);
});

for (const [header, expected] of [
  ['Bearer abc', 'abc'],
  ['bearer abc=', 'abc='],
  ['Basic abc', undefined],
  ['Bearer a b', undefined],
  ['Bearer', undefined],
  [undefined, undefined],
] as const)
  test(`Authorization: ${header} carries ${expected}`, () => assert.equal(bearerOf(header), expected));

test('a sealed text opens under its own secret and purpose, until it expires', () => {
  const secret = randomBytes(32);
  const seal = new Seal(secret, 'session');
  const sealed = seal.issue('h_abc', 2000);
  assert.equal(seal.open(sealed, 1999), 'h_abc');
  assert.equal(seal.open(sealed, 2000), undefined, 'expired');
  assert.equal(new Seal(secret, 'manifest').open(sealed, 0), undefined, 'another purpose');
  assert.equal(new Seal(randomBytes(32), 'session').open(sealed, 0), undefined, 'another secret');
});

test('no changed character of a sealed text opens it', () => {
  const seal = new Seal(randomBytes(32), 'session');
  const sealed = seal.issue('h_abc', 2000);
  for (let at = 0; at < sealed.length; at++) {
    const other = sealed[at] === '1' ? '2' : '1';
    assert.equal(seal.open(sealed.slice(0, at) + other + sealed.slice(at + 1), 0), undefined, `character ${at}`);
  }
  for (const text of ['', '..', `${sealed}.`, ` ${sealed}`, sealed.replace('2000', '02000')])
    assert.equal(seal.open(text, 0), undefined);
});
