/** SQLite keeps the store's contract, and what is its own: files, folders, a second process. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { people, suiteOn } from './contract.ts';
import { intakes } from './contract-intake.ts';
import { lists } from './contract-lists.ts';

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'bootproof-store-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

const suite = suiteOn({ name: 'sqlite', fresh: async (t) => `sqlite:${join(folder(t), 'store.db')}` }, () => undefined);
people(suite);
intakes(suite);
lists(suite);
