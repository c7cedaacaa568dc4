/** `agent enroll`: over the network, or by file. */
import { randomBytes } from 'node:crypto';
import { verifyInPool } from '#src/signing/node.ts';
import { argument, EXIT, jsonText, SeenRefusal, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { EnrolError } from '#src/wire/enrol.ts';
import { parseToken } from '#src/wire/token.ts';
import { readConfig } from './config.ts';
import { nodeDisk } from './disk.ts';
import { enrol, enrolOffline, putAway } from './enrol.ts';
import { lockFolder } from './lock.ts';
import { observe } from './observe.ts';
import {
  checkOut,
  EXIT_HELP,
  flagsOf,
  giveToOwner,
  help,
  options,
  readText,
  say,
  serverFor,
  SETTINGS,
  SETTINGS_HELP,
  writeWhole,
} from './settings.ts';

const HELP = `bootproof agent enroll: makes this host's key and has the server take it

  --token-file F    a file with the enrolment token, on one line
  --token T         the token itself: everyone on this host can read it meanwhile in the list of processes
  --again           begin anew with a new key; what there was is put away
  --offline         no network: write the request to --out F, for \`bootproof hosts approve F --out ANSWER\` where the
                    server is; 'bootproof agent import ANSWER' here ends it. With a token the answer must be its server's
  --json            one JSON document on standard output
${SETTINGS_HELP}
Without --token-file and --token the token is taken from BOOTPROOF_ENROLL_TOKEN.

Exit codes: 0 enrolled, or the request is written; 1 refused, or the host waits for approval; 2 the server did not
answer; ${EXIT_HELP}
`;

/** Exit 0 when enrolled, 1 when pending; what is refused (1) or not answered (2) is thrown. */
export async function enrollCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, {
    ...SETTINGS,
    token: { type: 'string' },
    'token-file': { type: 'string' },
    offline: { type: 'boolean' },
    json: { type: 'boolean' },
    again: { type: 'boolean' },
    out: { type: 'string' },
  });
  if (values.help === true) return help(io, HELP);
  const config = readConfig(nodeDisk, io.env, flagsOf(values));
  const folder = config.stateFolder;
  const token = readToken(values.token, values['token-file'], io.env);
  if (token !== null) argument(() => parseToken(token));
  if (values.out !== undefined) checkOut(values.out);
  if (values.offline === true && values.out === undefined) throw new UsageError('--offline needs --out FILE');
  if (values.offline !== true && token === null)
    throw new UsageError('--token-file F is needed (or BOOTPROOF_ENROLL_TOKEN, or --token), or --offline');
  nodeDisk.makeFolder(folder);
  using _lock = lockFolder(folder);
  const deps = { disk: nodeDisk, clock: Date.now, random: randomBytes, verify: verifyInPool };
  const machine = await observe({ root: config.root });
  try {
    if (values.again === true) putAway(deps, folder);
    if (values.offline === true) {
      const { host, body } = await enrolOffline(deps, { folder, machine, token });
      writeWhole(values.out!, `${JSON.stringify(body)}\n`);
      if (values.json === true)
        await io.stdout.write(`${jsonText({ host, standing: 'requested', file: values.out })}\n`);
      await say(
        io,
        `this host calls itself ${host}; its request is in ${values.out}. Where the server is: bootproof hosts approve ${values.out} --out ANSWER; then here: bootproof agent import ANSWER`,
      );
      return EXIT.ok;
    }
    const url = config.url ?? undefined;
    if (url === undefined) throw new UsageError('--server URL is needed: no settings file names one');
    const server = serverFor(config, url, io);
    try {
      const enrolment = await enrol(deps, { folder, machine, token: token!, server, url });
      const waits =
        enrolment.standing === 'pending' ? '; it waits for approval, as another key speaks for this machine' : '';
      const { host, standing } = enrolment;
      if (values.json === true) await io.stdout.write(`${jsonText({ host, standing, server: server.name })}\n`);
      await say(io, `enrolled as ${host} with ${server.name}${waits}`);
      return enrolment.standing === 'pending' ? EXIT.different : EXIT.ok;
    } catch (error) {
      if (error instanceof EnrolError) throw new SeenRefusal(error.code, error.message, { cause: error });
      throw error;
    } finally {
      server.close();
    }
  } finally {
    giveToOwner(folder);
  }
}

function readToken(token: string | undefined, file: string | undefined, env: Io['env']): string | null {
  if (token !== undefined && file !== undefined) throw new UsageError('--token and --token-file do not go together');
  return token ?? (file === undefined ? env['BOOTPROOF_ENROLL_TOKEN'] : readText(file))?.trim() ?? null;
}
