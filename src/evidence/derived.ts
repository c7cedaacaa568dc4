/**
 * The members of a bundle that are computed from its facts (docs/evidence.md 1): results of controls with the mappings that they were computed
 * by, OSCAL, tables, and the report. The same facts and mappings give the same bytes.
 */
import type { Framework } from '#src/policy/controls.ts';
import { assess, prepare, resultsText } from './controls.ts';
import { decisionsCsv, deploymentsCsv, exceptionsCsv, populationCsv, sampleCsv } from './csv.ts';
import type { Facts } from './facts.ts';
import { hasOscal, oscalDocument } from './oscal.ts';
import { reportDocument, type ReportOptions } from './report.ts';
import type { NewMember } from './zip.ts';

const encoder = new TextEncoder();

async function* encoded(pieces: AsyncIterable<string>): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) yield encoder.encode(piece);
}

/**
 * The members, in their order; each must be read before the next is asked for. `mappings`: with the text that they were read from, of at
 * least the frameworks that the head names.
 * @throws {ControlsError} for a framework without a mapping, and for facts out of order.
 */
export async function* derivedMembers(
  facts: Facts,
  mappings: readonly { readonly framework: Framework; readonly text: string }[],
  options: ReportOptions,
): AsyncGenerator<NewMember> {
  const assessment = await prepare(
    facts,
    mappings.map(({ framework }) => framework),
  );
  for (const id of facts.head.frameworks) {
    const { text } = mappings.find(({ framework }) => framework.id === id)!;
    yield { name: `controls/${id}.yaml`, content: encoder.encode(text) };
  }
  const results = await assess(assessment);
  yield { name: 'controls/results.json', content: encoder.encode(resultsText(results)) };
  if (hasOscal(assessment))
    yield { name: 'oscal/assessment-results.json', content: encoded(oscalDocument(assessment, results)) };
  yield { name: 'csv/population.csv', content: encoded(populationCsv(assessment)) };
  const sample = sampleCsv(assessment);
  if (sample !== undefined) yield { name: 'csv/sample.csv', content: encoded(sample) };
  yield { name: 'csv/exceptions.csv', content: encoded(exceptionsCsv(assessment)) };
  yield { name: 'csv/deployments.csv', content: encoded(deploymentsCsv(assessment)) };
  yield { name: 'csv/decisions.csv', content: encoded(decisionsCsv(assessment)) };
  yield { name: 'report/report.html', content: encoded(reportDocument(assessment, options)) };
}
