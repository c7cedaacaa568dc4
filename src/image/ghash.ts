/**
 * The order in which GLib's GHashTable is walked (glib/ghash.c, since 2.63). libostree resolves the hard links of a layer in that
 * order, so where one links to another it decides which content wins, or whether the image can be imported at all.
 */
import type { ByteString } from '#src/bytes.ts';

// prime_mod[]: the first prime below each power of two.
const PRIMES = [
  1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287, 1048573,
  2097143, 4194301, 8388593, 16777213, 33554393, 67108859, 134217689, 268435399, 536870909, 1073741789, 2147483647,
];
const SHIFT_MIN = 3;

type Slot = { readonly key: ByteString; readonly hash: number };

/** Distinct keys, as inserted one after the other, in the order of g_hash_table_iter_next. */
export function hashTableOrder(keys: Iterable<ByteString>): ByteString[] {
  let slots: (Slot | undefined)[] = Array.from({ length: 1 << SHIFT_MIN }, () => undefined);
  let shift = SHIFT_MIN;
  let count = 0;
  for (const key of keys) {
    const hash = stringHash(key);
    let at = place(hash, shift);
    for (let step = 1; slots[at] !== undefined; step++) at = (at + step) & (slots.length - 1);
    slots[at] = { key, hash };
    count++;
    // g_hash_table_maybe_resize after each new node
    if (slots.length <= count + Math.floor(count / 16)) {
      shift = Math.max(SHIFT_MIN, 32 - Math.clz32(count + Math.floor(count / 3)));
      slots = resize(slots, shift);
    }
  }
  return slots.filter((slot) => slot !== undefined).map((slot) => slot.key);
}

/** resize_map: in place, each node pushing out what stands where it belongs. */
function resize(old: readonly (Slot | undefined)[], shift: number): (Slot | undefined)[] {
  const size = 1 << shift;
  const slots: (Slot | undefined)[] = Array.from({ length: size }, (_, i) => old[i]);
  const settled = new Uint8Array(size);
  for (let i = 0; i < old.length; i++) {
    let node = slots[i];
    if (node === undefined || settled[i]) continue;
    slots[i] = undefined;
    while (node !== undefined) {
      let at = place(node.hash, shift);
      for (let step = 1; settled[at]; step++) at = (at + step) & (size - 1);
      settled[at] = 1;
      const evicted: Slot | undefined = slots[at];
      slots[at] = node;
      node = evicted;
    }
  }
  return slots;
}

function place(hash: number, shift: number): number {
  return (Math.imul(hash, 11) >>> 0) % PRIMES[shift]!;
}

/** g_str_hash: djb2 over signed bytes; 0 and 1 stand for empty slots. */
function stringHash(key: ByteString): number {
  let hash = 5381;
  for (let i = 0; i < key.length; i++) {
    const byte = key.charCodeAt(i);
    hash = (Math.imul(hash, 33) + (byte < 0x80 ? byte : byte - 0x100)) >>> 0;
  }
  return hash < 2 ? 2 : hash;
}
