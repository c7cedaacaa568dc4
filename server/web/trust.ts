/** By what images are judged, as a page of its own; and who signed an image, as a section of its page. What holds and by what proof; else the first reason of each authority, and where was looked. */
import type { Hono } from 'hono';
import { formatInstant } from '#src/clock.ts';
import type { Store } from '#server/store/store.ts';
import type { ImageTrust } from '#server/store/trustrecords.ts';
import type { KnownTrust } from '#server/trust/known.ts';
import { trustHappened, type TrustHappened } from '#server/trust/events.ts';
import { toldOf, type ProvenanceFacts } from '#server/trust/provenance.ts';
import { rootsTold, type RootTold } from '#server/trust/rootstold.ts';
import type { AuthorityTold, PolicyTold, Proof } from '#server/trust/told.ts';
import type { TrustSetup } from '#server/trust/setup.ts';
import { commandHtml, html, type Html } from './html.ts';
import { show } from './layout.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, plural, timeHtml, verdictHtml } from './words.ts';

/** Places and signatures that the page lists; the API has all. */
const ROWS_MAX = 40;

/** `/trust`: image policies, trust roots with their age, and how much is denied. */
export function trustPage(web: Hono<Env>, services: WebServices): void {
  const { store, clock, basis } = services;
  web.get('/trust', async (c) => {
    const now = clock();
    await basis.renew();
    const { setup } = basis;
    const roots = await rootsTold(basis, store, now);
    const denied = basis.denied.length + (setup?.policy.deny.length ?? 0);
    const body = html`${headHtml({
        title:
          setup === null
            ? 'Nobody is asked who signed the images'
            : `${plural(setup.policy.policies.length, 'image policy says', 'image policies say')} who may sign`,
        text:
          setup === null
            ? 'No image policy is configured: each host says of its image only whether it is whole, and not whose it is.'
            : `An image that none is about is ${NO_MATCH_WORDS[setup.policy.noMatch]}. ${denied === 0 ? 'Nothing is denied.' : `${plural(denied, 'thing')} denied.`}`,
      })}
      ${
        setup === null &&
        html`<section class="sheet">
          ${emptyHtml(
            'An image policy makes this answer',
            'It names whose signature counts on which images: a key, or an identity with who vouches for it. The server is started with it:',
            commandHtml('bootproof server --image-policy image-policy.yaml'),
          )}
        </section>`
      }
      <div class="stack">
        ${setup !== null && policiesSheet(setup)}
        ${
          roots.length > 0 &&
          html`<section class="sheet">
            <header><h2>Trust roots</h2></header>
            ${roots.map((root) => rootHtml(root, now))}
          </section>`
        }
      </div>`;
    return show(c, services, { title: 'Trust', section: '/trust', now, body });
  });
}

const NO_MATCH_WORDS = {
  unsigned: 'unsigned',
  allow: 'trusted, by nobody',
  'not-assessed': 'not assessed',
} as const;

function policiesSheet({ policy }: TrustSetup): Html {
  return html`<section class="sheet">
    <header><h2>Image policies</h2></header>
    <div class="pad">
      <ul class="rows">
        ${policy.policies.slice(0, ROWS_MAX).map(
          ({ name, mode, globs, authorities }) =>
            html`<li>
              <span class="grow"
                ><b>${name}</b>${mode === 'warn' && ' (warns)'}:
                ${plural(authorities.length, 'authority', 'authorities')} over
                <code>${globs.map(({ source }) => source).join(' ')}</code></span
              >
            </li>`,
        )}
        ${policy.lints.slice(0, ROWS_MAX).map(
          ({ file, line, code, message }) =>
            html`<li>
              <span class="grow"><code>${code}</code> ${message} (${file}:${line})</span>
            </li>`,
        )}
      </ul>
    </div>
  </section>`;
}

const FROM_WORDS = {
  file: 'a file that the server was given',
  document: 'a TrustRoot document of the image policy',
  tuf: 'its TUF repository',
} as const;

function rootHtml({ name, sha256, from, since, refresh, endsNext, setAside, neededBy }: RootTold, now: number): Html {
  const failure = refresh?.failure;
  return html`<div class="pad">
    <h3>${name}</h3>
    <dl class="facts">
      <dt>From</dt>
      <dd>
        ${from === null ? 'It is missing: what needs it cannot be told. Give it with --trust-root.' : FROM_WORDS[from]}
      </dd>
      ${
        sha256 !== null &&
        html`<dt>SHA-256</dt>
          <dd><code>${sha256}</code></dd>`
      }
      ${
        since !== null &&
        html`<dt>This one since</dt>
          <dd>${timeHtml(since)}, ${agoHtml(since, now)} ago</dd>`
      }
      ${
        refresh !== null
          ? html`<dt>Kept up by</dt>
              <dd>
                <code>${refresh.mirror}</code>,
                ${refresh.refreshedAt === null ? 'not refreshed yet' : html`last ${agoHtml(refresh.refreshedAt, now)} ago`}${
                  refresh.expires !== null &&
                  html`; it vouches ${refresh.expires < now ? 'no longer, its word ended' : 'until'}
                  ${timeHtml(refresh.expires)}`
                }
              </dd>`
          : from !== null &&
            html`<dt>Kept up by</dt>
              <dd>nobody: it stays what it was given as</dd>`
      }
      ${
        failure != null &&
        html`<dt>Not refreshed</dt>
          <dd>
            since ${timeHtml(failure.since)}: <code>${failure.code}</code> ${failure.reason}${
              sha256 !== null && '. The last one stays.'
            }
          </dd>`
      }
      ${
        endsNext !== null &&
        html`<dt>Ends next</dt>
          <dd>${endsNext.what}, ${timeHtml(endsNext.at)}; what was signed before stays good</dd>`
      }
      ${
        setAside.length > 0 &&
        html`<dt>Set aside</dt>
          <dd>${setAside.join(', ')}: their certificates do not allow what they are listed for</dd>`
      }
      <dt>Needed by</dt>
      <dd>${neededBy.length === 0 ? 'no image policy' : neededBy.join(', ')}</dd>
    </dl>
  </div>`;
}

