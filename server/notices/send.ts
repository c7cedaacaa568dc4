/** Sending: one attempt at a receiver, and what is done after it (docs/notices.md 5). At least once; the id tells a repeat. */
import { getCACertificates } from 'node:tls';
import { Agent, request } from 'undici';
import type { Instant } from '#src/clock.ts';
import { NOTICE_ANSWER_BYTES_MAX, NOTICE_RETRIES_MS, NOTICE_SENT_AT_ONCE, NOTICE_TIMEOUT_MS } from '#src/limits.ts';
import { printableText } from '#src/terminal.ts';
import { VERSION } from '#src/version.ts';
import { networkReason } from '#src/wire/network.ts';
import type { Deps } from '#server/deps.ts';
import type { Channel, Delivery } from '#server/store/noticerecords.ts';
import type { Store } from '#server/store/store.ts';
import { signingKeys, targetOf, type Target } from './channel.ts';
import type { Notice } from './notice.ts';
import { ocsfEvent, slackBody, webhookBody } from './shapes.ts';
import { signatureHeaders } from './signature.ts';
import { sendSyslog, syslogMessage } from './syslog.ts';
import { TargetError, type Targets } from './target.ts';

export type SendDeps = Pick<Deps, 'clock' | 'log' | 'random'> & {
  readonly store: Pick<Store, 'notices'>;
  readonly targets: Targets;
  readonly baseUrl: () => string;
  /** Counted by the metrics. */
  readonly sent?: (outcome: 'delivered' | 'failed' | 'dead') => void;
};

/** What a receiver said; `status` null: nothing, or it speaks no HTTP. */
export type Came = {
  readonly ok: boolean;
  readonly status: number | null;
  readonly error: string | null;
  /** Seconds after which it wants to be asked again. */
  readonly retryAfter: number | null;
};

/** One attempt. Never throws for what a receiver or the network does. */
export async function attempt(
  delivery: Pick<Delivery, 'id' | 'notice'>,
  channel: Channel,
  { clock, targets, baseUrl }: Pick<SendDeps, 'clock' | 'targets' | 'baseUrl'>,
  signal: AbortSignal,
): Promise<Came> {
  const target = targetOf(channel);
  const notice = delivery.notice as Notice;
  try {
    if (target.kind !== 'syslog') return await post(target, delivery.id, notice, clock(), targets, signal);
    const hostName = URL.canParse(baseUrl()) ? new URL(baseUrl()).hostname : '-';
    await sendSyslog(syslogMessage(notice, target, { id: delivery.id, hostName }), target, targets);
    return { ok: true, status: null, error: null, retryAfter: null };
  } catch (error) {
    return { ok: false, status: null, error: reasonOf(error), retryAfter: null };
  }
}

function bodyOf(kind: 'webhook' | 'ocsf' | 'slack', notice: Notice, id: string): string {
  if (kind === 'slack') return slackBody(notice);
  return kind === 'ocsf' ? JSON.stringify(ocsfEvent(notice, id)) : webhookBody(notice);
}

async function post(
  target: Extract<Target, { url: string }>,
  id: string,
  notice: Notice,
  now: Instant,
  targets: Targets,
  signal: AbortSignal,
): Promise<Came> {
  const url = new URL(target.url);
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);
  targets.check(url.hostname, port);
  if (url.protocol !== 'https:' && !targets.isNamed(url.hostname, port))
    throw new TargetError(
      'NOTICE_TARGET',
      `${url.host} would be told in the clear; use https, or have whoever runs the server allow it: --notice-target ${url.hostname}:${port}`,
    );
  const body = bodyOf(target.kind, notice, id);
  // A connection for one message: what a name stood for a minute ago says nothing about now. Redirects are not followed.
  const dispatcher = new Agent({
    connect: {
      lookup: targets.lookup(port),
      timeout: NOTICE_TIMEOUT_MS,
      ...(target.ca === null ? {} : { ca: [...getCACertificates('default'), target.ca] }),
    },
    headersTimeout: NOTICE_TIMEOUT_MS,
    bodyTimeout: NOTICE_TIMEOUT_MS,
    pipelining: 0,
  });
  try {
    const answer = await request(url, {
      dispatcher,
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'user-agent': `bootproof/${VERSION}`,
        ...(target.kind === 'slack' ? {} : signatureHeaders(id, now, body, signingKeys(target, now))),
      },
      body,
      signal: AbortSignal.any([signal, AbortSignal.timeout(2 * NOTICE_TIMEOUT_MS)]),
    });
    const { statusCode: status, headers } = answer;
    const ok = status >= 200 && status < 300;
    const said = ok ? '' : await beginning(answer.body);
    const after = Number(headers['retry-after']);
    return {
      ok,
      status,
      error: ok ? null : `HTTP ${status}${said === '' ? '' : `: ${said}`}`,
      retryAfter: !ok && Number.isSafeInteger(after) && after > 0 ? after : null,
    };
  } finally {
    // Whatever is left of the answer is not read.
    await dispatcher.destroy();
  }
}

