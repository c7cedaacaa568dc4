/**
 * Conditions in CEL that our documents hold (docs/image-policy.md 6, docs/policy.md 4.5). Loops only ask (`all`, `exists`, `exists_one`)
 * and count their steps, regular expressions are RE2, and there is no clock: the same facts are judged the same tomorrow.
 */
import {
  celEnv,
  celFunc,
  celMethod,
  CelScalar,
  isCelError,
  isCelList,
  isCelMap,
  listType,
  mapType,
  parse,
  plan,
  type CelFunc,
  type CelInput,
  type CelValue,
} from '@bufbuild/cel';
import { RE2JS } from '@bufbuild/re2';
import { BootproofError } from '#src/error.ts';
import { CONDITION_CHARS_MAX, CONDITION_LOOPS_MAX, CONDITION_PATTERNS_KEPT } from '#src/limits.ts';
import { printableText } from '#src/terminal.ts';
import { nearest } from './spelling.ts';

export class ConditionError extends BootproofError<'CONDITION_SYNTAX' | 'CONDITION_LIMIT'> {}

export type ConditionResult =
  | { readonly kind: 'true' }
  | { readonly kind: 'false' }
  /** A field that is not there, a comparison of unlike things, no yes or no. */
  | { readonly kind: 'error'; readonly message: string }
  /** It was given up: whether it holds, nobody knows. */
  | { readonly kind: 'limit'; readonly message: string };

/** An expression that was read; `run` answers it for one set of facts. */
export type Expression = {
  /** As it was written. */
  readonly source: string;
  readonly run: (facts: Readonly<Record<string, unknown>>) => ConditionResult;
};

type Expr = NonNullable<ReturnType<typeof parse>['expr']>;

/** Variables, and the fields that they are known to have; `null`: whatever is in them. */
export type Variables = ReadonlyMap<string, readonly string[] | null>;

/** Names of types, which CEL has as values. */
const TYPES = ['bool', 'bytes', 'double', 'int', 'list', 'map', 'null_type', 'string', 'type', 'uint'];

/** What the planner itself knows of; not in the list of functions. */
const OPERATORS = ['_&&_', '_||_', '_?_:_', '_[_]', '@not_strictly_false', '!_', '@in'];

/** Reads a condition over these variables. @throws {ConditionError} with the place inside the expression. */
export function parseExpression(
  source: string,
  variables: Variables,
  bounds: {
    /** Elements that one evaluation may go through. */
    readonly steps: number;
    /** What is too large for it where it goes through more. */
    readonly subject: string;
  },
): Expression {
  if (source.length > CONDITION_CHARS_MAX)
    throw new ConditionError(
      'CONDITION_LIMIT',
      `a condition of ${source.length} characters; at most ${CONDITION_CHARS_MAX}`,
    );
  const counter = { left: 0 };
  const env = celEnv({ funcs: countedFunctions(counter) });
  const parsed = parsedOf(source);
  const known = new Set([...OPERATORS, ...[...env.funcs].map(({ name }) => name)]);
  check(parsed.expr, {
    variables,
    known,
    bound: [],
    loops: 0,
    at: (id) => placeIn(source, parsed.sourceInfo?.positions[String(id)]),
  });
  const plans = plan(env, parsed.expr);
  const run = (facts: Readonly<Record<string, unknown>>): ConditionResult => {
    counter.left = bounds.steps;
    const result = plans(facts as Record<string, CelInput>);
    if (counter.left < 0)
      return { kind: 'limit', message: `given up after ${bounds.steps} steps: ${bounds.subject} is too large for it` };
    if (isCelError(result)) return { kind: 'error', message: printableText(result.message.slice(0, 300)) };
    if (typeof result !== 'boolean') return { kind: 'error', message: 'it says neither true nor false' };
    return { kind: result ? 'true' : 'false' };
  };
  return { source, run };
}

function parsedOf(source: string) {
  try {
    return parse(source);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const text = error instanceof RangeError ? 'nested too deeply' : error.message.replace(/^.*<input>:/, 'at ');
    throw new ConditionError('CONDITION_SYNTAX', printableText(text.slice(0, 300)), { cause: error });
  }
}

function placeIn(source: string, offset: number | undefined): string {
  if (offset === undefined) return 'in it';
  const before = source.slice(0, offset).split('\n');
  return `at ${before.length}:${before.at(-1)!.length + 1}`;
}

type Scope = {
  readonly variables: Variables;
  readonly known: ReadonlySet<string>;
  readonly bound: readonly string[];
  readonly loops: number;
  readonly at: (id: bigint) => string;
};

