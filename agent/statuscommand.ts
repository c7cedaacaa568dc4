/** `agent status`: who this host is to its server, and what waits. */
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { fingerprintOf, parsePublicKey } from '#src/signing/ed25519.ts';
import { EXIT, jsonText, printableText, type Exit, type Io } from '#src/terminal.ts';
import { AGENT_VERSION, readConfig } from './config.ts';
import { nodeDisk } from './disk.ts';
import { LogKeeper } from './keptlog.ts';
import { lockFolder } from './lock.ts';
import { Outbox } from './outbox.ts';
import { programDigest } from './program.ts';
import { EXIT_HELP, flagsOf, help, identityIn, options, outboxDeps, SETTINGS, SETTINGS_HELP } from './settings.ts';

const HELP = `bootproof agent status: who this host is to its server, and what waits

  --json            one JSON document on standard output
${SETTINGS_HELP}
Exit codes: 0 all is delivered, 1 the server refused something that is still kept, or this host its evidence log, 2 reports wait, or the host is not
enrolled; ${EXIT_HELP}
'bootproof agent doctor' says what is wrong, and what to do about it.
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
    program: programDigest(),
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
  else for (const [name, text] of words(status)) await io.stdout.write(`${name.padEnd(13)} ${printableText(text)}\n`);
  return status.refused > 0 || refused !== null ? EXIT.different : waiting > 0 ? EXIT.unknown : EXIT.ok;
}

type Status = {
  readonly host: string;
  readonly enrolledAt: string;
  readonly server: string | null;
  readonly fingerprint: string;
  readonly version: string;
  readonly program: string;
  readonly lastReport: number;
  readonly lastAnswer: string | null;
  readonly next: string | null;
  readonly waiting: number;
  readonly refused: number;
  readonly damaged: number;
  readonly dropped: readonly { readonly from: number; readonly to: number }[];
  readonly log: string | null;
  readonly logRefused: string | null;
};

/** For people: what is not there is said, and what is as it should be takes no line. */
function* words(status: Status): Generator<readonly [string, string]> {
  const reports = (count: number) => `${count} ${count === 1 ? 'report' : 'reports'}`;
  yield ['host', `${status.host}, enrolled at ${status.enrolledAt}`];
  yield ['key', status.fingerprint];
  yield ['agent', `${status.version}, ${status.program}`];
  yield ['server', status.server ?? 'none: reports are carried as files'];
  yield ['last report', status.lastReport === 0 ? 'none yet' : `number ${status.lastReport}`];
  yield ['last answer', status.lastAnswer ?? 'none yet'];
  if (status.next !== null) yield ['next report', `expected by ${status.next}`];
  yield ['waiting', status.waiting === 0 ? 'nothing: all is delivered' : `${reports(status.waiting)} for the server`];
  if (status.refused > 0) yield ['refused', `${reports(status.refused)}: the host's page on the server says why`];
  if (status.damaged > 0) yield ['damaged', `${reports(status.damaged)}, put aside`];
  if (status.dropped.length > 0) {
    const numbers = status.dropped.map(({ from, to }) => (from === to ? `${from}` : `${from} to ${to}`));
    yield ['given up', `for want of room, or lost: numbers ${numbers.join(', ')}; the next report says so`];
  }
  yield ['evidence log', status.log ?? 'no checkpoint was told yet'];
  if (status.logRefused !== null) yield ['log refused', status.logRefused];
}

function logLine(note: string, receivedAt: string): string {
  const { origin, size } = readCheckpoint(note);
  return `${origin}, ${size} entries, told at ${receivedAt}`;
}
