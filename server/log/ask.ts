/** One question to a witness or timestamp authority: a POST without redirects, bounded in time and bytes. What they answer is signed, so it may come in the clear. */
import { getCACertificates } from 'node:tls';
import { Agent, request } from 'undici';
import { ANCHOR_ANSWER_BYTES_MAX, ANCHOR_TIMEOUT_MS } from '#src/limits.ts';
import { BootproofError } from '#src/error.ts';
import { printableText } from '#src/terminal.ts';
import { VERSION } from '#src/version.ts';
import { networkReason } from '#src/wire/network.ts';

export class AskError extends BootproofError<
  /** No answer: the address, the network, or it is down. */
  | 'ANCHOR_UNREACHED'
  /** More bytes than any answer has. */
  | 'ANCHOR_ANSWER'
> {}

export type AnchorAnswer = { readonly status: number; readonly type: string; readonly bytes: Uint8Array };

export type AskTerms = {
  /** More certificate authorities for TLS, PEM. */
  readonly ca: readonly string[];
  readonly signal: AbortSignal;
};

/** @throws {AskError} */
export async function ask(
  url: string,
  { type, body }: { readonly type: string; readonly body: string | Uint8Array },
  { ca, signal }: AskTerms,
): Promise<AnchorAnswer> {
  const dispatcher = new Agent({
    connect: {
      timeout: ANCHOR_TIMEOUT_MS,
      ...(ca.length === 0 ? {} : { ca: [...getCACertificates('default'), ...ca] }),
    },
    headersTimeout: ANCHOR_TIMEOUT_MS,
    bodyTimeout: ANCHOR_TIMEOUT_MS,
    pipelining: 0,
  });
  try {
    const answer = await request(url, {
      dispatcher,
      method: 'POST',
      headers: { 'content-type': type, 'user-agent': `bootproof/${VERSION}`, 'accept-encoding': 'identity' },
      body,
      signal: AbortSignal.any([signal, AbortSignal.timeout(2 * ANCHOR_TIMEOUT_MS)]),
    });
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > ANCHOR_ANSWER_BYTES_MAX)
        throw new AskError('ANCHOR_ANSWER', `${shown(url)} answers with more than ${ANCHOR_ANSWER_BYTES_MAX} bytes`);
    }
    const field = answer.headers['content-type'];
    return {
      status: answer.statusCode,
      type: (Array.isArray(field) ? field.join() : (field ?? '')).split(';')[0]!.trim().toLowerCase(),
      bytes: Buffer.concat(chunks),
    };
  } catch (cause) {
    if (cause instanceof AskError) throw cause;
    throw new AskError('ANCHOR_UNREACHED', `${shown(url)} does not answer: ${reasonOf(cause)}`, { cause });
  } finally {
    await dispatcher.destroy();
  }
}

/** Queries may hold secrets. */
export const shown = (url: string): string => {
  const { host, protocol, pathname } = new URL(url);
  return printableText(`${protocol}//${host}${pathname}`.slice(0, 300));
};

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const all = [error, error.cause, ...(error instanceof AggregateError ? error.errors : [])];
  for (const each of all)
    if (each instanceof Error && 'code' in each && typeof each.code === 'string') {
      const reason = networkReason(each.code);
      if (reason !== undefined) return reason;
    }
  return error.name === 'TimeoutError' ? 'no answer in time' : printableText(error.message).slice(0, 300);
}
