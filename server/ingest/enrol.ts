/** Enrolment (docs/report.md 6): a nonce, then proof of the new key and of the token, then a host. */
import { formatInstant } from '#src/clock.ts';
import { ENROL_PENDING_MAX, TOKEN_ENROLS_BURST, TOKEN_ENROLS_PER_SECOND } from '#src/limits.ts';
import { freshnessOf, type Policy } from '#src/policy/document.ts';
import { REPORT_VERSIONS } from '#src/report/report.ts';
import { parsePublicKey } from '#src/signing/ed25519.ts';
import { printableText } from '#src/terminal.ts';
import { makeChallenge } from '#src/wire/challenge.ts';
import {
  checkEnrolToken,
  EnrolError,
  makeNonce,
  openEnrolRequest,
  sealEnrolment,
  type EnrolAnswer,
  type EnrolBody,
  type EnrolRequest,
  type NonceAnswer,
} from '#src/wire/enrol.ts';
import { hostIdFrom } from '#src/wire/hostid.ts';
import { makeBearer } from '#src/wire/manifests.ts';
import type { Deps } from '#server/deps.ts';
import { hostFactsOf } from '#server/hostfacts.ts';
import type { Enrolment as NewHost, Host } from '#server/store/records.ts';
import { Shares } from './quota.ts';
import { overloaded, ReportError } from './reporterror.ts';

export type EnrolDeps = Deps & { readonly policies: { readonly current: Policy } };

export class Enrolments {
  readonly #deps: EnrolDeps;
  /** By token. */
  readonly #shares: Shares;
  #pending = 0;

  /** `share`: hosts that one token enrols at once, and then a second. */
  constructor(deps: EnrolDeps, share = { burst: TOKEN_ENROLS_BURST, perSecond: TOKEN_ENROLS_PER_SECOND }) {
    this.#deps = deps;
    this.#shares = new Shares(share);
  }

  /** For any token id, also one that does not exist: a stranger learns nothing. */
  nonce(tokenId: string): NonceAnswer {
    return { nonce: makeNonce(tokenId, this.#deps.clock(), this.#deps.keys.tickets) };
  }

  /**
   * Takes a host in.
   * @throws {EnrolError} for a request that proves too little; {ReportError} OVERLOADED, RATE_LIMITED where too many enrol, or with one token.
   */
  async enrol(body: EnrolBody): Promise<EnrolAnswer> {
    if (this.#pending >= ENROL_PENDING_MAX) throw overloaded('too many hosts enrol at this moment; send it again');
    this.#pending++;
    try {
      return await this.#enrol(body);
    } finally {
      this.#pending--;
    }
  }

  async #enrol(body: EnrolBody): Promise<EnrolAnswer> {
    const { store, clock, keys, verify } = this.#deps;
    const now = clock();
    const opened = await openEnrolRequest(body, verify);
    const { request } = opened;
    const token = request.tokenId === null ? undefined : await store.tokens.get(request.tokenId);
    // One refusal for all that is wrong with a token before its signature was seen: names of tokens are not told.
    if (token === undefined) throw unknownToken();
    // What the store keeps of a token is its public key (docs/report.md 6.1).
    const about = { tokenKey: parsePublicKey(token.hash), now, keys: keys.tickets };
    await checkEnrolToken(opened, body.tokenSignature, about, verify);
    // Only who has the token uses up its share.
    const wait = this.#shares.take(token.id, now);
    if (wait > 0)
      throw new ReportError('RATE_LIMITED', `more hosts enrol with this token than one may; come back in ${wait} s`, {
        retryAfter: wait,
      });
    const outcome = await store.tokens.enrol(token.id, this.newHost(request), now);
    if (outcome.kind === 'refused') {
      if (outcome.reason === 'host-retired')
        throw new EnrolError('ENROL_KEY', 'this key belongs to a host that was retired; make a new one');
      throw new EnrolError('ENROL_TOKEN', REASONS[outcome.reason]);
    }
    return this.answer(request, outcome.host);
  }

  /** The host that a request asks for, as the store takes it. */
  newHost(request: EnrolRequest): NewHost {
    const { clock, random, policies } = this.#deps;
    const now = clock();
    // Labels and group come with the token, in the store: the first live report sets the terms of its own.
    const { freshness } = policies.current;
    return {
      hostId: hostIdFrom(random(16)),
      publicKey: request.publicKey,
      // A host without machine id is like no other: its key stands in.
      machineId: request.machine ?? request.publicKey,
      name: nameOf(request),
      interval: freshness.reportEvery,
      lateAfter: now + freshness.lateAfter,
      silentAfter: now + freshness.silentAfter,
    };
  }

  /** The signed answer to a request that was taken. */
  answer(request: Pick<EnrolRequest, 'nonce' | 'publicKey'>, host: Host): Promise<EnrolAnswer> {
    const { clock, keys, policies } = this.#deps;
    const { reportEvery } = freshnessOf(policies.current, hostFactsOf(host));
    const now = clock();
    return sealEnrolment(
      {
        version: 1,
        host: host.id,
        standing: host.state === 'pending' ? 'pending' : 'active',
        serverKey: keys.publicKey,
        publicKey: request.publicKey,
        nonce: request.nonce,
        issuedAt: formatInstant(now),
        intervalSeconds: Math.max(1, Math.round(reportEvery / 1000)),
        challenge: makeChallenge(host.id, now, keys.tickets),
        manifestBearer: makeBearer(host.id, now, keys.tickets),
        accepts: [...REPORT_VERSIONS],
      },
      keys.signer,
    );
  }
}

const REASONS = {
  'token-unknown': 'there is no such token',
  'token-revoked': 'this token was revoked',
  'token-expired': 'this token is over; ask for another one',
  'token-used-up': 'this token was used as often as it may be; ask for another one',
} as const;

function unknownToken(): EnrolError {
  return new EnrolError('ENROL_TOKEN', 'the request is not signed with a token of this server');
}

/** The host's name for people; a name that would hide or move text is kept with its escapes. */
function nameOf({ hostname, publicKey }: EnrolRequest): string {
  const name = printableText(hostname.isWellFormed() ? hostname : hostname.toWellFormed()).trim();
  return name === '' ? `host-${publicKey.slice(0, 8)}` : name.slice(0, 255);
}
