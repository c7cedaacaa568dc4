/** `bootproof server check-config`: whether a server would start with these settings (docs/operating.md 2). */
import type { Command } from 'commander';
import { EXIT } from '#src/terminal.ts';
import { loadSettings } from '#server/settings.ts';
import type { AddServer } from './server.ts';

export function checkConfigCommand(command: Command, add: AddServer): void {
  add(
    command.command('check-config').description('whether a server would start with these settings'),
    async (_options, settings, io) => {
      await loadSettings(settings, io.env);
      await io.stdout.write('these settings can be read\n');
      return EXIT.ok;
    },
  );
}
