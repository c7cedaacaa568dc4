/** `/evidence`: bundles for auditors: asked for, on their way, taken away, and how they are checked (docs/evidence.md 7). */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { acting, type Principal } from '#server/access/principal.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { downloadOf } from '#server/evidence/download.ts';
import { EXPORTERS, PARAMETERS } from '#server/evidence/exports.ts';
import { EvidenceError } from '#server/evidence/selection.ts';
import { bytesText } from '#server/retention.ts';
import type { EvidenceExport, ExportStage } from '#server/store/evidencerecords.ts';
import { commandHtml, copyHtml, html, icon, type Html } from './html.ts';
import { presetHtml } from './imagehosts.ts';
import { show } from './layout.ts';
import { first, inputHtml, NOTHING_WRONG, sentIn, wrongHtml, type Sent, type Wrongs } from './parts/form.ts';
import { DAY_MS, periodFrom, periodHtml, quartersTo } from './parts/moment.ts';
import { levelHtml } from './parts/level.ts';
import { emptyHtml, headHtml, noticeHtml, refusedHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { count, dayOf, plural, whenHtml } from './words.ts';

const PATH = '/evidence';
/** While something is on its way, the page looks again. */
const LOOK_SECONDS = 2;
const SHOWN = 50;
const QUARTERS = 4;
const LABELS = {
  from: 'First day',
  to: 'Last day',
  hosts: 'Hosts',
  framework: 'Frameworks',
  seed: 'Seed of the sample',
  size: 'Hosts in it',
} as const;

export function evidencePage(web: Hono<Env>, services: WebServices): void {
  const { exports } = services;
  web.get(PATH, (c) => page(c, services, new Map(), NOTHING_WRONG));
  web.post(PATH, (c) => create(c, services));
  web.post(`${PATH}/delete`, async (c) => {
    await exports.remove(first(await sentIn(c), 'id'), c.get('principal'));
    return c.redirect(`${PATH}?did=deleted`, 303);
  });
  web.get(`${PATH}/:id/file`, async (c) => {
    const { status, headers, body } = downloadOf(await exports.file(c.req.param('id'), c.get('principal')), {
      range: c.req.header('range'),
      ifRange: c.req.header('if-range'),
    });
    return c.body(body, status, headers);
  });
}

/** Which field a refusal is about. */
const FIELDS: Readonly<Record<string, string>> = {
  EVIDENCE_PERIOD: 'to',
  EVIDENCE_HOSTS: 'hosts',
  EVIDENCE_FRAMEWORK: 'framework',
};

async function create(c: Context<Env>, services: WebServices): Promise<Response> {
  const sent = await sentIn(c);
  const now = services.clock();
  const query = new URLSearchParams({ from: first(sent, 'from'), to: first(sent, 'to') });
  const { period, wrong } = periodFrom(query, { from: 0, to: now });
  const faults = new Map(wrong);
  if (period.first === '') faults.set('from', 'It is needed.');
  const seed = first(sent, 'seed').trim();
  const size = first(sent, 'size').trim();
  if (size !== '' && !/^[1-9][0-9]{0,4}$/.test(size)) faults.set('size', 'A number, such as 25.');
  if ((seed === '') !== (size === '')) faults.set(seed === '' ? 'seed' : 'size', 'Both, or none.');
  if (faults.size > 0) return page(c, services, sent, faults);
  try {
    await services.exports.create(
      {
        from: period.from,
        // The day that is not over yet counts up to now.
        to: period.from < now ? Math.min(period.to, now) : period.to,
        hosts: first(sent, 'hosts'),
        frameworks: sent.get('framework') ?? [],
        sampling: seed === '' ? null : { seed: seed.slice(0, 200), size: Number(size) },
        parameters: {},
      },
      c.get('principal'),
    );
  } catch (error) {
    if (!(error instanceof EvidenceError)) throw error;
    const field = FIELDS[error.code] ?? '';
    return page(c, services, sent, new Map([[field, sentence(error)]]));
  }
  services.wake();
  return c.redirect(`${PATH}?did=asked`, 303);
}

const sentence = ({ message }: BootproofError): string => `${message.slice(0, 1).toUpperCase()}${message.slice(1)}.`;

async function page(c: Context<Env>, services: WebServices, sent: Sent, wrong: Wrongs): Promise<Response> {
  const { store, clock, exports, anchors, keys } = services;
  const now = clock();
  const who = c.get('principal');
  const title = 'Evidence';
  const may = acting(who, ...EXPORTERS);
  if (may === undefined) {
    const body = html`${headHtml({ title })}${refusedHtml('Evidence is exported by auditors and admins, and by operators of their own host groups.')}`;
    return show(c, services, { title, section: PATH, now, body });
  }
  const [list, head] = await Promise.all([exports.list(who, { cursor: null, limit: SHOWN }), store.log.head()]);
  const [standing, frameworks] = await Promise.all([anchors.standing(head?.origin), shippedFrameworks()]);
  const moving = list.items.filter(({ state }) => state === 'queued' || state === 'running').length;
  const body = html`${noticeOf(c.req.query('did'))}
    ${headHtml({
      title: titleOf(list.items.length, moving),
      text: 'One file answers, months later and offline, which hosts were in scope, which reported, what each ran, who signed it, what differed, when it was noticed, who did what about it, by which rules, and that none of it was edited since.',
    })}
    <div class="cols aside">
      <div class="stack">
        ${listSheet(list.items, now)}
        ${form({ sent, wrong, now, may, asked: { from: c.req.query('from'), to: c.req.query('to') }, frameworks: frameworks.map(({ framework: { id, title: name } }) => [id, name] as const) })}
      </div>
      <aside class="stack" aria-label="How it is checked">
        ${checkSheet(keys.fingerprint)}
        ${levelHtml('What its log proves', standing, html`<p><a class="link" href="/log">The evidence log</a></p>`)}
      </aside>
    </div>`;
  return show(
    c,
    services,
    { title, section: PATH, now, body, ...(moving > 0 && wrong.size === 0 ? { refresh: LOOK_SECONDS } : {}) },
    wrong.size > 0 ? 422 : 200,
  );
}

function noticeOf(did: string | undefined): Html | undefined {
  if (did === 'asked')
    return noticeHtml('It is on its way. The file is kept for a week, and may be fetched as often as you like.');
  return did === 'deleted'
    ? noticeHtml('The export and its file are deleted; the log keeps that it was made.')
    : undefined;
}

function titleOf(kept: number, moving: number): string {
  if (moving > 0) return `${plural(moving, 'bundle is', 'bundles are')} being made`;
  return kept === 0 ? 'Nothing was exported yet' : `${plural(kept, 'bundle waits', 'bundles wait')} to be taken away`;
}

// ── what there is ────────────────────────────────────────────────────────────────────────────────────────────────────

function listSheet(items: readonly EvidenceExport[], now: Instant): Html {
  if (items.length === 0)
    return html`<section class="sheet">
      ${emptyHtml('No bundle yet', 'Choose a period below, or let a command do it:', commandHtml('bootproof evidence export --from 90d -o evidence.zip'))}
    </section>`;
  return html`<section class="sheet">
    <header>
      <h2>Bundles</h2>
      <span class="quiet">each is deleted a week after it was asked for</span>
    </header>
    <table class="list">
      <caption class="sr">
        Exported bundles
      </caption>
      <thead>
        <tr>
          <th>Period</th>
          <th>State</th>
          <th class="p2">Asked for</th>
          <th><span class="sr">Acts</span></th>
        </tr>
      </thead>
      <tbody>
        ${items.map((one) => row(one, now))}
      </tbody>
    </table>
  </section>`;
}

/** The last day that counts: a period that ends at midnight ends with the day before. */
const daysText = (from: Instant, to: Instant): string => {
  const [begin, end] = [dayOf(from), dayOf(to - 1)];
  return begin === end ? begin : `${begin} to ${end}`;
};

function row(one: EvidenceExport, now: Instant): Html {
  const { id, from, to, filter, scope, state, file, createdAt, createdBy, expiresAt } = one;
  const hosts = [...(filter === null ? [] : [filter]), ...(scope === null ? [] : [`of ${scope.join(', ')}`])].join(
    ', ',
  );
  return html`<tr>
    <td>
      ${daysText(from, to)}<br /><small class="quiet"
        >${hosts === '' ? 'every host' : hosts}${one.hosts !== null && `, ${plural(one.hosts, 'host')}`}</small
      >
    </td>
    <td class="main">${stateHtml(one)}</td>
    <td class="p2 soft">
      ${whenHtml(createdAt, now)}<br /><small class="quiet">by ${createdBy}, until ${dayOf(expiresAt)}</small>
    </td>
    <td class="num">
      ${
        state === 'done' &&
        file !== null &&
        html`<a class="btn" href="${PATH}/${id}/file" download>${icon('get')}Download</a>`
      }
      <form method="post" action="${PATH}/delete">
        <input type="hidden" name="id" value="${id}" /><button class="btn bare" type="submit">
          ${state === 'queued' || state === 'running' ? 'Stop' : 'Delete'}<span class="sr"> ${daysText(from, to)}</span>
        </button>
      </form>
    </td>
  </tr>`;
}

const STAGES: Readonly<Record<ExportStage, string>> = {
  cut: 'taking the state of the log',
  gather: 'reading hosts',
  entries: 'writing log entries',
  records: 'writing reports, judgements and acts',
  facts: 'writing facts',
  manifests: 'writing file manifests',
  results: 'computing controls, tables and report',
};

function stateHtml({ state, progress, attempts, error, file, cut }: EvidenceExport): Html {
  if (state === 'done' && file !== null)
    return html`${bytesText(file.bytes)}${cut !== null && html`, log of ${plural(cut.size, 'entry', 'entries')}`}<br /><small
        class="quiet"
        >SHA-256 <code>${file.sha256.slice(0, 16)}…</code> ${copyHtml(file.sha256, 'copy the SHA-256')}</small
      >`;
  if (state === 'failed')
    return html`<strong>It failed</strong><br /><small
        >${error?.text.split('\n')[0] ?? 'no reason is known'} <code>${error?.code ?? ''}</code></small
      >`;
  if (state === 'queued') return html`waits for its turn`;
  const last = progress.at(-1);
  const again = attempts > 1 ? `goes on after a stop, attempt ${attempts}` : undefined;
  if (last === undefined)
    return html`begins${again !== undefined && html`<br /><small class="quiet">${again}</small>`}`;
  const { stage, done, total } = last;
  return html`${STAGES[stage]}${total === null ? done > 0 && ` ${count(done)}` : html` <progress max="${total}" value="${done}" aria-label="${STAGES[stage]}">${done} of ${total}</progress>`}<br /><small
      class="quiet"
      >${total !== null && `${count(done)} of ${count(total)}`}${again !== undefined && ` · ${again}`}</small
    >`;
}

/** Whole days that are over, and the quarters before this one. */
function presets(now: Instant): readonly { readonly word: string; readonly first: string; readonly last: string }[] {
  const text = (at: Instant): string => new Date(at).toISOString().slice(0, 10);
  const days = (n: number) => ({ word: `Last ${n} days`, first: text(now - n * DAY_MS), last: text(now - DAY_MS) });
  return [days(30), days(90), ...quartersTo(now, QUARTERS).slice(1)];
}

// ── asking for one ───────────────────────────────────────────────────────────────────────────────────────────────────

function form({
  sent,
  wrong,
  now,
  may,
  frameworks,
  asked,
}: {
  readonly sent: Sent;
  readonly wrong: Wrongs;
  readonly now: Instant;
  readonly may: Principal;
  readonly frameworks: readonly (readonly [id: string, name: string])[];
  /** Days that a link names. */
  readonly asked: { readonly from: string | undefined; readonly to: string | undefined };
}): Html {
  const text = (at: Instant): string => new Date(at).toISOString().slice(0, 10);
  const fresh = sent.size === 0;
  const period = fresh
    ? { first: asked.from ?? text(now - 30 * DAY_MS), last: asked.to ?? text(now - DAY_MS) }
    : { first: first(sent, 'from'), last: first(sent, 'to') };
  const chosen = sent.get('framework') ?? (fresh ? frameworks.map(([id]) => id) : []);
  return html`<section class="sheet" id="export">
    <header><h2>Export a period</h2></header>
    <form class="pad form" method="post" action="${PATH}">
      ${wrongHtml(wrong, LABELS)}
      <div class="pair">${periodHtml(period, wrong)}</div>
      <nav class="chips presets" aria-label="Periods">
        ${presets(now).map(({ word, first: begin, last }) => presetHtml(`${PATH}?from=${begin}&to=${last}#export`, word, period.first === begin && period.last === last))}
      </nav>
      <small class="quiet">Days in UTC, both included; today counts up to now.</small>
      ${inputHtml(
        {
          name: 'hosts',
          label: LABELS.hosts,
          help: html`Empty: ${may.groups === null ? 'every host' : `all hosts of ${may.groups.join(', ')}`}. Else
            <code>group:prod/web</code>, <code>label:tier=front</code>, <code>host:NAME</code>; a part shows nothing of
            other hosts, and proves its records one by one.`,
          wrong,
        },
        { value: first(sent, 'hosts'), max: 2000, mono: true, placeholder: 'every host' },
      )}
      <fieldset class="field">
        <legend class="label">${LABELS.framework}</legend>
        ${frameworks.map(
          ([id, name]) =>
            html`<label class="opt"
              ><input type="checkbox" name="framework" value="${id}" ${chosen.includes(id) && html` checked`} /><span
                >${name}</span
              ></label
            >`,
        )}
        <small
          >Mappings are in our own words; each row is marked a draft until a person with the standard reviewed
          it.</small
        >
      </fieldset>
      <div class="pair">
        ${inputHtml({ name: 'seed', label: LABELS.seed, help: 'To draw hosts: the auditor chooses it, and with it anybody draws the same.', wrong }, { value: first(sent, 'seed') })}
        ${inputHtml({ name: 'size', label: LABELS.size, help: 'Empty, both: no sample.', wrong }, { value: first(sent, 'size'), max: 5, placeholder: '25' })}
      </div>
      <div class="acts">
        <button class="btn first" type="submit">Export</button>
        <span class="quiet"
          >Exporting is logged. A host below ${PARAMETERS.completenessMin * 100} % of its expected check-ins is not
          assessed.</span
        >
      </div>
    </form>
  </section>`;
}

// ── checking one ─────────────────────────────────────────────────────────────────────────────────────────────────────

function checkSheet(fingerprint: string): Html {
  return html`<section class="sheet">
    <header><h2>How it is checked</h2></header>
    <div class="pad form">
      <p>Anywhere and offline, by whoever has the file:</p>
      ${commandHtml(`bootproof evidence verify FILE --key ${fingerprint}`)}
      <p>
        The key’s fingerprint must reach the auditor by another way than the bundle: whoever makes a bundle puts a key
        of their own into it. In a browser, from one file that needs no network:
        <a class="link" href="/verify">the verifier</a>. Without anything of ours: <code>VERIFY.md</code> in the bundle,
        with openssl, sha256sum and cosign.
      </p>
    </div>
  </section>`;
}
