/** `agent status`: who this host is to its server, and what waits. */
import { fingerprintOf, parsePublicKey } from '#src/signing/ed25519.ts';
import { EXIT, jsonText, printableText, type Exit, type Io } from '#src/terminal.ts';
import { AGENT_VERSION, readConfig } from './config.ts';
import { nodeDisk } from './disk.ts';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { LogKeeper } from './keptlog.ts';
import { lockFolder } from './lock.ts';
import { Outbox } from './outbox.ts';
import { EXIT_HELP, flagsOf, help, identityIn, options, outboxDeps, SETTINGS, SETTINGS_HELP } from './settings.ts';

const HELP = `bootproof agent status: who this host is to its server, and what waits

  --json            one JSON document on standard output
${SETTINGS_HELP}
Exit codes: 0 all is delivered, 1 the server refused something that is still kept, or this host its evidence log, 2 reports wait, or the host is not
enrolled; ${EXIT_HELP}
`;

/** Exit 0 when all is delivered, 1 when the server refused something that is still kept, 2 when reports wait or there is no identity. */
export async function statusCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, { ...SETTINGS, json: { type: 'boolean' } });
  if (values.help === true) return help(io, HELP);
  const config = readConfig(nodeDisk, io.env, flagsOf(values));
  const { identity, signer } = identityIn(config);
  using _lock = lockFolder(config.stateFolder);
  const outbox = await Outbox.open(outboxDeps(io), { folder: config.stateFolder, host: identity.host, signer });
  const { chain, waiting } = outbox;
  const serverKey = identity.serverKey === null ? null : parsePublicKey(identity.serverKey);
  const { current, refused } = (await LogKeeper.open(outboxDeps(io), config.stateFolder, serverKey)).kept;
  const aside = (why: string) => nodeDisk.list(`${config.stateFolder}/spool/${why}`).length;
  const status = {
    host: identity.host,
    enrolledAt: identity.enrolledAt,
    server: config.url ?? identity.url,
    fingerprint: fingerprintOf(parsePublicKey(identity.publicKey)),
    version: AGENT_VERSION,
    lastReport: chain.seq,
    lastAnswer: chain.answer?.receivedAt ?? null,
    next: chain.answer?.next ?? null,
    waiting,
    refused: aside('refused'),
    damaged: aside('corrupt'),
    dropped: chain.dropped,
    log: current && logLine(current.checkpoint, current.receivedAt),
    logRefused: refused && `${refused.why} [${refused.code}], at ${refused.at}`,
  };
  if (values.json === true) await io.stdout.write(`${jsonText(status)}\n`);
  else
    for (const [name, value] of Object.entries(status))
      await io.stdout.write(
        `${name.padEnd(12)} ${printableText(typeof value === 'string' ? value : JSON.stringify(value))}\n`,
      );
  return status.refused > 0 || refused !== null ? EXIT.different : waiting > 0 ? EXIT.unknown : EXIT.ok;
}

function logLine(note: string, receivedAt: string): string {
  const { origin, size } = readCheckpoint(note);
  return `${origin}, ${size} entries, told at ${receivedAt}`;
}
