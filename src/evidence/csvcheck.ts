/** The tables of a bundle against its facts (docs/evidence.md 3.4): as many rows as hosts, and the sample that its seed draws. */
import { BootproofError } from '#src/error.ts';
import { HostFact, type BundleHead } from './facts.ts';
import { linesOf } from './lines.ts';
import type { BundleReader } from './reader.ts';
import { drawSample } from './sample.ts';

export class CsvError extends BootproofError<'CSV_DIFFERS'> {}

export const POPULATION = 'csv/population.csv';
export const SAMPLE = 'csv/sample.csv';

/** What is fine, in words. @throws {CsvError} for rows that the facts do not have, or lack */
export async function csvCheck(reader: BundleReader, { sampling }: BundleHead): Promise<string> {
  if (!reader.names.has(POPULATION)) return 'the bundle has no tables';
  const hosts = new Set<string>();
  for await (const fact of reader.list('facts/hosts', HostFact)) if (fact.inScope) hosts.add(fact.host);
  const rows = await idsIn(reader, POPULATION);
  const strange = rows.find((id) => !hosts.has(id));
  if (strange !== undefined || rows.length !== hosts.size || new Set(rows).size !== rows.length)
    throw new CsvError(
      'CSV_DIFFERS',
      `${POPULATION} has ${rows.length} hosts${strange === undefined ? '' : `, ${strange} among them, which is not in scope`}; in scope are ${hosts.size}`,
    );
  if (sampling === null || !reader.names.has(SAMPLE)) return `${rows.length} rows of the population; no sample`;
  const drawn = drawSample(hosts, sampling.seed, sampling.size);
  const sample = await idsIn(reader, SAMPLE);
  if (drawn.join() !== sample.join())
    throw new CsvError(
      'CSV_DIFFERS',
      `${SAMPLE} is not what its seed ${JSON.stringify(sampling.seed)} draws from the population`,
    );
  return `${rows.length} rows of the population, and the ${sample.length} that the seed draws`;
}

/** Host ids stand first and need no quotes; a cell with a line break begins no row that looks so. */
async function idsIn(reader: BundleReader, member: string): Promise<string[]> {
  const out: string[] = [];
  for await (const line of linesOf(reader.open(member), member)) {
    const id = /^(h_[a-z2-7]{26}),/.exec(line)?.[1];
    if (id !== undefined) out.push(id);
  }
  return out;
}
