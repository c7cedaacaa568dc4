/** Asks a timestamp authority (RFC 3161) for a checkpoint's text, and takes nothing that does not verify (docs/log.md 8). */
import { BootproofError } from '#src/error.ts';
import { ANCHORS_MAX } from '#src/limits.ts';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { verifyByKey } from '#src/signing/node.ts';
import { timestampQuery, verifyTimestamp, type Timestamp } from '#src/signing/timestamp.ts';
import { CertificateError, readPem, type Certificate } from '#src/signing/x509.ts';
import { printableText, UsageError } from '#src/terminal.ts';
import { ask, shown, type AskTerms } from './ask.ts';
import { parseWitness, type Witness } from './witness.ts';

export class AuthorityError extends BootproofError</** It does not answer as RFC 3161 has it over HTTP. */ 'TIMESTAMP_ANSWER'> {}

export type Authority = {
  /** As whoever runs the server calls it; part of file names in bundles. */
  readonly name: string;
  readonly url: string;
  /** Its certificates, or those of who certified it. */
  readonly trusted: readonly Certificate[];
};

const TYPE = { query: 'application/timestamp-query', reply: 'application/timestamp-reply' } as const;

/** Its answer over the note's text, verified. @throws {AuthorityError | TimestampError | AskError} */
export async function askAuthority(
  { name, url, trusted }: Authority,
  note: string,
  nonce: Uint8Array,
  terms: AskTerms,
): Promise<{ readonly token: Uint8Array; readonly stamp: Timestamp }> {
  const text = new TextEncoder().encode(readCheckpoint(note).note.text);
  const answer = await ask(url, { type: TYPE.query, body: timestampQuery(text, nonce) }, terms);
  if (answer.status !== 200 || answer.type !== TYPE.reply)
    throw new AuthorityError(
      'TIMESTAMP_ANSWER',
      `${name} at ${shown(url)} answers with status ${answer.status} and ${printableText(answer.type).slice(0, 80) || 'no type'}, not with ${TYPE.reply}: is the address that of an RFC 3161 service?`,
    );
  return {
    token: answer.bytes,
    stamp: await verifyTimestamp(answer.bytes, text, { trusted, nonce, verify: verifyByKey }),
  };
}

export type AnchorSettings = {
  /** `VKEY=URL`. */
  readonly witnesses: readonly string[];
  /** `NAME=URL`, and `NAME=` with PEM text. */
  readonly authorities: readonly string[];
  readonly certificates: readonly { readonly name: string; readonly pem: string }[];
};

/** @throws {UsageError} */
export function readAnchors({ witnesses, authorities, certificates }: AnchorSettings): {
  readonly witnesses: readonly Witness[];
  readonly authorities: readonly Authority[];
} {
  const found = witnesses.map(parseWitness);
  once(
    found.map(({ key }) => key.name),
    '--witness',
  );
  const named = authorities.map((text) => {
    const [, name, address] = /^([A-Za-z0-9][A-Za-z0-9._-]{0,39})=(https?:\/\/.+)$/.exec(text) ?? [];
    const url = address === undefined ? null : URL.parse(address);
    if (name === undefined || url === null || url.username !== '' || url.hash !== '')
      throw new UsageError(
        `--timestamp-authority ${printableText(text)}: expected NAME=URL, such as corp=https://tsa.corp.example/`,
      );
    const own = certificates.filter((one) => one.name === name);
    if (own.length === 0)
      throw new UsageError(
        `--timestamp-authority ${name} without --timestamp-ca ${name}=FILE: by which certificates its stamps are trusted must be named`,
      );
    return { name, url: url.href, trusted: own.flatMap(({ pem }) => pemOf(name, pem)) };
  });
  once(
    named.map(({ name }) => name),
    '--timestamp-authority',
  );
  const alone = certificates.find(({ name }) => !named.some((one) => one.name === name));
  if (alone !== undefined)
    throw new UsageError(
      `--timestamp-ca ${printableText(alone.name)} without --timestamp-authority ${printableText(alone.name)}=URL`,
    );
  if (found.length + named.length > ANCHORS_MAX)
    throw new UsageError(
      `${found.length + named.length} witnesses and timestamp authorities; ${ANCHORS_MAX} are taken`,
    );
  return { witnesses: found, authorities: named };
}

function pemOf(name: string, pem: string): Certificate[] {
  try {
    return readPem(pem);
  } catch (cause) {
    if (!(cause instanceof CertificateError)) throw cause;
    throw new UsageError(`--timestamp-ca ${name}: ${printableText(cause.message)}`);
  }
}

function once(names: readonly string[], option: string): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new UsageError(`${option}: ${printableText(twice)} is named twice`);
}
