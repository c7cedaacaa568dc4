/** `agent import`: what the server wrote to files for a host without a network: the answer to its enrolment, and manifests. */
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { verifyInPool } from '#src/signing/node.ts';
import { fingerprintOf, parsePublicKey } from '#src/signing/ed25519.ts';
import { ENROLMENT_BYTES_MAX } from '#src/limits.ts';
import { EXIT, jsonText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { EnrolAnswer } from '#src/wire/enrol.ts';
import { ManifestFileError, readManifestFile } from '#src/wire/manifestfile.ts';
import { readConfig } from './config.ts';
import { nodeDisk } from './disk.ts';
import { takeAnswer } from './enrol.ts';
import { lockFolder } from './lock.ts';
import { ManifestError, Manifests, NO_SERVER_KEY } from './manifests.ts';
import { observe } from './observe.ts';
import {
  EXIT_HELP,
  flagsOf,
  giveToOwner,
  help,
  identityIn,
  optionsAndFiles,
  readSmall,
  say,
  SETTINGS,
  SETTINGS_HELP,
} from './settings.ts';

const HELP = `bootproof agent import FILE…: takes in what was carried here from the server

  FILE              the answer of \`bootproof hosts approve REQUEST --out FILE\`, or manifests of
                    \`bootproof images export DIGEST --out FILE\`
  --json            one JSON document on standard output
${SETTINGS_HELP}
Exit codes: 0 all was taken; 2 something was refused, nothing of it is used; ${EXIT_HELP}
`;

/** Exit 0 when all was taken; what is refused is thrown. */
export async function importCommand(args: readonly string[], io: Io): Promise<Exit> {
  const { values, files } = optionsAndFiles(args, { ...SETTINGS, json: { type: 'boolean' } });
  if (values.help === true) return help(io, HELP);
  if (files.length === 0) throw new UsageError('a FILE is needed: an answer, or manifests');
  const config = readConfig(nodeDisk, io.env, flagsOf(values));
  const folder = config.stateFolder;
  // Manifests are proved with the key that the answer brings: that first, however they were named.
  const carried = files.map((file) => ({ file, ...kindOf(file) })).sort((a, b) => a.order - b.order);
  const taken: object[] = [];
  identityIn(config);
  using _lock = lockFolder(folder);
  try {
    for (const { file, answer } of carried)
      taken.push(answer === undefined ? await takeManifests(file) : await takeOne(file, answer));
  } finally {
    giveToOwner(folder);
  }
  if (values.json === true) await io.stdout.write(`${jsonText({ taken })}\n`);
  return EXIT.ok;

  async function takeOne(file: string, answer: EnrolAnswer): Promise<object> {
    const deps = { disk: nodeDisk, verify: verifyInPool };
    const { enrolment, pinned } = await takeAnswer(deps, { folder, answer });
    const fingerprint = fingerprintOf(parsePublicKey(enrolment.serverKey));
    await say(
      io,
      `${file}: enrolled as ${enrolment.host}; from now on only manifests of the server ${fingerprint} count`,
    );
    if (!pinned)
      await say(io, 'no token had named that server: its fingerprint is the last part of every token that it makes');
    return { file, kind: 'enrolment', host: enrolment.host, serverFingerprint: fingerprint };
  }

  async function takeManifests(file: string): Promise<object> {
    const { identity } = identityIn(config);
    const { state } = await observe({ root: config.root });
    const images = [state.booted, state.staged, state.rollback].flatMap((entry) => entry?.image?.digest ?? []);
    if (identity.serverKey === null) throw new ManifestError('MANIFEST_UNAVAILABLE', NO_SERVER_KEY);
    const serverKey = parsePublicKey(identity.serverKey);
    const manifests = new Manifests(
      { disk: nodeDisk, clock: Date.now, verify: verifyInPool, server: null, bearer: null, serverKey },
      `${folder}/manifests`,
    );
    let found: Awaited<ReturnType<Manifests['takeFile']>>;
    try {
      found = await manifests.takeFile((reader) => readManifestFile(unpacked(file), reader), images);
    } catch (error) {
      throw asRefusal(error, file);
    }
    const { image, rules } = found;
    await say(io, `${file}: manifests of ${image} under ${rules.join(', ')}`);
    return { file, kind: 'manifests', image, rules };
  }
}

/** An answer is a small JSON document; manifests are packed. */
function kindOf(file: string): { readonly order: number; readonly answer?: EnrolAnswer } {
  const bytes = readSmall(file, 8 * ENROLMENT_BYTES_MAX, true);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return { order: 1 };
  try {
    return { order: 0, answer: EnrolAnswer.parse(JSON.parse(bytes.toString('utf8'))) };
  } catch {
    throw new ManifestFileError(
      'MANIFEST_FILE_SYNTAX',
      `${file} is neither an answer of 'bootproof hosts approve' nor manifests of 'bootproof images export'`,
    );
  }
}

function unpacked(file: string): AsyncIterable<Uint8Array> {
  const gunzip = createGunzip();
  // Errors of the file must reach whoever reads what comes out.
  return createReadStream(file)
    .on('error', (error) => gunzip.destroy(error))
    .pipe(gunzip);
}

function asRefusal(error: unknown, file: string): unknown {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return code.startsWith('Z_')
    ? new ManifestFileError('MANIFEST_FILE_SYNTAX', `${file} is damaged: it does not unpack (${code})`, {
        cause: error,
      })
    : error;
}