export async function trustSheet(
  digest: string,
  { store, trust }: { readonly store: Pick<Store, 'trust' | 'audit'>; readonly trust: KnownTrust },
  now: number,
): Promise<Html> {
  const { facts } = await trust.of(digest);
  const known = facts.stamp === 'not-assessed' ? undefined : await store.trust.get(digest);
  const events = known === undefined ? [] : await trustHappened(digest, store);
  return html`<section class="sheet">
    <header>
      <h2>Who signed it</h2>
      ${verdictHtml(facts.provenance.state)}
    </header>
    <div class="pad form">
      <p>${sentence(facts)}</p>
      ${known !== undefined && detail(known, now)} ${events.length > 0 && eventsHtml(events)}
    </div>
  </section>`;
}

function sentence({ provenance }: ProvenanceFacts): string {
  switch (provenance.state) {
    case 'not-assessed':
      return 'No image policy says anything of this image, so its signatures are not assessed.';
    case 'trusted':
      return `Signed by ${provenance.by}, as the policy ${provenance.policy} demands.`;
    case 'unverifiable':
      return `Since ${formatInstant(provenance.since)} nobody can tell: ${provenance.why}.`;
    case 'unsigned':
      return `No signature that counts: ${provenance.why}.`;
    case 'rejected':
      return `Signed, but not as it must be: ${provenance.why}.`;
  }
}

function eventsHtml(events: readonly TrustHappened[]): Html {
  return html`<details>
    <summary>What happened to it</summary>
    <ul class="rows">
      ${events.map(
        ({ at, event, text }) =>
          html`<li>
            <span class="grow">${timeHtml(at)} <code>${event}</code> ${text}</span>
          </li>`,
      )}
    </ul>
  </details>`;
}

function detail(known: ImageTrust, now: number): Html {
  const { policies, checked, looked, hostPolicy } = toldOf(known);
  return html`<dl class="facts">
      ${policies.map(policyHtml)}
      ${
        hostPolicy !== null &&
        known.state === 'trusted' &&
        html`<dt>Hosts that enforce signatures</dt>
          <dd>${hostPolicy.readable ? 'can read it' : 'cannot read it'}: ${hostPolicy.reason}</dd>`
      }
      ${
        known.vanishedAt !== null &&
        html`<dt>Gone</dt>
          <dd>The proof is kept, and no longer lies where it lay, since ${timeHtml(known.vanishedAt)}</dd>`
      }
      ${
        known.lastGood !== null &&
        html`<dt>Last known</dt>
          <dd>${known.lastGood.state}, ${agoHtml(known.lastGood.at, now)}</dd>`
      }
      <dt>Judged</dt>
      <dd>${agoHtml(known.verifiedAt, now)}; this answer since ${timeHtml(known.since)}</dd>
      <dt>All places answered</dt>
      <dd>${known.lookedAt === null ? 'never' : agoHtml(known.lookedAt, now)}</dd>
      ${
        known.unreachableSince !== null &&
        html`<dt>Silent</dt>
          <dd>A place does not answer, since ${timeHtml(known.unreachableSince)}</dd>`
      }
    </dl>
    <details>
      <summary>${plural(checked.length, 'signature')} found, ${plural(looked.length, 'place')} asked</summary>
      <ul class="rows">
        ${checked.slice(0, ROWS_MAX).map(
          ({ where, format, outcome, code, reason }) =>
            html`<li>
              <span class="grow"
                ><code>${where}</code> (${format}): ${outcome}
                ${code !== null && html`<code>${code}</code> ${reason}`}</span
              >
            </li>`,
        )}
        ${looked.slice(0, ROWS_MAX).map(
          ({ where, outcome, code, reason }) =>
            html`<li>
              <span class="grow"
                ><code>${where}</code>: ${outcome} ${code !== undefined && html`<code>${code}</code> ${reason}`}</span
              >
            </li>`,
        )}
      </ul>
    </details>`;
}

function policyHtml({ name, mode, authorities }: PolicyTold): Html {
  return html`${authorities.map(
    (authority) =>
      html`<dt>${name}${mode === 'warn' && ' (warns)'}, ${authority.name}</dt>
        <dd>${authority.state === 'passed' ? authority.proofs.map(proofHtml) : reasonHtml(authority)}</dd>`,
  )}`;
}

function reasonHtml({ state, code, reason }: AuthorityTold): Html {
  return html`${state} <code>${code}</code> ${reason}`;
}

function proofHtml(proof: Proof): Html {
  const [time] = proof.times;
  const [entry] = proof.entries;
  return html`<p>
    ${proof.by},
    ${proof.algorithm}${time === undefined ? ', at no trusted time' : `, signed ${time.at} (${time.by})`}${entry !== undefined && `, entry ${entry.logIndex} of ${entry.log}`}${proof.roots.length > 0 && `, under the trust root ${proof.roots.map(({ name }) => name).join(', ')}`};
    ${proof.where}
  </p>`;
}
