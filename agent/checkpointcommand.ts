/** `agent checkpoint`: what this host keeps of the server's evidence log, signed by the host's key, for whoever holds the server to it. */
import { formatInstant } from '#src/clock.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import { parsePublicKey } from '#src/signing/ed25519.ts';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { EXIT, type Exit, type Io } from '#src/terminal.ts';
import { KEPT_PAYLOAD_TYPE } from '#src/evidence/kept.ts';
import { readConfig } from './config.ts';
import { nodeDisk, save } from './disk.ts';
import { LogKeeper } from './keptlog.ts';
import { lockFolder } from './lock.ts';
import { cannotWrite, placeOf } from './outbox.ts';
import {
  checkOut,
  EXIT_HELP,
  flagsOf,
  help,
  identityIn,
  options,
  outboxDeps,
  say,
  SETTINGS,
  SETTINGS_HELP,
} from './settings.ts';

const HELP = `bootproof agent checkpoint: what this host keeps of the server's evidence log, signed by the host's key

  --out FILE        into a file, not to standard output
  --dismiss         what was refused was seen to: it is no longer told with each report
${SETTINGS_HELP}
Give it to an auditor: 'bootproof evidence verify … --known-checkpoint FILE' holds the server's log against it.
Exit codes: 0 printed, 1 printed, and the server told this host of another log than it knew, 2 nothing is kept yet;
${EXIT_HELP}
`;

export async function checkpointCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, { ...SETTINGS, out: { type: 'string' }, dismiss: { type: 'boolean' } });
  if (values.help === true) return help(io, HELP);
  if (values.out !== undefined) checkOut(values.out);
  const config = readConfig(nodeDisk, io.env, flagsOf(values));
  const { identity, signer } = identityIn(config);
  using _lock = lockFolder(config.stateFolder);
  const serverKey = identity.serverKey === null ? null : parsePublicKey(identity.serverKey);
  const keeper = await LogKeeper.open(outboxDeps(io), config.stateFolder, serverKey);
  const { current, past, refused } = keeper.kept;
  if (current === null && refused === null) {
    await say(io, 'this host was told no checkpoint yet: it is with the first answer of a server that has a log');
    return EXIT.unknown;
  }
  const document = {
    version: 1,
    host: identity.host,
    at: formatInstant(Date.now()),
    checkpoint: current?.checkpoint ?? null,
    vkey: current?.vkey ?? null,
    receivedAt: current?.receivedAt ?? null,
    past,
    refused,
  };
  const text = `${printEnvelope(await signEnvelope(KEPT_PAYLOAD_TYPE, canonicalJson(document), signer))}\n`;
  if (values.out === undefined) await io.stdout.write(text);
  else writeTo(values.out, text);
  if (current !== null) {
    const { origin, size } = readCheckpoint(current.checkpoint);
    await say(io, `${origin}: ${size} entries, told at ${current.receivedAt}`);
  }
  if (refused !== null) await say(io, `REFUSED at ${refused.at}: ${refused.why} [${refused.code}]`);
  if (values.dismiss === true) keeper.dismiss();
  return refused === null ? EXIT.ok : EXIT.different;
}

function writeTo(file: string, text: string): void {
  const { folder, name } = placeOf(file);
  try {
    save(nodeDisk, folder, name, new TextEncoder().encode(text));
  } catch (error) {
    throw cannotWrite(file, error);
  }
}
