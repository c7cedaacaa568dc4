/** Who signed an image: the section of its page. What holds and by what proof; else the first reason of each authority, and where was looked. */
import { formatInstant } from '#src/clock.ts';
import type { Store } from '#server/store/store.ts';
import type { ImageTrust } from '#server/store/trustrecords.ts';
import type { KnownTrust } from '#server/trust/known.ts';
import { toldOf, type ProvenanceFacts } from '#server/trust/provenance.ts';
import type { AuthorityTold, PolicyTold, Proof } from '#server/trust/told.ts';
import { html, type Html } from './html.ts';
import { agoHtml, plural, timeHtml, verdictHtml } from './words.ts';

/** Places and signatures that the page lists; the API has all. */
const ROWS_MAX = 40;

export async function trustSheet(
  digest: string,
  { store, trust }: { readonly store: Pick<Store, 'trust'>; readonly trust: KnownTrust },
  now: number,
): Promise<Html> {
  const { facts } = await trust.of(digest);
  const known = facts.stamp === 'not-assessed' ? undefined : await store.trust.get(digest);
  return html`<section class="sheet">
    <header>
      <h2>Who signed it</h2>
      ${verdictHtml(facts.provenance.state)}
    </header>
    <div class="pad">
      <p>${sentence(facts)}</p>
      ${known !== undefined && detail(known, now)}
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