/** The first words of an answer, for whoever looks why. */
async function beginning(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= NOTICE_ANSWER_BYTES_MAX) break;
  }
  return printableText(Buffer.concat(chunks).toString('utf8').trim().slice(0, 300));
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = [error, error.cause, ...(error instanceof AggregateError ? error.errors : [])].filter(
    (each): each is Error => each instanceof Error,
  );
  const refused = own.find((each) => each instanceof TargetError);
  if (refused !== undefined) return refused.message;
  for (const each of own) {
    const text = 'code' in each && typeof each.code === 'string' ? networkReason(each.code) : undefined;
    if (text !== undefined) return text;
  }
  if (error.name === 'TimeoutError') return 'no answer in time';
  return printableText(error.message).slice(0, 300);
}

/** When the next attempt is, after so many; null: there is none any more. A fifth of chance, so that many do not come back at once. */
export function nextAttempt(attempts: number, now: Instant, chance: number, retryAfter: number | null): Instant | null {
  const wait = NOTICE_RETRIES_MS[attempts - 1];
  if (wait === undefined) return null;
  const most = NOTICE_RETRIES_MS.at(-1)!;
  return now + Math.round(Math.min(most, Math.max(wait * (1 + 0.2 * chance), (retryAfter ?? 0) * 1000)));
}

const GONE = 410;

/** One attempt, and what follows from it written down. */
export async function send(delivery: Delivery, channel: Channel, deps: SendDeps, signal: AbortSignal): Promise<Came> {
  const { store, clock, random, log, sent } = deps;
  const came = await attempt(delivery, channel, deps, signal);
  // Stopped in the middle: whether it arrived is not known, and it is sent again under the same id.
  if (signal.aborted && !came.ok) return came;
  const now = clock();
  const { ok, status, error } = came;
  const chance = random(1)[0]! / 255;
  const isTest = delivery.topic === 'test';
  const nextAt =
    ok || status === GONE || isTest ? null : nextAttempt(delivery.attempts + 1, now, chance, came.retryAfter);
  const state = ok ? 'delivered' : nextAt === null ? 'dead' : 'waiting';
  const disable =
    status === GONE ? { by: { actor: 'job:notice', at: now }, why: 'its receiver answered 410 Gone' } : null;
  const noted = await store.notices.attempted(delivery, { state, nextAt, status, error }, now, disable);
  if (noted) {
    sent?.(ok ? 'delivered' : state === 'dead' ? 'dead' : 'failed');
    if (!ok) log('warn', 'notice not delivered', { channel: channel.id, delivery: delivery.id, state, error });
  }
  return came;
}

/** Sends what is due to a channel, oldest first. Answers when there is more to send; null: nothing waits. */
export async function sendDue(channelId: string, deps: SendDeps, signal: AbortSignal): Promise<Instant | null> {
  const { store, clock } = deps;
  const due = await store.notices.due(channelId, clock(), NOTICE_SENT_AT_ONCE);
  let isDown = false;
  for (const delivery of due) {
    const channel = await store.notices.channel(channelId);
    // Switched off: what waits stays, and goes once it is on again.
    if (channel === undefined || channel.state === 'disabled' || signal.aborted) return null;
    const { ok, status } = await send(delivery, channel, deps, signal);
    isDown = !ok && (status === null || status === 429 || status >= 500);
    // The next one would fare no better.
    if (isDown) break;
  }
  const next = await store.notices.nextDue(channelId);
  return next === null ? null : Math.max(next, clock() + (isDown ? NOTICE_RETRIES_MS[0] : 0));
}
