/** Before the load: the hosts enrol, and what they boot is looked up, as agents do both. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDigest } from '#src/digest.ts';
import { MANIFEST_TEXT_BYTES_MAX } from '#src/limits.ts';
import { MANIFEST_HEADER_TYPE, ManifestHeader, type TreeTexts } from '#src/manifest/header.ts';
import { REPORT_VERSIONS } from '#src/report/report.ts';
import { envelopeFromJson } from '#src/signing/dsse.ts';
import { nodeSigner, pkcs8OfSeed, verifyInPool } from '#src/signing/node.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { EnrolAnswer, NonceAnswer, openEnrolment, sealEnrolRequest, type Enrolment } from '#src/wire/enrol.ts';
import { ManifestsAnswer, ManifestsPending } from '#src/wire/manifests.ts';
import { manifestsPath, manifestTextPath, PATHS, type TextPart } from '#src/wire/paths.ts';
import type { Token } from '#src/wire/token.ts';
import type { Times } from './figures.ts';
import type { KnownImage } from './images.ts';
import type { Seeded } from './plan.ts';
import { LoadError, problemIn, reasonIn, type Got, type Poster } from './post.ts';

/** A server that does not answer, or has no room, is asked again so often. */
const ATTEMPTS = 30;
const BACKOFF_MS = 1000;

export type EnrolDeps = {
  readonly servers: Poster;
  readonly token: Token;
  readonly seeded: Seeded;
  readonly clock: () => number;
  /** Of each of the two requests. */
  readonly times: Times;
  readonly signal: AbortSignal;
};

/**
 * Enrols one host; the same key again is the same host.
 * @throws {LoadError} where the server takes none with this token, or does not answer.
 */
export async function enrolHost(host: number, signer: Signer, deps: EnrolDeps): Promise<Enrolment> {
  const { token, seeded } = deps;
  const { nonce } = NonceAnswer.parse(await ask(PATHS.enrolNonce, JSON.stringify({ tokenId: token.id }), deps));
  const body = await sealEnrolRequest(
    {
      version: 1,
      tokenId: token.id,
      nonce,
      host: null,
      publicKey: signer.publicKey,
      machine: seeded.machineOf(host),
      hostname: seeded.nameOf(host),
      agentVersion: '0.1.0',
      writes: [...REPORT_VERSIONS],
    },
    signer,
    nodeSigner(pkcs8OfSeed(token.seed)),
  );
  const answer = EnrolAnswer.parse(await ask(PATHS.enrol, JSON.stringify(body), deps));
  const asked = { serverFingerprint: token.serverFingerprint, publicKey: signer.publicKey, nonce };
  return (await openEnrolment(answer, asked, verifyInPool)).enrolment;
}

async function ask(path: string, body: string, { servers, times, signal }: EnrolDeps): Promise<unknown> {
  for (let attempt = 1; ; attempt++) {
    const got = await servers.post(path, body);
    times.add(got.ms);
    if (got.status === 200) return json(got);
    const isLater = got.status === 0 || got.status === 429 || got.status >= 500;
    if (!isLater || attempt === ATTEMPTS) throw refusal(got);
    await sleep(got.retryAfterMs ?? BACKOFF_MS, undefined, { signal });
  }
}

function refusal(got: Got): LoadError {
  if (got.status === 0) return new LoadError('LOAD_SERVER', `the server does not answer: ${got.why}`);
  const problem = problemIn(got);
  if (problem === undefined)
    return new LoadError('LOAD_ANSWER', `what answers is no Bootproof server: status ${got.status}`);
  return new LoadError('LOAD_TOKEN', `a host cannot enrol: ${problem.detail} [${problem.code}]`);
}

function json({ body }: Got): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new LoadError('LOAD_ANSWER', 'what answers is no Bootproof server: it sent no JSON', { cause });
  }
}

/**
 * What an image's hosts compare with, once the server has it; undefined where it will not. Asking makes the server look for it.
 * @throws {LoadError} LOAD_ANSWER for a text that is not what its header says.
 */
export async function learnImage(
  digest: string,
  bearer: string,
  { servers, clock, signal }: Pick<EnrolDeps, 'servers' | 'clock' | 'signal'>,
  patienceMs: number,
): Promise<{ readonly known?: KnownImage; readonly why: string }> {
  if (!isDigest(digest)) return { why: 'not a digest' };
  for (const until = clock() + patienceMs; ;) {
    const got = await servers.get(manifestsPath(digest, 'ostree'), bearer);
    if (got.status === 200) {
      const [newest] = ManifestsAnswer.parse(json(got)).headers;
      const { payload } = envelopeFromJson(newest!, MANIFEST_HEADER_TYPE, MANIFEST_TEXT_BYTES_MAX);
      const header = ManifestHeader.parse(JSON.parse(new TextDecoder().decode(payload)));
      return { known: { header, etc: await etcOf(header, bearer, servers) }, why: '' };
    }
    if (got.status !== 202 || clock() >= until) return { why: got.status === 202 ? 'not built yet' : reasonIn(got) };
    await sleep(Math.min(1000, ManifestsPending.parse(json(got)).retryAfter * 1000), undefined, { signal });
  }
}

async function etcOf(
  { image, rule, trees: { etc } }: ManifestHeader,
  bearer: string,
  servers: Poster,
): Promise<TreeTexts> {
  const text = async (part: TextPart, expected: string): Promise<string> => {
    const got = await servers.get(manifestTextPath(image, rule, 'etc', part), bearer);
    if (got.status !== 200) throw new LoadError('LOAD_ANSWER', `a text of ${image} cannot be had: ${reasonIn(got)}`);
    // Asked for without Accept-Encoding: it comes as it is.
    if (`sha256:${nodeSha256(got.body)}` !== expected)
      throw new LoadError('LOAD_ANSWER', `a text of ${image} is not what its header says`);
    return got.body.toString('latin1');
  };
  return { main: await text('main', etc.main.full), extra: await text('extra', etc.extra) };
}