/** Walks the expression: every name must mean something, and every loop is made to count (docs/image-policy.md 6.3). */
function check(expr: Expr, scope: Scope): void {
  const { id, exprKind } = expr;
  const refuse = (message: string): never => {
    throw new ConditionError('CONDITION_SYNTAX', `${scope.at(id)}: ${message}`);
  };
  const inside = (...exprs: (Expr | undefined)[]) => {
    for (const each of exprs) if (each !== undefined) check(each, scope);
  };
  switch (exprKind.case) {
    case 'constExpr':
      return;
    case 'identExpr': {
      const { name } = exprKind.value;
      if (scope.bound.includes(name) || scope.variables.has(name) || TYPES.includes(name)) return;
      const names = [...scope.variables.keys(), ...scope.bound.filter((bound) => !bound.startsWith('@'))];
      return refuse(`${JSON.stringify(name)} means nothing here${hint(name, names)}`);
    }
    case 'selectExpr': {
      const { operand, field } = exprKind.value;
      const fields =
        operand?.exprKind.case === 'identExpr' && !scope.bound.includes(operand.exprKind.value.name)
          ? scope.variables.get(operand.exprKind.value.name)
          : undefined;
      if (fields && !fields.includes(field)) refuse(`${JSON.stringify(field)} is no part of it${hint(field, fields)}`);
      return inside(operand);
    }
    case 'callExpr': {
      const { function: name, target, args } = exprKind.value;
      if (!scope.known.has(name)) refuse(`there is no function ${JSON.stringify(name)}${hint(name, [...scope.known])}`);
      if (name === 'matches') checkPattern(args.at(-1), refuse);
      return inside(target, ...args);
    }
    case 'listExpr':
      return inside(...exprKind.value.elements);
    case 'structExpr':
      if (exprKind.value.messageName !== '') refuse(`there are no types like ${exprKind.value.messageName} here`);
      for (const { keyKind, value } of exprKind.value.entries)
        inside(keyKind.case === 'mapKey' ? keyKind.value : undefined, value);
      return;
    case 'comprehensionExpr': {
      const loop = exprKind.value;
      // What these make can only be walked in time that grows with its square.
      if (loop.accuInit?.exprKind.case === 'listExpr')
        refuse('map() and filter() make lists; ask with exists(), all() or exists_one() instead');
      if (scope.loops === CONDITION_LOOPS_MAX) refuse(`loops stand at most ${CONDITION_LOOPS_MAX} deep in each other`);
      inside(loop.iterRange, loop.accuInit);
      const deeper = { ...scope, loops: scope.loops + 1, bound: [...scope.bound, loop.iterVar, loop.accuVar] };
      for (const part of [loop.loopCondition, loop.loopStep, loop.result]) if (part !== undefined) check(part, deeper);
      loop.iterRange = counted(loop.iterRange!);
      return;
    }
    case undefined:
      return refuse('nothing stands here');
  }
}

/** A pattern that is written out is compiled now: at run time it would only make the condition fail. */
function checkPattern(pattern: Expr | undefined, refuse: (message: string) => never): void {
  if (pattern?.exprKind.case !== 'constExpr') return;
  const { constantKind } = pattern.exprKind.value;
  if (constantKind.case !== 'stringValue') return;
  try {
    RE2JS.compile(constantKind.value);
  } catch (error) {
    refuse(error instanceof Error ? printableText(error.message.slice(0, 200)) : 'no RE2 syntax');
  }
}

function hint(name: string, names: readonly string[]): string {
  const meant = nearest(name, names);
  return meant === undefined
    ? `; there are ${names.filter((known) => /^\w+$/.test(known)).join(', ')}`
    : `, did you mean ${meant}?`;
}

const COUNTED = '@counted';

/** The list that a loop goes through, by way of what counts it. */
function counted(list: Expr): Expr {
  return {
    ...list,
    exprKind: { case: 'callExpr', value: { $typeName: 'cel.expr.Expr.Call', function: COUNTED, args: [list] } },
  };
}

const { BOOL, DYN, INT, STRING } = CelScalar;
const LIST = listType(DYN);
const MAP = mapType(DYN, DYN);

/** Strings are walked faster than lists by about this much. */
const CHARS_A_STEP = 64;

/** Standard functions that take time in proportion to what they are given, made to say so. */
function countedFunctions(counter: { left: number }): CelFunc[] {
  const spend = (steps: number): void => {
    counter.left -= 1 + steps;
    if (counter.left < 0) throw new Error('too many steps');
  };
  const chars = (text: string) => spend(text.length / CHARS_A_STEP);
  const size = (value: CelValue): number =>
    isCelList(value) || isCelMap(value) ? value.size : typeof value === 'string' ? value.length / CHARS_A_STEP : 0;
  const patterns = new Map<string, RE2JS>();
  // Compiling costs more than most matches: each pattern once, and what it costs is counted.
  const compiled = (pattern: string): RE2JS => {
    let regex = patterns.get(pattern);
    if (regex === undefined) {
      spend(pattern.length);
      regex = RE2JS.compile(pattern);
      if (patterns.size >= CONDITION_PATTERNS_KEPT) patterns.clear();
      patterns.set(pattern, regex);
    }
    return regex;
  };
  const standard = celEnv().funcs;
  const same = (a: CelValue, b: CelValue, name: string): boolean => {
    spend(Math.min(size(a), size(b)));
    return standard.find(name)!.call(0, undefined, [a, b]) === true;
  };
  return [
    celFunc(COUNTED, [LIST], LIST, (list) => (spend(list.size), list)),
    celFunc(COUNTED, [MAP], MAP, (map) => (spend(map.size), map)),
    celFunc('@in', [DYN, LIST], BOOL, (value, list) => (spend(list.size), same(value, list, '@in'))),
    celFunc('_==_', [DYN, DYN], BOOL, (a, b) => same(a, b, '_==_')),
    celFunc('_!=_', [DYN, DYN], BOOL, (a, b) => same(a, b, '_!=_')),
    celFunc('size', [STRING], INT, (text) => (chars(text), BigInt(Array.from(text).length))),
    celMethod('size', STRING, [], INT, function () {
      chars(this);
      return BigInt(Array.from(this).length);
    }),
    celMethod('contains', STRING, [STRING], BOOL, function (part) {
      chars(this);
      return this.includes(part);
    }),
    celMethod('matches', STRING, [STRING], BOOL, function (pattern) {
      spend(this.length);
      return compiled(pattern).test(this);
    }),
    celFunc('matches', [STRING, STRING], BOOL, (text, pattern) => {
      spend(text.length);
      return compiled(pattern).test(text);
    }),
  ];
}
