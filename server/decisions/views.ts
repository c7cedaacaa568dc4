/** Saved views: one's own, and those that reviewers share with whoever sees their host groups. */
import { parseFilter } from '#src/finding/filter.ts';
import { lies, type Scope } from '#src/finding/scope.ts';
import { VIEWS_MAX } from '#src/limits.ts';
import type { Access } from '#server/access/admin.ts';
import { acting, FIRST_ADMIN, principalOf, type Principal } from '#server/access/principal.ts';
import type { Deps } from '#server/deps.ts';
import type { SavedView } from '#server/store/records.ts';
import { actOf, DecisionError, mustBe } from './may.ts';

/** Who only reads keeps links; what stands here others may be pointed to. */
const MAY_SAVE = ['operator', 'reviewer', 'policy_editor', 'admin'] as const;

type ViewDeps = Pick<Deps, 'store' | 'clock' | 'random'> & { readonly access: Access };
type Reads = Pick<ViewDeps, 'store' | 'access'>;

/** Their own, and of shared ones those of people whose host groups they see all: a view names hosts and groups. */
export async function listViews(who: Principal, deps: Reads): Promise<readonly SavedView[]> {
  const found = await deps.store.views.list(who.id);
  const sharers = new Map<string, Promise<Scope>>();
  const out: SavedView[] = [];
  for (const view of found) {
    const by = view.createdBy;
    if (view.owner === null && by !== who.id && who.groups !== null) {
      const scope = sharers.get(by) ?? sharerScope(by, deps);
      sharers.set(by, scope);
      if (!lies(await scope, who.groups)) continue;
    }
    out.push(view);
  }
  return out;
}

/** What somebody who shared a view sees now; of whoever is gone, every host: nobody can tell what it is about. */
async function sharerScope(id: string, { store, access }: Reads): Promise<Scope> {
  const held = id === FIRST_ADMIN.id ? undefined : await store.access.account(id);
  const grants = held === undefined ? [] : access.grants(held);
  return held === undefined || grants.length === 0 ? null : principalOf(held.account, grants).groups;
}

/** `id` null: a new one. @throws {DecisionError | FilterError} */
export async function saveView(
  id: string | null,
  wanted: { readonly name: string; readonly query: string; readonly shared: boolean },
  who: Principal,
  deps: ViewDeps,
): Promise<SavedView> {
  parseFilter(wanted.query);
  mustBe(who, 'save views', ...MAY_SAVE);
  if (wanted.shared) mustBe(who, 'share views', 'reviewer', 'admin');
  const views = await listViews(who, deps);
  const before = id === null ? undefined : await viewOf(id, views, who, deps);
  if (before?.owner === null && before.createdBy !== who.id && !wanted.shared)
    throw new DecisionError(
      'FORBIDDEN',
      `${before.createdBy} shared this view: remove it, or save another of your own`,
    );
  const owner = wanted.shared ? null : who.id;
  const beside = views.filter((view) => view.owner === owner && view.id !== id);
  if (beside.some(({ name }) => name === wanted.name))
    throw new DecisionError('VIEW_CONFLICT', `there is a view named ${JSON.stringify(wanted.name)} already`);
  if (before === undefined && beside.filter((view) => view.createdBy === who.id).length >= VIEWS_MAX)
    throw new DecisionError('VIEW_CONFLICT', `you have ${VIEWS_MAX} views already; remove one first`);
  const now = deps.clock();
  const view: SavedView = {
    id: before?.id ?? `v_${Buffer.from(deps.random(10)).toString('hex')}`,
    owner,
    name: wanted.name,
    list: 'groups',
    query: wanted.query,
    createdAt: before?.createdAt ?? now,
    createdBy: before?.createdBy ?? who.id,
  };
  await deps.store.views.put(view, actOf(who, now));
  return view;
}

/** One that they may change: their own, or a shared one where they may share and see all that its sharer sees. */
async function viewOf(id: string, views: readonly SavedView[], who: Principal, deps: Reads): Promise<SavedView> {
  const view = views.find((one) => one.id === id);
  const may = acting(who, 'reviewer', 'admin');
  const isTheirs =
    view !== undefined &&
    (view.owner === who.id ||
      view.createdBy === who.id ||
      (may !== undefined && lies(await sharerScope(view.createdBy, deps), may.groups)));
  if (!isTheirs) throw new DecisionError('VIEW_UNKNOWN', 'there is no such view of yours');
  return view;
}

/** @throws {DecisionError} VIEW_UNKNOWN */
export async function removeView(id: string, who: Principal, deps: Reads & Pick<ViewDeps, 'clock'>): Promise<boolean> {
  mustBe(who, 'remove views', ...MAY_SAVE);
  await viewOf(id, await listViews(who, deps), who, deps);
  return deps.store.views.remove(id, actOf(who, deps.clock()));
}
