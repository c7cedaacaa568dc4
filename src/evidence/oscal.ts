/**
 * OSCAL Assessment Results 1.2.1 (pages.nist.gov/OSCAL), written as it is computed. Ids are UUIDs of version 5 made of what they name, so the
 * same facts give the same bytes. What OSCAL has no word for stands in properties under our namespace; a control that was not assessed has an
 * observation that says so and no finding, as OSCAL knows only satisfied and not.
 */
import { sha1 } from '@noble/hashes/legacy.js';
import { fromHex, toHex } from '#src/bytes.ts';
import { OSCAL_RELATED_MAX, OSCAL_RISKS_MAX } from '#src/limits.ts';
import type { Control, Framework } from '#src/policy/controls.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { shownText } from '#src/terminal.ts';
import { concerns, type Exception } from './controlrules.ts';
import { hostResults, type Assessment, type ControlResult, type Results } from './controls.ts';
import type { DecisionFact, HostInScope } from './facts.ts';

export const OSCAL_VERSION = '1.2.1';
export const OSCAL_NS = 'urn:bootproof:oscal:1';

const encoder = new TextEncoder();

/** RFC 9562 section 5.5. */
export function uuidV5(namespace: string, name: string): string {
  const space = fromHex(namespace.replaceAll('-', ''));
  const text = encoder.encode(name);
  const bytes = new Uint8Array(space.length + text.length);
  bytes.set(space);
  bytes.set(text, space.length);
  const hash = sha1(bytes).slice(0, 16);
  hash[6] = (hash[6]! & 0x0f) | 0x50;
  hash[8] = (hash[8]! & 0x3f) | 0x80;
  return toHex(hash).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** The name space for URLs and the like (RFC 9562 section 6.6). */
const URL_SPACE = '6ba7b811-9dad-11d1-80b4-00c04fd430c8';
const SPACE = uuidV5(URL_SPACE, OSCAL_NS);
const idOf = (...parts: readonly unknown[]): string => uuidV5(SPACE, canonicalJson(parts));

/** Text of a property: one line, no space at its ends, never empty. */
const valueOf = (text: string): string => shownText(text).trim() || '–';
/** Text in OSCAL's markup, in which a stranger's words are words. */
const markup = (text: string): string => valueOf(text).replace(/[\\`*_{}[\]<>#|~^"$]/g, '\\$&');
const prop = (name: string, value: string | number) => ({ name, ns: OSCAL_NS, value: valueOf(String(value)) });

/** Names of a control in OSCAL: NIST's, or, where nobody publishes a catalog, made of the framework and its own id. */
export function oscalNames(framework: Framework, { id, oscal }: Control): NonNullable<Control['oscal']> {
  if (oscal !== null) return oscal;
  const name = `${framework.id}_${id}`.replaceAll('(', '.').replaceAll(')', '');
  return { control: name, target: `${name}_obj`, kind: 'objective-id' };
}

const TOOL = idOf('tool');
const SERVER_PARTY = idOf('party', 'organization');
const person = (name: string): string => idOf('person', name);
const hostUuid = (host: string): string => idOf('host', host);
const ORIGINS = [{ actors: [{ type: 'tool', 'actor-uuid': TOOL }] }];

/** Whether there is a document to write: OSCAL's results are about controls, at least one. */
export const hasOscal = ({ controls }: Assessment): boolean => controls.some(({ control }) => control.rules.length > 0);

/** The document in pieces, where `hasOscal`. `results` are those that `assess` computed of the same facts. */
export async function* oscalDocument(assessment: Assessment, results: Results): AsyncGenerator<string> {
  const { facts, known, controls } = assessment;
  const { head } = facts;
  const document = idOf('document', head);
  const plan = idOf(document, 'plan');
  const evidence = idOf(document, 'evidence');
  const waivers = [...known.waivers.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const people = new Set(
    waivers.flatMap(({ requestedBy, decidedBy }) => (decidedBy === null ? [requestedBy] : [requestedBy, decidedBy])),
  );

  yield `{"assessment-results":{"uuid":${json(document)},"metadata":${json({
    title: 'Bootproof: integrity of hosts that boot from signed images',
    'last-modified': head.exportedAt,
    version: `${head.period.from.slice(0, 10)}/${head.period.to.slice(0, 10)}`,
    'oscal-version': OSCAL_VERSION,
    props: [
      prop('guarantee-level', head.log.level),
      prop('log-origin', head.log.origin),
      prop('log-size', head.log.size),
      prop('log-root', head.log.root),
    ],
    roles: [
      { id: 'assessor', title: 'Automated assessor' },
      { id: 'requester', title: 'Asked for a waiver' },
      { id: 'approver', title: 'Approved a waiver' },
    ],
    parties: [
      { uuid: SERVER_PARTY, type: 'organization', name: valueOf(head.server.name) },
      ...[...people].sort().map((name) => ({ uuid: person(name), type: 'person', name: valueOf(name) })),
    ],
  })},"import-ap":${json({ href: `#${plan}` })},"local-definitions":${json({
    activities: [
      activity(
        'Compare host trees with the booted image',
        'The agent hashes /usr and /etc and signs what it saw. The server compares the digests with those derived from the image that the host booted, and refuses a report that contradicts itself.',
      ),
      activity(
        'Verify who signed each booted image',
        'Signatures of each booted image digest are verified under the image policy in force.',
      ),
      activity(
        'Hold check-ins against the interval',
        'Reports expected and received are counted for each host, and every time without one that is longer than policy allows is named.',
      ),
    ],
  })},"results":[{"uuid":${json(idOf(document, 'result'))},"title":${json(`${head.period.from} to ${head.period.to}`)},"description":${json(
    'Computed from the facts of the bundle that holds this file, for the whole period. The mappings to controls are drafts where they are marked so.',
  )},"start":${json(head.period.from)},"end":${json(head.period.to)}`;
  yield `,"props":${json([
    prop('completeness-limit', head.parameters.completenessMin),
    prop('answer-limit-hours', head.parameters.answerHours),
    prop('hosts-in-scope', results.population.inScope),
    prop('hosts-below-completeness-limit', results.population.belowLimit),
    prop('reports-expected', results.population.checkIns.expected),
    prop('reports-received', results.population.checkIns.received),
  ])}`;

  yield `,"local-definitions":{"components":${json([
    {
      uuid: TOOL,
      type: 'software',
      title: 'Bootproof',
      description: 'Compares hosts with the image that they booted.',
      props: [{ name: 'version', value: valueOf(head.server.version) }],
      status: { state: 'operational' },
    },
  ])}`;
  const items = new List('inventory-items');
  for await (const host of facts.hosts()) if (host.inScope) yield items.next(inventoryItem(host));
  yield `${items.end()}}`;

  const computed = controls.filter(({ control }) => control.rules.length > 0);
  yield `,"reviewed-controls":${json({
    'control-selections': facts.head.frameworks
      .map((id) => computed.filter(({ framework }) => framework.id === id))
      .filter((own) => own.length > 0)
      .map((own) => ({
        description: markup(`${own[0]!.framework.title}, ${own[0]!.framework.version}`),
        'include-controls': own.map(({ framework, control }) => ({
          'control-id': oscalNames(framework, control).control,
        })),
      })),
  })}`;

  // One observation an exception, one a control.
  const related = new Related(assessment);
  const observations = new List('observations');
  for await (const { host, exceptions } of hostResults(assessment))
    for (const exception of exceptions) {
      const uuid = observationUuid(document, host, exception);
      related.add(uuid, exception);
      yield observations.next(observation(uuid, host, exception, head.exportedAt, evidence));
    }
  for (const [i, { framework, control }] of controls.entries())
    yield observations.next(
      summary(summaryUuid(document, framework, control), framework, control, results.controls[i]!, head.exportedAt),
    );
  yield observations.end();

  const risks = new List('risks');
  for (const waiver of waivers)
    if (waiver.decidedBy !== null && !REFUSED.has(waiver.state))
      yield risks.next(waiverRisk(document, waiver, related, head.period.to));
  for (const risk of related.open(document)) yield risks.next(risk);
  yield risks.end();

  const findings = new List('findings');
  for (const [i, { framework, control }] of controls.entries()) {
    const result = results.controls[i]!;
    if (result.outcome !== 'not-assessed')
      yield findings.next(
        finding(document, framework, control, result, [
          summaryUuid(document, framework, control),
          ...related.ofControl(i),
        ]),
      );
  }
  yield findings.end();

  const catalogs = facts.head.frameworks.flatMap((id) => {
    const framework = controls.find((each) => each.framework.id === id)?.framework;
    return framework?.catalog == null
      ? []
      : [
          {
            uuid: idOf('catalog', framework.catalog),
            title: valueOf(`${framework.title}, ${framework.version}`),
            rlinks: [{ href: framework.catalog }],
          },
        ];
  });
  yield `}],"back-matter":${json({
    resources: [
      {
        uuid: plan,
        title: 'Assessment plan',
        description:
          'There is no separate plan: every host is compared at the interval that policy asks for, and what was in force is in this bundle.',
      },
      {
        uuid: evidence,
        title: 'Signed statement of the bundle',
        description: 'Signs every member of the bundle that holds this file.',
        rlinks: [{ href: '../statement.dsse.json' }],
      },
      ...catalogs,
    ],
  })}}}\n`;
}

const json = (value: unknown): string => JSON.stringify(value);
const REFUSED = new Set(['rejected', 'withdrawn', 'requested']);

/** An array that is left out where it would be empty: OSCAL's arrays hold at least one. */
class List {
  readonly #name: string;
  #any = false;

  constructor(name: string) {
    this.#name = name;
  }

  next(value: unknown): string {
    const begin = this.#any ? ',' : `,${json(this.#name)}:[`;
    this.#any = true;
    return begin + json(value);
  }

  end(): string {
    return this.#any ? ']' : '';
  }
}

const activity = (title: string, description: string) => ({
  uuid: idOf('activity', title),
  title,
  description,
  props: [{ name: 'method', value: 'TEST' }],
});

function inventoryItem(host: HostInScope): object {
  const booted = host.deployments.at(-1);
  return {
    uuid: hostUuid(host.host),
    description: markup(`Host ${host.name}`),
    props: [
      { name: 'asset-id', value: host.host },
      prop('host-name', host.name),
      ...(host.group === null ? [] : [prop('group', host.group)]),
      ...(booted === undefined ? [] : [prop('image-digest', booted.image)]),
      prop('reports-expected', host.checkIns.expected),
      prop('reports-received', host.checkIns.received),
      prop('verdict-at-end', host.standing.verdict),
      prop('waived-at-end', host.standing.waived),
    ],
  };
}

const observationUuid = (document: string, { host }: HostInScope, exception: Exception): string => {
  const { kind, subject, from, to, interval, cause, finding: about } = exception;
  return idOf(document, 'observation', host, kind, subject, from, to, interval, cause, about?.group ?? null);
};
const summaryUuid = (document: string, framework: Framework, { id }: Control): string =>
  idOf(document, 'summary', framework.id, id);

function observation(
  uuid: string,
  host: HostInScope,
  exception: Exception,
  exportedAt: string,
  evidence: string,
): object {
  const { kind, weight, cause, subject, severity, from, to, noticedAt, decision, finding: about } = exception;
  const index = about?.history.findLast((step) => step.index !== null)?.index;
  return {
    uuid,
    title: markup(`${host.name}: ${subject ?? kind}`),
    description: markup(cause),
    props: [
      prop('kind', kind),
      prop('weight', weight),
      ...(severity === null ? [] : [prop('severity', severity)]),
      ...(subject === null ? [] : [prop('subject', subject)]),
      ...(from === null ? [] : [prop('from', from)]),
      ...(to === null ? [] : [prop('to', to)]),
      ...(decision === null ? [] : [prop('waiver', decision.id)]),
      prop('automation', 'automated'),
    ],
    methods: ['TEST'],
    types: ['finding'],
    origins: ORIGINS,
    subjects: [{ 'subject-uuid': hostUuid(host.host), type: 'inventory-item' }],
    'relevant-evidence': [
      {
        href: `#${evidence}`,
        description:
          index === undefined ? 'Facts in this bundle.' : `Facts in this bundle; entry ${index} of the evidence log.`,
      },
    ],
    collected: noticedAt ?? from ?? exportedAt,
  };
}

function summary(
  uuid: string,
  framework: Framework,
  control: Control,
  result: ControlResult,
  exportedAt: string,
): object {
  const { outcome, reasons, hosts, hostsWaived, exceptions } = result;
  return {
    uuid,
    title: markup(`${framework.title} ${control.id}: ${outcome}`),
    description: markup([control.title + '.', ...reasons].join(' ')),
    props: [
      prop('outcome', outcome),
      prop('mapping', result.status),
      prop('rules', control.rules.join(' ') || 'none'),
      prop('hosts-satisfied', hosts.satisfied),
      prop('hosts-not-satisfied', hosts['not-satisfied']),
      prop('hosts-not-assessed', hosts['not-assessed']),
      prop('hosts-waived', hostsWaived),
      prop('exceptions-waived', exceptions.waived),
      prop('automation', 'automated'),
    ],
    methods: ['TEST'],
    types: ['control-objective'],
    origins: ORIGINS,
    collected: exportedAt,
    remarks: markup(`Does not prove: ${control.doesNotProve.join(' ')}`),
  };
}

/** Which observations a risk and a finding of OSCAL name: the first of each, as the whole lists would not fit in memory. */
class Related {
  readonly #assessment: Assessment;
  readonly #controls: string[][];
  readonly #waivers = new Map<string, string[]>();
  readonly #groups = new Map<string, { exception: Exception; hosts: number; observations: string[] }>();
  #beyond = 0;

  constructor(assessment: Assessment) {
    this.#assessment = assessment;
    this.#controls = assessment.controls.map(() => []);
  }

  add(uuid: string, exception: Exception): void {
    const { weight, decision, finding: about } = exception;
    if (weight === 'fails' || weight === 'unknown' || weight === 'waived')
      for (const [i, own] of this.#controls.entries())
        if (
          own.length < OSCAL_RELATED_MAX &&
          this.#assessment.controls[i]!.asks.some((ask) => concerns(exception, ask))
        )
          own.push(uuid);
    if (decision !== null) {
      const own = this.#waivers.get(decision.id) ?? [];
      if (own.length < OSCAL_RELATED_MAX) own.push(uuid);
      this.#waivers.set(decision.id, own);
    }
    if (weight !== 'fails' || exception.kind !== 'finding') return;
    const group = this.#groups.get(about!.group);
    if (group !== undefined) {
      group.hosts++;
      if (group.observations.length < OSCAL_RELATED_MAX) group.observations.push(uuid);
    } else if (this.#groups.size < OSCAL_RISKS_MAX)
      this.#groups.set(about!.group, { exception, hosts: 1, observations: [uuid] });
    else this.#beyond++;
  }

  ofControl(index: number): readonly string[] {
    return this.#controls[index]!;
  }

  ofWaiver(id: string): readonly string[] {
    return this.#waivers.get(id) ?? [];
  }

  /** A risk for each group of findings that is open without a waiver. */
  *open(document: string): Iterable<object> {
    for (const [group, { exception, hosts, observations }] of this.#groups)
      yield {
        uuid: idOf(document, 'risk', group),
        title: markup(exception.subject ?? exception.cause),
        description: markup(exception.cause),
        statement: `On ${hosts} ${hosts === 1 ? 'host' : 'hosts'} at the end of the period.`,
        props: [prop('finding', group), prop('hosts', hosts)],
        status: 'open',
        ...(exception.severity === null
          ? {}
          : {
              characterizations: [
                { origin: ORIGINS[0], facets: [{ name: 'impact', system: OSCAL_NS, value: exception.severity }] },
              ],
            }),
        'related-observations': observations.map((uuid) => ({ 'observation-uuid': uuid })),
      };
    if (this.#beyond > 0)
      yield {
        uuid: idOf(document, 'risk', 'beyond'),
        title: 'More findings',
        description: `${this.#beyond} further findings are open; csv/exceptions.csv has all of them.`,
        statement: `Only the first ${OSCAL_RISKS_MAX} groups are written as risks.`,
        status: 'open',
      };
  }
}

function waiverRisk(document: string, waiver: DecisionFact, related: Related, end: string): object {
  const { id, title, justification, covers, requestedBy, decidedBy, startsAt, decidedAt, requestedAt, endsAt, alone } =
    waiver;
  const over = waiver.state === 'revoked' || waiver.state === 'expired' || (endsAt !== null && endsAt < end);
  const observations = related.ofWaiver(id);
  return {
    uuid: idOf(document, 'waiver', id),
    title: markup(`${id}: ${title}`),
    description: markup(justification),
    statement: markup(`Excepts ${covers}`),
    props: [prop('waiver', id), prop('asked-and-approved-by-one-person', alone ? 'yes' : 'no')],
    status: over ? 'closed' : 'deviation-approved',
    'risk-log': {
      entries: [
        {
          uuid: idOf(document, 'waiver-asked', id),
          title: 'Asked for',
          start: requestedAt,
          'logged-by': [{ 'party-uuid': person(requestedBy), 'role-id': 'requester' }],
          'status-change': 'deviation-requested',
        },
        {
          uuid: idOf(document, 'waiver-approved', id),
          title: 'Approved',
          start: startsAt ?? decidedAt ?? requestedAt,
          ...(endsAt === null ? {} : { end: endsAt }),
          'logged-by': [{ 'party-uuid': person(decidedBy!), 'role-id': 'approver' }],
          'status-change': 'deviation-approved',
        },
      ],
    },
    ...(observations.length === 0
      ? {}
      : { 'related-observations': observations.map((uuid) => ({ 'observation-uuid': uuid })) }),
  };
}

function finding(
  document: string,
  framework: Framework,
  control: Control,
  result: ControlResult,
  observations: readonly string[],
): object {
  const { target, kind } = oscalNames(framework, control);
  const { outcome, hosts, hostsWaived, reasons } = result;
  const counted = `${hosts.satisfied} hosts satisfied, of these ${hostsWaived} with waivers; ${hosts['not-satisfied']} not satisfied; ${hosts['not-assessed']} not assessed.`;
  return {
    uuid: idOf(document, 'finding', framework.id, control.id),
    title: markup(`${framework.title} ${control.id}: ${control.title}`),
    description: markup([counted, ...reasons].join(' ')),
    props: [prop('mapping', result.status), prop('hosts-waived', hostsWaived)],
    target: {
      type: kind,
      'target-id': target,
      status: { state: outcome, reason: outcome === 'satisfied' ? 'pass' : 'fail' },
    },
    'related-observations': observations.map((uuid) => ({ 'observation-uuid': uuid })),
  };
}
