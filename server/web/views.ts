/** `/findings/views`: lists that somebody wants again, saved from the filter line; changed and removed on a page of their own. */
import type { Context, Hono } from 'hono';
import { FilterError } from '#src/finding/filter.ts';
import { FILTER_QUERY_CHARS_MAX } from '#src/limits.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { listViews, removeView, saveView } from '#server/decisions/views.ts';
import { html, type Html } from './html.ts';
import { missingPage, show } from './layout.ts';
import { first, inputHtml, refusedStatus, sentIn, textWrong, wrongHtml, type Sent, type Wrongs } from './parts/form.ts';
import { headHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { capital } from './words.ts';

const LABELS = { name: 'Name', q: 'Filter' };

export function viewPages(web: Hono<Env>, services: WebServices): void {
  web.post('/findings/views', (c) => save(c, null, services));
  web.get('/findings/views/:id', async (c) => {
    const view = (await listViews(c.get('principal'), services)).find(({ id }) => id === c.req.param('id'));
    if (view === undefined) return missingPage(c, services);
    const typed = { name: view.name, q: view.query, shared: view.owner === null };
    return formPage(c, view.id, typed, new Map(), services);
  });
  web.post('/findings/views/:id', (c) => save(c, c.req.param('id'), services));
  web.post('/findings/views/:id/remove', async (c) => {
    await removeView(c.req.param('id'), c.get('principal'), services);
    return c.redirect('/findings', 303);
  });
}

type Typed = { readonly name: string; readonly q: string; readonly shared: boolean };
const typedIn = (sent: Sent): Typed => ({
  name: first(sent, 'name').trim(),
  q: first(sent, 'q').trim(),
  shared: first(sent, 'shared') === 'yes',
});

async function save(c: Context<Env>, id: string | null, services: WebServices): Promise<Response> {
  const typed = typedIn(await sentIn(c));
  const wrong = new Map<string, string>();
  if (typed.name === '' || typed.name.length > 100) wrong.set('name', 'A name has 1 to 100 characters.');
  const q = textWrong(typed.q, FILTER_QUERY_CHARS_MAX);
  if (q !== undefined) wrong.set('q', q);
  try {
    if (wrong.size > 0) return await formPage(c, id, typed, wrong, services);
    await saveView(id, { name: typed.name, query: typed.q, shared: typed.shared }, c.get('principal'), services);
    return c.redirect(`/findings?${new URLSearchParams({ q: typed.q, saved: '1' }).toString()}`, 303);
  } catch (error) {
    if (error instanceof FilterError) wrong.set('q', `${capital(error.message)}.`);
    else if (error instanceof DecisionError && error.code === 'VIEW_CONFLICT')
      wrong.set('name', `${capital(error.message)}.`);
    else if (error instanceof DecisionError && error.code === 'FORBIDDEN') wrong.set('', `${capital(error.message)}.`);
    else throw error;
    return formPage(c, id, typed, wrong, services, refusedStatus(error));
  }
}

function formPage(
  c: Context<Env>,
  id: string | null,
  typed: Typed,
  wrong: Wrongs,
  services: WebServices,
  status: 403 | 422 = 422,
): Promise<Response> {
  const title = id === null ? 'Save a view' : `The view ${typed.name}`;
  const form: Html = html`<form class="sheet" method="post" action="/findings/views${id !== null && `/${id}`}">
    <div class="pad form">
      ${wrongHtml(wrong, LABELS)}
      ${inputHtml({ name: 'name', label: LABELS.name, wrong }, { value: typed.name, required: true, max: 100 })}
      ${inputHtml({ name: 'q', label: LABELS.q, wrong, help: html`<a class="link" href="/keys">The words, and what they mean</a>` }, { value: typed.q, max: 2000, mono: true })}
      <label class="opt"
        ><input type="checkbox" name="shared" value="yes" ${typed.shared && html` checked`} /><span
          >Everybody sees it<small>Whoever sees all your host groups; only reviewers share views</small></span
        ></label
      >
      <div class="acts">
        <button class="btn first" type="submit">Save the view</button>
        ${id !== null && html`<button class="btn" type="submit" formaction="/findings/views/${id}/remove">Remove the view</button>`}
        <a class="btn bare" href="/findings">Back to the queue</a>
      </div>
    </div>
  </form>`;
  const body = html`${headHtml({ crumbs: [['Findings', '/findings'], [title]], title })}
    <div class="cols aside">
      ${form}
      <aside></aside>
    </div>`;
  return show(c, services, { title, section: '/findings', now: services.clock(), body }, wrong.size > 0 ? status : 200);
}
