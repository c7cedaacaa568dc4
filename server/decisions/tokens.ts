/** What people decide about enrolment tokens. */
import type { Instant } from '#src/clock.ts';
import { publicKeyOfSeed } from '#src/signing/node.ts';
import { printToken, tokenFrom } from '#src/wire/token.ts';
import type { Deps } from '#server/deps.ts';
import type { Act, Labels, NewToken } from '#server/store/records.ts';

export type TokenTerms = {
  readonly labels: Labels;
  readonly group: string | null;
  /** Null: as often as wanted until it is over. */
  readonly maxUses: number | null;
  readonly expiresAt: Instant;
};

/** Makes a token. Its text is known here once and never again: the store keeps the public half (docs/report.md 6.1). */
export async function createToken(
  terms: TokenTerms,
  by: Act,
  { store, random, keys }: Pick<Deps, 'store' | 'random' | 'keys'>,
): Promise<{ readonly token: string; readonly id: string }> {
  const token = tokenFrom(random(42), keys.fingerprint);
  const record: NewToken = { id: token.id, hash: publicKeyOfSeed(token.seed), ...terms };
  await store.tokens.create(record, by);
  return { token: printToken(token), id: token.id };
}
