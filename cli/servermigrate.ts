/** `bootproof server migrate`: brings the database up to this build (docs/operating.md 6). */
import type { Command } from 'commander';
import { EXIT } from '#src/terminal.ts';
import { loadSettings, storeUrlOf } from '#server/settings.ts';
import { openStore } from '#server/store/open.ts';
import type { AddServer } from './server.ts';

export function migrateCommand(command: Command, add: AddServer): void {
  add(
    command.command('migrate').description('bring the database up to this build, apart from the server'),
    async (_options, settings, io) => {
      const store = await openStore(storeUrlOf(await loadSettings(settings, io.env)));
      await store.close();
      await io.stdout.write('the database is as this build needs it\n');
      return EXIT.ok;
    },
  );
}
