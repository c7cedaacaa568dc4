/** Saved views: one's own, and those that reviewers share. */
import { parseFilter } from '#src/finding/filter.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import type { Deps } from '#server/deps.ts';
import type { SavedView } from '#server/store/records.ts';
import { actOf, DecisionError, mustBe } from './may.ts';

/** Who only reads keeps links; what stands here others may be pointed to. */
const MAY_SAVE = ['operator', 'reviewer', 'policy_editor', 'admin'] as const;

type ViewDeps = Pick<Deps, 'store' | 'clock' | 'random'>;

export function listViews(who: Principal, { store }: Pick<ViewDeps, 'store'>): Promise<readonly SavedView[]> {
  return store.views.list(who.id);
}

/** `id` null: a new one. @throws {DecisionError | FilterError} */
export async function saveView(
  id: string | null,
  wanted: { readonly name: string; readonly query: string; readonly shared: boolean },
  who: Principal,
  { store, clock, random }: ViewDeps,
): Promise<SavedView> {
  parseFilter(wanted.query);
  mustBe(who, 'save views', ...MAY_SAVE);
  if (wanted.shared) mustBe(who, 'share views', 'reviewer', 'admin');
  const before = id === null ? undefined : await viewOf(id, who, store);
  const now = clock();
  const view: SavedView = {
    id: before?.id ?? `v_${Buffer.from(random(10)).toString('hex')}`,
    owner: wanted.shared ? null : who.id,
    name: wanted.name,
    list: 'groups',
    query: wanted.query,
    createdAt: before?.createdAt ?? now,
    createdBy: before?.createdBy ?? who.id,
  };
  await store.views.put(view, actOf(who, now));
  return view;
}

async function viewOf(id: string, who: Principal, store: ViewDeps['store']): Promise<SavedView> {
  const view = await store.views.get(id);
  const isTheirs =
    view !== undefined && (view.owner === null ? hasRole(who, 'reviewer', 'admin') : view.owner === who.id);
  if (!isTheirs) throw new DecisionError('VIEW_UNKNOWN', 'there is no such view of yours');
  return view;
}

/** @throws {DecisionError} VIEW_UNKNOWN */
export async function removeView(
  id: string,
  who: Principal,
  { store, clock }: Pick<ViewDeps, 'store' | 'clock'>,
): Promise<boolean> {
  mustBe(who, 'remove views', ...MAY_SAVE);
  await viewOf(id, who, store);
  return store.views.remove(id, actOf(who, clock()));
}
