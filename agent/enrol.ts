/** `agent enroll`: makes the host's key and has the server, known by the key that the token pins, take it (docs/report.md 6). */
import { formatInstant, type Clock } from '#src/clock.ts';
import { ANSWER_BYTES_MAX } from '#src/limits.ts';
import { REPORT_VERSIONS } from '#src/report/report.ts';
import { fingerprintOf, parsePublicKey, type Signer, type Verify } from '#src/signing/ed25519.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import {
  EnrolAnswer,
  EnrolError,
  NonceAnswer,
  openEnrolment,
  sealEnrolRequest,
  type EnrolBody,
  type Enrolment,
} from '#src/wire/enrol.ts';
import { hostIdFrom } from '#src/wire/hostid.ts';
import { PATHS } from '#src/wire/paths.ts';
import { parseToken, type Token } from '#src/wire/token.ts';
import { NEW_CHAIN } from './chain.ts';
import { AGENT_VERSION } from './config.ts';
import { save, type Disk } from './disk.ts';
import {
  IDENTITY_FILE,
  IdentityError,
  KEY_FILE,
  makeKey,
  readIdentity,
  readKey,
  saveIdentity,
  type Identity,
} from './identity.ts';
import type { Observed } from './observe.ts';
import { CHAIN_FILE } from './outbox.ts';
import { parseAnswer, PostError, problemOf, type Server } from './post.ts';

export type EnrolDeps = {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: (bytes: number) => Uint8Array;
  readonly verify: Verify;
};

/** Who asks: what `observe` saw. */
export type Machine = Pick<Observed, 'machineId' | 'hostname'>;

/**
 * Enrols over the network. A lost answer is no harm: asked again, the key is the same, and so is the host.
 * @throws {EnrolError} what the server, or this host, refused; {PostError} where no answer came; {IdentityError}.
 */
export async function enrol(
  deps: EnrolDeps,
  about: {
    readonly folder: string;
    readonly machine: Machine;
    readonly token: string;
    readonly server: Server;
    readonly url: string;
  },
): Promise<Enrolment> {
  const { folder, machine, server } = about;
  refuseSecond(deps.disk, folder);
  const token = parseToken(about.token);
  const key = hostKey(deps, folder);
  const nonce = await askNonce(server, token);
  const body = await sealEnrolRequest(
    request(machine, key, token.id, nonce, null),
    key,
    nodeSigner(pkcs8OfSeed(token.seed)),
  );
  const response = await server.request({
    method: 'POST',
    path: PATHS.enrol,
    body: new TextEncoder().encode(JSON.stringify(body)),
    limit: ANSWER_BYTES_MAX,
  });
  refuseProblem(response, server);
  const { enrolment, serverKey } = await openEnrolment(
    parseAnswer(response, EnrolAnswer, server.name),
    { serverFingerprint: token.serverFingerprint, publicKey: key.publicKey, nonce },
    deps.verify,
  );
  keep(deps, folder, {
    version: 1,
    host: enrolment.host,
    url: about.url,
    serverKey,
    publicKey: key.publicKey,
    enrolledAt: formatInstant(deps.clock()),
    challenge: enrolment.challenge,
    manifestBearer: enrolment.manifestBearer,
  });
  return enrolment;
}

/**
 * Enrols by file, for a host without a network: the host draws its own id, and a person approves the request where the server is
 * (docs/report.md 6.8). With a token the server's key is pinned all the same.
 */
export async function enrolOffline(
  deps: EnrolDeps,
  about: { readonly folder: string; readonly machine: Machine; readonly token: string | null },
): Promise<{ readonly host: string; readonly body: EnrolBody }> {
  const { folder, machine } = about;
  refuseSecond(deps.disk, folder);
  const token = about.token === null ? null : parseToken(about.token);
  const key = hostKey(deps, folder);
  const host = hostIdFrom(deps.random(16));
  const body = await sealEnrolRequest(
    request(machine, key, token?.id ?? null, null, host),
    key,
    token && nodeSigner(pkcs8OfSeed(token.seed)),
  );
  keep(deps, folder, {
    version: 1,
    host,
    url: null,
    serverKey: null,
    serverFingerprint: token?.serverFingerprint ?? null,
    publicKey: key.publicKey,
    enrolledAt: formatInstant(deps.clock()),
    challenge: null,
    manifestBearer: null,
  });
  return { host, body };
}

