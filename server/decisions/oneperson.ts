/** Whether two ids may be one person: somebody, and a program whose account or tokens are their making (docs/access.md 2.7). */
import { PAGE_ITEMS_MAX } from '#src/limits.ts';
import type { Store } from '#server/store/store.ts';

/** A program may have made a program: so many are followed, which is more than anybody has a use for. */
const MADE_MAX = 100;

/** Whether one of two made the other, itself or through programs that it made. The same id twice is not asked here. */
export async function isOnePerson(a: string, b: string, store: Pick<Store, 'access'>): Promise<boolean> {
  return a !== b && ((await makersOf(a, store)).has(b) || (await makersOf(b, store)).has(a));
}

/** Who can have the tokens of a program in hand, tokens that are over as well; nobody else of a person. */
async function makersOf(id: string, { access }: Pick<Store, 'access'>): Promise<ReadonlySet<string>> {
  const makers = new Set<string>();
  const todo = [id];
  for (let program = todo.pop(); program !== undefined && makers.size < MADE_MAX; program = todo.pop()) {
    const held = await access.account(program);
    if (held?.account.kind !== 'service') continue;
    const by = new Set([held.account.createdBy]);
    let cursor: { readonly id: string } | null = null;
    do {
      const page: Awaited<ReturnType<typeof access.tokens>> = await access.tokens(program, {
        cursor,
        limit: PAGE_ITEMS_MAX,
      });
      for (const { createdBy } of page.items) by.add(createdBy);
      cursor = page.next;
    } while (cursor !== null);
    for (const maker of by)
      if (!makers.has(maker)) {
        makers.add(maker);
        todo.push(maker);
      }
  }
  makers.delete(id);
  return makers;
}
