/** The one matcher for refusals: class and code, never the wording. */
import assert from 'node:assert/strict';
import type { BootproofError } from '#src/error.ts';

type Class = new (...args: never[]) => BootproofError;

export function throwsCode(act: () => unknown, type: Class, code: string): void {
  assert.throws(act, (error) => matches(error, type, code));
}

export async function rejectsCode(act: () => Promise<unknown>, type: Class, code: string): Promise<void> {
  await assert.rejects(act, (error) => matches(error, type, code));
}

function matches(error: unknown, type: Class, code: string): true {
  assert.ok(error instanceof type, `expected ${type.name}, got ${String(error)}`);
  assert.equal(error.code, code, error.message);
  return true;
}
