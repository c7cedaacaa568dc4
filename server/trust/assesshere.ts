/** Assessing in this thread: what the worker does, and what the command does without a server. */
import { assess, type Assessed } from './assess.ts';
import type { AssessRequest } from './assessor.ts';
import { denyEntries } from './basis.ts';
import { trustSetup } from './setup.ts';

export async function assessHere(request: AssessRequest, signal: AbortSignal): Promise<readonly Assessed[]> {
  const { files, denied, now, terms, subjects } = request;
  const setup = trustSetup(files);
  const deny = denyEntries(denied);
  const done: Assessed[] = [];
  for (const subject of subjects) done.push(await assess(subject, { setup, deny, now, terms }, signal));
  return done;
}