/**
 * Takes the answer to a request that went by file (docs/report.md 6.8): the server's key is pinned by it, where no token named one before. The
 * same answer again changes nothing. `pinned`: a token named that server.
 * @throws {EnrolError} for an answer to another host, or by another server; {IdentityError} NOT_ENROLLED.
 */
export async function takeAnswer(
  deps: Pick<EnrolDeps, 'disk' | 'verify'>,
  about: { readonly folder: string; readonly answer: EnrolAnswer },
): Promise<{ readonly enrolment: Enrolment; readonly pinned: boolean }> {
  const { folder, answer } = about;
  const identity = readIdentity(deps.disk, folder);
  if (identity === undefined)
    throw new IdentityError(
      'NOT_ENROLLED',
      `this host has asked for nothing yet: 'bootproof agent enroll --offline' does`,
    );
  const known = identity.serverKey === null ? null : fingerprintOf(parsePublicKey(identity.serverKey));
  const fingerprint = known ?? identity.serverFingerprint ?? null;
  const { enrolment, serverKey } = await openEnrolment(
    answer,
    { serverFingerprint: fingerprint, publicKey: parsePublicKey(identity.publicKey), nonce: null },
    deps.verify,
  );
  const { host, challenge, manifestBearer } = enrolment;
  saveIdentity(deps.disk, folder, { ...identity, host, serverKey, challenge, manifestBearer });
  return { enrolment, pinned: fingerprint !== null };
}

/**
 * Puts away what an earlier enrolment left, so that the host begins anew with a new key: key, identity, chain and spool, under names that tell
 * when. Nothing is deleted: reports that were not sent are evidence still.
 */
export function putAway({ disk, clock }: Pick<EnrolDeps, 'disk' | 'clock'>, folder: string): void {
  const suffix = `before-${formatInstant(clock()).replaceAll(':', '')}`;
  const there = new Set(disk.list(folder));
  // The identity first: without it nothing else is used.
  for (const name of [IDENTITY_FILE, KEY_FILE, CHAIN_FILE, 'spool'])
    if (there.has(name)) disk.rename(`${folder}/${name}`, `${folder}/${name}.${suffix}`);
  if (there.size > 0) disk.syncFolder(folder);
}

function refuseSecond(disk: Disk, folder: string): void {
  const identity = readIdentity(disk, folder);
  if (identity !== undefined)
    throw new IdentityError(
      'ALREADY_ENROLLED',
      `this host is enrolled already, as ${identity.host} since ${identity.enrolledAt}; --again begins anew with a new key`,
    );
}

function hostKey({ disk, random }: EnrolDeps, folder: string): Signer {
  return readKey(disk, folder) ?? makeKey(disk, folder, random(32));
}

function request(machine: Machine, key: Signer, tokenId: string | null, nonce: string | null, host: string | null) {
  return {
    version: 1 as const,
    tokenId,
    nonce,
    host,
    publicKey: key.publicKey,
    machine: machine.machineId,
    hostname: machine.hostname.toWellFormed().slice(0, 255),
    agentVersion: AGENT_VERSION,
    writes: [...REPORT_VERSIONS],
  };
}

async function askNonce(server: Server, token: Token): Promise<string> {
  const response = await server.request({
    method: 'POST',
    path: PATHS.enrolNonce,
    body: new TextEncoder().encode(JSON.stringify({ tokenId: token.id })),
    limit: ANSWER_BYTES_MAX,
  });
  refuseProblem(response, server);
  return parseAnswer(response, NonceAnswer, server.name).nonce;
}

function refuseProblem(response: Awaited<ReturnType<Server['request']>>, server: Server): void {
  if (response.status === 200) return;
  const problem = problemOf(response);
  if (problem === undefined)
    throw new PostError('ANSWER_SYNTAX', `${server.name} answers ${response.status}: is this a Bootproof server?`);
  const code = ENROL_CODES.find((known) => known === problem.code);
  if (code !== undefined) throw new EnrolError(code, problem.detail);
  throw new PostError('NO_ANSWER', `${server.name} answers ${response.status}: ${problem.detail} [${problem.code}]`);
}
const ENROL_CODES = ['ENROL_SYNTAX', 'ENROL_TOKEN', 'ENROL_NONCE', 'ENROL_PROOF', 'ENROL_KEY'] as const;

/** The identity last: whoever finds it finds all that goes with it. */
function keep({ disk }: EnrolDeps, folder: string, identity: Identity): void {
  save(disk, folder, CHAIN_FILE, new TextEncoder().encode(`${JSON.stringify(NEW_CHAIN)}\n`));
  saveIdentity(disk, folder, identity);
}
