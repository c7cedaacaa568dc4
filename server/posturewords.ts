/** What two answers about one moment differ in, in words: what the page sets side by side, and the command says beneath (docs/posture.md 5). */

/** An answer, as far as it is compared: what the server has, and what the API tells, alike. */
export type Compared = {
  readonly verdict: { readonly value: string | null };
  readonly report: { readonly value: { readonly seq: number; readonly cameLater: boolean } | null };
  readonly image: { readonly value: { readonly digest: string | null } | null };
  readonly findings: {
    readonly value:
      | readonly {
          readonly group: string;
          readonly what: string;
          readonly disposition: string | null;
          readonly waiver: string | null;
        }[]
      | null;
  };
  /** Null for who may not read waivers. */
  readonly waivers: readonly { readonly id: string; readonly until: number | string }[] | null;
};

/** Findings that are named; the others are counted. */
const NAMED = 5;

/** Sentences; none where both say the same. */
export function differencesOf(then: Compared, now: Compared): readonly string[] {
  return [...verdicts(then, now), ...reports(then, now), ...findings(then, now), ...waivers(then, now)];
}

const told = (value: string | null): string => value ?? 'unknown';
const sentence = (text: string): string => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;

function verdicts(then: Compared, now: Compared): string[] {
  if (then.verdict.value === now.verdict.value) return [];
  return [`The verdict was told as ${told(then.verdict.value)}; as known later it is ${told(now.verdict.value)}.`];
}

function reports(then: Compared, now: Compared): string[] {
  const [a, b] = [then.report.value, now.report.value];
  const out: string[] = [];
  if (b?.cameLater === true && a?.seq !== b.seq)
    out.push(
      `Report ${b.seq}, made before that moment, came only after it${a === null ? '' : `; until then report ${a.seq} was the newest`}.`,
    );
  const [was, is] = [then.image.value?.digest ?? null, now.image.value?.digest ?? null];
  if (was !== null && is !== null && was !== is) out.push(`It ran ${is}, not ${was} as was known then.`);
  return out;
}

function findings(then: Compared, now: Compared): string[] {
  const [was, is] = [then.findings.value, now.findings.value];
  if (was === null || is === null) return [];
  const before = new Map(was.map((one) => [one.group, one]));
  const after = new Map(is.map((one) => [one.group, one]));
  const lines = [
    ...listed(
      is.filter(({ group }) => !before.has(group)),
      'not known then',
    ),
    ...listed(
      was.filter(({ group }) => !after.has(group)),
      'no finding as known later',
    ),
  ];
  const decided = is.filter(({ group, disposition, waiver }) => {
    const other = before.get(group);
    return other !== undefined && (other.disposition !== disposition || other.waiver !== waiver);
  });
  return [...lines, ...listed(decided, 'decided about in another way, as known later')];
}

function listed(some: readonly { readonly what: string }[], how: string): string[] {
  const named = some.slice(0, NAMED).map(({ what }) => sentence(`${what}: ${how}`));
  return some.length > NAMED ? [...named, `${some.length - NAMED} more of these: ${how}.`] : named;
}

function waivers(then: Compared, now: Compared): string[] {
  if (then.waivers === null || now.waivers === null) return [];
  const before = new Map(then.waivers.map(({ id, until }) => [id, until]));
  const after = new Map(now.waivers.map(({ id, until }) => [id, until]));
  return [
    ...[...after].flatMap(([id, until]) => {
      if (!before.has(id)) return [`${id} was in force, which was not known then.`];
      return before.get(id) === until ? [] : [`${id} ended at another time than was known then.`];
    }),
    ...[...before.keys()].filter((id) => !after.has(id)).map((id) => `${id} was not in force, as known later.`),
  ];
}
