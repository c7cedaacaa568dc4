/** Why a server was not reached, in words: codes of Node (libuv) and undici that whoever named the address can do something about. */

const REASONS: ReadonlyMap<string, string> = new Map([
  ['ECONNREFUSED', 'connection refused: nothing listens there'],
  ['ECONNRESET', 'it closed the connection'],
  ['ENOTFOUND', 'no host has this name'],
  ['EAI_AGAIN', 'the name could not be looked up'],
  ['EHOSTUNREACH', 'no way to this host'],
  ['ENETUNREACH', 'no way to this network'],
  ['ETIMEDOUT', 'no answer in time'],
  ['UND_ERR_CONNECT_TIMEOUT', 'no connection in time'],
  ['UND_ERR_HEADERS_TIMEOUT', 'no answer in time'],
  ['UND_ERR_BODY_TIMEOUT', 'no answer in time'],
]);

/** With the code behind it; undefined for codes that are not among them. */
export function networkReason(code: string | undefined): string | undefined {
  const reason = REASONS.get(code ?? '');
  return reason === undefined ? undefined : `${reason} (${code})`;
}
