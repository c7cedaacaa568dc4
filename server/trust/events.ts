/** What happened to who signed an image, from the trail: its state, a proof that went or came back. */
import type { Instant } from '#src/clock.ts';
import type { Store } from '#server/store/store.ts';

export type TrustHappened = { readonly at: Instant; readonly event: string; readonly text: string };

const SHOWN_MAX = 20;

type Said = { readonly state?: string; readonly by?: string | null; readonly why?: string | null } | null;
type Gone = { readonly proofs?: readonly { readonly where: string }[] } | null;

/** Newest first. */
export async function trustHappened(digest: string, { audit }: Pick<Store, 'audit'>): Promise<TrustHappened[]> {
  const { items } = await audit.list({ object: `image:${digest}` }, { cursor: null, limit: SHOWN_MAX });
  return items.flatMap(({ at, action, before, after }) => {
    const text = textOf(action, before, after);
    return text === undefined ? [] : [{ at, event: action, text }];
  });
}

function textOf(action: string, before: unknown, after: unknown): string | undefined {
  switch (action) {
    case 'trust.change': {
      const [was, is] = [before as Said, after as Said];
      const because = is?.by ?? is?.why;
      return `${was?.state === undefined ? '' : `${was.state} before, `}${is?.state}${because == null ? '' : `: ${because}`}`;
    }
    case 'signature-vanished':
      return `a signature that verified is gone from ${((before as Gone)?.proofs ?? []).map(({ where }) => where).join(', ')}`;
    case 'signature-returned':
      return 'a signature that verifies lies there again';
    default:
      return undefined;
  }
}
