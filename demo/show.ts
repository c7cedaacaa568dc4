/** The fleet as a table for people and as one document for programs. */
import { printableText } from '#src/terminal.ts';
import type { FleetHost } from './fleet.ts';
import { DEMO_HOSTS, type DemoHost } from './host.ts';

/** What `npm run -s demo -- --json` prints (README, "The demo fleet as a check"). */
export function fleetJson(hosts: readonly FleetHost[]): object {
  return {
    hosts: inOrder(hosts).map((host) => ({
      name: host.name,
      verdict: host.verdict,
      integrity: host.integrity.state,
      provenance: host.provenance.state,
      freshness: host.freshness.state,
      reasons: host.reasons.map(({ text }) => text),
      drift: host.drift ?? { added: 0, removed: 0, modified: 0 },
    })),
    expected: Object.fromEntries(DEMO_HOSTS.map(({ name, verdict }) => [name, verdict])),
    ...(asExpected(hosts) ? {} : { unexpected: unexpected(hosts) }),
  };
}

/** A host that did not get the verdict that it must get, and why. */
export type Unexpected = {
  readonly name: string;
  readonly expected: string;
  readonly verdict: string | null;
  readonly because: string;
};

/** None where all is as it must be; `of`: the hosts that there are. */
export function unexpected(hosts: readonly FleetHost[], of: readonly DemoHost[] = DEMO_HOSTS): Unexpected[] {
  return of.flatMap(({ name, verdict: expected }): Unexpected[] => {
    const host = hosts.find((found) => found.name === name);
    if (host?.verdict === expected) return [];
    if (host === undefined) return [{ name, expected, verdict: null, because: 'it did not enrol' }];
    return [{ name, expected, verdict: host.verdict, because: host.reasons[0]?.text ?? host.sentence }];
  });
}

/** Whether each host of the demo got the verdict that it must get. */
export function asExpected(hosts: readonly FleetHost[]): boolean {
  return unexpected(hosts).length === 0;
}

const REASONS_SHOWN = 4;

/** The table: a line a host, its three answers, then why; under it what is not as it must be. */
export function fleetTable(hosts: readonly FleetHost[]): string {
  const rows = inOrder(hosts).map((host) => [
    host.name,
    host.verdict,
    host.integrity.state,
    host.provenance.state,
    host.freshness.state,
  ]);
  const head = ['host', 'verdict', 'integrity', 'provenance', 'freshness'];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) =>
    `${cells
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd()}\n`;
  let out = line(head);
  for (const [index, host] of inOrder(hosts).entries()) {
    out += line(rows[index]!);
    out += `  ${printableText(host.sentence)}\n`;
    const reasons = host.reasons.filter(({ text }) => !host.sentence.includes(text));
    for (const { text } of reasons.slice(0, REASONS_SHOWN)) out += `  - ${printableText(text)}\n`;
    if (reasons.length > REASONS_SHOWN) out += `  - and ${reasons.length - REASONS_SHOWN} more\n`;
  }
  const wrong = unexpected(hosts);
  if (wrong.length > 0)
    out += '\nThis is not as expected; a machine that is very busy may be the reason: try again when it is not.\n';
  for (const { name, expected, verdict, because } of wrong)
    out += `  ${name}: expected ${expected}, is ${verdict ?? 'not there'}, because: ${printableText(because)}\n`;
  return out;
}

function inOrder(hosts: readonly FleetHost[]): FleetHost[] {
  const place = (host: FleetHost) => DEMO_HOSTS.findIndex(({ name }) => name === host.name);
  return hosts.toSorted((a, b) => place(a) - place(b));
}
