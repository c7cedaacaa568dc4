/** Table tests of image policies (docs/image-policy.md 10): recorded cases, and what each must come to. */
import { z } from 'zod';
import { problemOf, record, word } from '#src/document/shape.ts';
import { DocumentError, readYaml, type Place } from '#src/document/yaml.ts';
import type { Instant } from '#src/clock.ts';
import { IMAGE_POLICY_TESTS_MAX } from '#src/limits.ts';
import { REACHED, type ImageJudgement } from './judgement.ts';

export const TESTS_FORMAT = 'bootproof.image-test/1';

export const IMAGE_STATES = ['trusted', 'unsigned', 'rejected', 'unverifiable', 'not-assessed'] as const;

export type PolicyTest = {
  readonly name: string;
  /** File of a recorded case, beside the tests. */
  readonly case: string;
  /** Another name under which the image is known, `host/path`. */
  readonly as: string | undefined;
  /** When it is judged; undefined: when it was recorded. */
  readonly at: Instant | undefined;
  readonly expect: ImageJudgement['state'];
  readonly code: string | undefined;
  /** Names of the policies under which it is trusted. */
  readonly policies: readonly string[] | undefined;
  /** Part of by whom it is trusted. */
  readonly by: string | undefined;
  /** Policies of `mode: warn` that would refuse it, all of them. */
  readonly warns: readonly string[] | undefined;
  readonly place: Place;
};

export type PolicyTests = {
  readonly tests: readonly PolicyTest[];
  /** Files of trust roots, beside the tests. */
  readonly trustRoots: readonly { readonly name: string; readonly file: string }[];
};

const Name = z.string('expected text').min(1, 'expected text').max(253);
const File = z.string('expected the path of a file').min(1, 'expected the path of a file').max(4096);
const CODES = Object.keys(REACHED) as [string, ...string[]];

const TestDocument = record({
  format: z.literal(TESTS_FORMAT, `expected ${TESTS_FORMAT}`),
  trustRoots: z.array(record({ name: Name, file: File }), 'expected a list').optional(),
  tests: z
    .array(
      record({
        name: Name,
        case: File,
        as: Name.optional(),
        at: z.iso
          .datetime({ offset: true, error: 'expected a time with its zone, as in 2026-11-01T00:00:00Z' })
          .transform((text) => Date.parse(text))
          .optional(),
        expect: word(IMAGE_STATES),
        code: word(CODES).optional(),
        policies: z.array(Name, 'expected a list').optional(),
        by: Name.optional(),
        warns: z.array(Name, 'expected a list').optional(),
      }),
      'expected a list of tests',
    )
    .min(1, 'expected at least one test')
    .max(IMAGE_POLICY_TESTS_MAX),
});

/** @throws {DocumentError} naming every problem with its place */
export function parsePolicyTests(text: string, file: string): PolicyTests {
  const yaml = readYaml(text, file);
  const parsed = TestDocument.safeParse(yaml.value, { reportInput: true });
  if (!parsed.success)
    throw new DocumentError(
      'DOCUMENT_INVALID',
      file,
      parsed.error.issues.map((issue) => problemOf(issue, yaml)),
    );
  const { tests, trustRoots = [] } = parsed.data;
  const problems = tests.flatMap(({ name, expect, code, policies, by }, index) => {
    const place = (key: string) => yaml.placeOf(['tests', index, key]);
    return [
      ...(tests.findIndex((other) => other.name === name) === index
        ? []
        : [{ ...place('name'), message: `another test is called ${JSON.stringify(name)}` }]),
      ...(expect === 'trusted' && code !== undefined
        ? [{ ...place('code'), message: 'what is trusted has no code' }]
        : []),
      ...(expect !== 'trusted' && (policies ?? by) !== undefined
        ? [{ ...place(policies === undefined ? 'by' : 'policies'), message: `nobody vouches for what is ${expect}` }]
        : []),
    ];
  });
  if (problems.length > 0) throw new DocumentError('DOCUMENT_INVALID', file, problems);
  return {
    trustRoots,
    tests: tests.map(({ as, at, code, policies, by, warns, ...test }, index) => ({
      ...test,
      as,
      at,
      code,
      policies,
      by,
      warns,
      place: yaml.placeOf(['tests', index]),
    })),
  };
}

/** What came of a test's image, as far as tests ask. */
export type Came = {
  readonly state: ImageJudgement['state'];
  readonly code: string | null;
  readonly reason: string | null;
  readonly by: string | null;
  readonly policies: readonly string[];
  readonly warns: readonly string[];
};

/** What differs from what was expected, in words; empty: it passes. */
export function differences(test: PolicyTest, came: Came): string[] {
  const said = (list: readonly string[]) => (list.length === 0 ? 'none' : list.toSorted().join(', '));
  const differ = (what: string, expected: string, actual: string) =>
    expected === actual ? [] : [`expected ${what}${expected}, got ${actual}`];
  return [
    ...differ('', test.expect, came.state),
    ...(test.code === undefined ? [] : differ('code ', test.code, came.code ?? 'none')),
    ...(test.policies === undefined ? [] : differ('policies ', said(test.policies), said(came.policies))),
    ...(test.warns === undefined ? [] : differ('warnings of ', said(test.warns), said(came.warns))),
    ...(test.by === undefined || came.by?.includes(test.by) === true
      ? []
      : [`expected by …${test.by}…, got ${came.by ?? 'nobody'}`]),
  ];
}
