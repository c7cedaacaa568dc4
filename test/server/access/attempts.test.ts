/** How often somebody may fail; API tokens and their checksum; where a request comes from; roles and scopes. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { FAILING_ADDRESSES_MAX } from '#src/limits.ts';
import { covers, intersection, lies, union, type Scope } from '#src/finding/scope.ts';
import { addressOf, trustedProxies } from '#server/access/address.ts';
import { apiTokenHash, newApiToken } from '#server/access/apitoken.ts';
import { Attempts } from '#server/access/attempts.ts';
import { BindingError, parseConfigured } from '#server/access/bindings.ts';
import { checkIssuer, OidcError } from '#server/access/oidc.ts';
import { acting, both, isFleetWide, principalOf } from '#server/access/principal.ts';
import { throwsCode } from '#test/throws.ts';

const BOUNDS = { each: { burst: 3, perMinute: 6 }, all: { burst: 8, perMinute: 60 } };

test('an address fails so often at once, then at its rate; others are not held up by it', () => {
  let now = 1_000_000;
  const attempts = new Attempts(() => now, BOUNDS);
  assert.deepEqual(
    [1, 2, 3, 4].map(() => attempts.note('192.0.2.1')),
    [0, 0, 0, 10],
  );
  assert.equal(attempts.wait('192.0.2.1'), 10);
  assert.equal(attempts.wait('192.0.2.1'), 10, 'looking counts nothing');
  assert.equal(attempts.note('192.0.2.2'), 0);
  now += 10_000;
  assert.equal(attempts.note('192.0.2.1'), 0);
  assert.equal(attempts.note('192.0.2.1'), 10);
  now -= 3_600_000;
  assert.equal(attempts.note('192.0.2.1'), 10, 'a clock that was set back forgives nothing');
  now += 3_600_000 * 2;
  assert.equal(attempts.note('192.0.2.1'), 0);
});

test('all together are bounded, and so is what is remembered', () => {
  const now = 1_000_000;
  const attempts = new Attempts(() => now, BOUNDS);
  const waits = Array.from({ length: 10 }, (_, n) => attempts.note(`198.51.100.${n}`));
  assert.deepEqual(waits, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
  for (let n = 0; n < FAILING_ADDRESSES_MAX + 500; n++) attempts.note(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
  assert.equal(attempts.size, FAILING_ADDRESSES_MAX);
});

test('of IPv6 a whole network is one, and IPv4 in its clothes is itself', () => {
  const attempts = new Attempts(() => 0, BOUNDS);
  for (const address of ['2001:db8:1:2::1', '2001:db8:1:2:3:4:5:6', '2001:0db8:1:2::ffff']) attempts.note(address);
  assert.ok(attempts.wait('2001:db8:1:2:ffff::') > 0);
  assert.equal(attempts.wait('2001:db8:1:3::1'), 0);
  for (let n = 0; n < 3; n++) attempts.note('::ffff:192.0.2.7');
  assert.ok(attempts.wait('192.0.2.7') > 0);
});

test('an API token is known by its checksum, and no slip of it is one', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 48 }), fc.integer({ min: 0, max: 61 }), (at, to) => {
      const { token, hash } = newApiToken(randomBytes);
      assert.match(token, /^bp_[0-9A-Za-z]{46}$/);
      assert.equal(apiTokenHash(token), hash);
      const letter = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'[to]!;
      const other = token.slice(0, at) + letter + token.slice(at + 1);
      if (other !== token) assert.equal(apiTokenHash(other), undefined, other);
    }),
  );
  // Fixed, so that what scans for tokens may rely on it (docs/access.md 3.1).
  const { token } = newApiToken((bytes) => new Uint8Array(bytes));
  assert.equal(token, `bp_${'0'.repeat(40)}${token.slice(-6)}`);
  assert.equal(apiTokenHash(`bp_${'0'.repeat(46)}`), undefined);
});

for (const [peer, forwarded, expected] of [
  ['203.0.113.9', undefined, '203.0.113.9'],
  ['203.0.113.9', '1.1.1.1', '203.0.113.9'],
  ['10.0.0.1', '1.1.1.1', '1.1.1.1'],
  ['::ffff:10.0.0.1', '1.1.1.1', '1.1.1.1'],
  ['10.0.0.1', '6.6.6.6, 1.1.1.1', '1.1.1.1'],
  ['10.0.0.1', '1.1.1.1, 10.0.0.2', '1.1.1.1'],
  ['10.0.0.1', undefined, '10.0.0.1'],
  ['10.0.0.1', 'unknown', '10.0.0.1'],
  ['10.0.0.1', '10.0.0.3', '10.0.0.3'],
  [undefined, '1.1.1.1', null],
] as const)
  test(`${peer} that says ${forwarded} comes from ${expected}`, () => {
    assert.equal(addressOf(peer, forwarded, trustedProxies(['10.0.0.0/8'])), expected);
  });

test('settings that cannot be meant are refused with what was meant', () => {
  for (const text of ['10.0.0.0/33', 'proxy.example', '10.0.0', ''])
    assert.throws(() => trustedProxies([text]), /expected an address/);
  assert.deepEqual(parseConfigured('cn=sre,dc=x=operator@prod/web'), {
    claim: 'cn=sre,dc=x',
    role: 'operator',
    group: 'prod/web',
  });
  assert.deepEqual(parseConfigured('all=viewer'), { claim: 'all', role: 'viewer', group: null });
  for (const text of ['viewer', '=viewer', 'a=root', 'a=viewer@', 'a=viewer@x@y', 'a=viewer@/x'])
    throwsCode(() => parseConfigured(text), BindingError, 'ROLE_SYNTAX');
  for (const text of ['http://login.example', 'login.example', 'https://u:p@login.example', 'https://login.example?x'])
    throwsCode(() => checkIssuer(text), OidcError, 'OIDC_SETTING');
  for (const text of ['https://login.example/realms/x', 'http://127.0.0.1:9', 'http://localhost:9', 'http://[::1]:9'])
    checkIssuer(text);
});

const group = fc.constantFrom('a', 'a/b', 'a/b/c', 'ab', 'b', 'b/a');
const scope: fc.Arbitrary<Scope> = fc.option(fc.array(group, { maxLength: 4 }), { nil: null });

test('scopes are sets of groups with all below them', () => {
  fc.assert(
    fc.property(scope, scope, fc.option(group, { nil: null }), (a, b, of) => {
      assert.equal(covers(union([a, b]), of), covers(a, of) || covers(b, of));
      assert.equal(covers(intersection(a, b), of), covers(a, of) && covers(b, of));
      if (lies(a, b) && covers(a, of)) assert.ok(covers(b, of));
      assert.ok(lies(intersection(a, b), a) && lies(a, union([a, b])));
    }),
  );
});

test('a role counts where it is held, and a token where its owner holds it too', () => {
  const who = principalOf({ id: 'a', name: 'A' }, [
    { role: 'viewer', groups: null },
    { role: 'operator', groups: ['lab'] },
    { role: 'operator', groups: ['web'] },
  ]);
  assert.deepEqual([who.roles, who.groups], [['viewer', 'operator'], null]);
  assert.deepEqual(acting(who, 'operator', 'admin')?.groups, ['lab', 'web']);
  assert.equal(acting(who, 'admin'), undefined);
  assert.deepEqual([isFleetWide(who, 'viewer'), isFleetWide(who, 'operator', 'admin')], [true, false]);
  const token = [
    { role: 'operator' as const, groups: ['lab/bench', 'db'] },
    { role: 'admin' as const, groups: null },
    { role: 'viewer' as const, groups: null },
  ];
  assert.deepEqual(both(token, who.grants!), [
    { role: 'operator', groups: ['lab/bench'] },
    { role: 'viewer', groups: null },
    // An operator may all that a viewer may.
    { role: 'viewer', groups: ['lab'] },
    { role: 'viewer', groups: ['web'] },
  ]);
});
