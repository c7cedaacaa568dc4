/** Where signatures are looked for: what is not asked is said, so that nobody takes it for "there is none". */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Digest } from '#src/digest.ts';
import { SIGNATURE_PLACES_MAX } from '#src/limits.ts';
import { look } from '#server/trust/look.ts';

test('places beyond the bound are told as not looked through', async () => {
  const places = Array.from({ length: SIGNATURE_PLACES_MAX + 3 }, (_, n) => ({
    pattern: `oci:/nowhere/${n}`,
    plainHttp: false,
    own: true,
  }));
  const result = await look(
    { image: `sha256:${'a'.repeat(64)}` as Digest, places, closed: [], pulledAs: [], indexes: [] },
    { env: {}, caFiles: [], authFile: undefined },
    AbortSignal.timeout(10_000),
  );
  const asked = new Set(
    result.looked.flatMap(({ where, outcome }) => (outcome === 'too-many' ? [] : where.split(': ')[0])),
  );
  assert.equal(asked.size, SIGNATURE_PLACES_MAX, [...asked].join('\n'));
  const [cut] = result.looked.filter(({ outcome }) => outcome === 'too-many');
  assert.equal(cut?.where, `oci:/nowhere/${SIGNATURE_PLACES_MAX} and 2 more`);
  assert.equal(cut?.code, 'TOO_MANY');
});
