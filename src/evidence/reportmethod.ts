/** How the printed report was made, how to check it, what it does not prove, and its words. */
import { CONTROL_RULES } from '#src/policy/controls.ts';
import { percent } from './controlrules.ts';
import { counted, day, html, number, type Markup } from './reportmarkup.ts';
import { table, type Page } from './reportpage.ts';
import { WORDS } from './reportwords.ts';

export function* method({ assessment, results, frameworks }: Page): Iterable<Markup> {
  const { head } = assessment.facts;
  const { parameters, population: all } = results;
  yield html`<p>
      Bootproof ${head.server.version} on ${head.server.name} computed this report from the facts in the bundle
      (<code>facts/</code>) and from nothing else, on ${day(head.exportedAt)}. Whoever has the bundle can compute it
      again. Times are UTC, by the server’s clock.
    </p>
    <ul>
      <li>
        Hosts:
        ${head.selection.hosts === 'all' ? 'every host that was enrolled for some part of the period' : html`those that <code>${head.selection.filter}</code> selects`};
        ${counted(all.inScope, 'line')} in scope, and the ids of ${number(all.outOfScope)} that were not. Names, groups
        and labels are those of the period’s end, as far as the trail of changes since is kept.
      </li>
      <li>
        A host counts as complete with at least ${percent(parameters.completenessMin)} of the reports that its interval
        makes due, and at least one.
      </li>
      <li>
        A finding counts as answered in time if within ${counted(parameters.answerHours, 'hour')} it was acknowledged,
        waived or gone.
      </li>
      <li>
        ${head.sampling === null ? html`No sample was drawn. <code>bootproof evidence sample</code> draws one from <code>csv/population.csv</code>.` : html`A sample of ${number(head.sampling.size)} hosts was drawn with the seed <code>${head.sampling.seed}</code> (${head.sampling.method}: hosts in the order of SHA-256 of seed, line feed and id), in <code>csv/sample.csv</code>. With the same seed everybody draws the same.`}
      </li>
      <li>
        ${head.notices === null ? 'Messages about findings are counted for the whole fleet, and this is a part of it.' : html`Messages about findings: ${number(head.notices.delivered)} delivered, ${number(head.notices.failed)} failed. They are counted here and enter no result.`}
      </li>
      <li>
        CSV files are UTF-8 with a byte order mark. A cell that a spreadsheet would take for a formula has an apostrophe
        before it; take one leading apostrophe away to have the text.
      </li>
    </ul>
    <h3>Rules that compute results</h3> `;
  const used = new Set(frameworks.flatMap(({ controls }) => controls.flatMap((each) => each.rules)));
  yield* table(
    'Rules',
    [['Rule', 'w12'], ['Satisfied when']],
    (Object.keys(CONTROL_RULES) as (keyof typeof CONTROL_RULES)[])
      .filter((rule) => used.has(rule))
      .map(
        (rule) =>
          html`<tr>
            <th scope="row">${rule}</th>
            <td>${CONTROL_RULES[rule]}</td>
          </tr> `,
      ),
  );
  yield html`<p>
    A control is not satisfied if one of its rules is not on one host; not assessed if on one host it cannot be told, or
    nothing computes it; satisfied otherwise. What is waived by an approved decision is an exception, counted apart.
  </p> `;
}

export function check({ fingerprint, assessment }: Page): Markup {
  const { head } = assessment.facts;
  return html`<ol>
    <li>
      Get the signing key’s fingerprint from another place than this bundle, and compare it with
      <code>${fingerprint}</code>.
    </li>
    <li>
      <code>bootproof evidence verify BUNDLE.zip --key FINGERPRINT</code> checks the signature over every file, the
      log’s proofs, each report of each host, and computes the results of controls again.
    </li>
    <li>
      Checkpoints that you kept earlier, or that hosts kept (<code>bootproof agent checkpoint</code>), show that the log
      was not written anew:
      <code>--known-checkpoint FILE</code
      >.${head.log.level === 0 && html` <b>Without one, this bundle is the server’s word alone.</b>`}
    </li>
    <li>
      <code>VERIFY.md</code> in the bundle does the same with sha256sum, openssl, cosign and the public tools for such
      logs.
    </li>
  </ol> `;
}

export function limits({ assessment }: Page): Markup {
  const { head } = assessment.facts;
  return html`<ul>
    <li>
      Machines that were never enrolled.
      ${head.selection.hosts === 'part' && 'And enrolled ones outside the selection.'}
    </li>
    <li>What a host was between two reports, and in the gaps that sections 2, 3 and 5 name.</li>
    <li>
      That a host’s kernel told the truth. The agent asks the running kernel what the files are; whoever controls that
      kernel can lie to it. Nothing here is attested by hardware.
    </li>
    <li>
      Anything outside <code>/usr</code> and <code>/etc</code>: <code>/var</code>, memory, running processes,
      containers, firmware.
    </li>
    <li>
      That an image is free of vulnerabilities, or well configured; only that it is known, and signed by whom policy
      names.
    </li>
    <li>
      That everything that happened was logged; only that what was logged was not changed or removed, as far as the
      level on the first page goes.
    </li>
    ${
      head.log.level === 2 &&
      html`<li>
        That the certificate of a timestamp authority was not revoked; whether it was valid at the time that it states
        is checked.
      </li>`
    }
    <li>That a natural person stood behind an account.</li>
  </ul> `;
}

export function glossary(): Markup {
  return html`<dl class="words">
    ${WORDS.map(
      ([word, means]) =>
        html`<dt>${word}</dt>
          <dd>${means}</dd>`,
    )}
  </dl> `;
}
