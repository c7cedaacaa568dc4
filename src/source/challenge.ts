/** `WWW-Authenticate` as registries write it (RFC 9110 section 11.6.1; distribution, "token/jwt"). */

export type Challenge = { readonly scheme: string; readonly parameters: ReadonlyMap<string, string> };

const TOKEN = String.raw`[!#$%&'*+.^_\x60|~0-9A-Za-z-]+`;
const PARAMETER = new RegExp(`^(${TOKEN})[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))`);
const SCHEME = new RegExp(`^(${TOKEN})(?=[ \\t,]|$)`);

/** The challenges of one header, in their order; parts that make no sense end the reading. Scheme and names in lower case. */
export function parseChallenges(header: string): Challenge[] {
  const found: { scheme: string; parameters: Map<string, string> }[] = [];
  let rest = header.slice(0, 16_384); // Node refuses longer header sections itself
  for (;;) {
    rest = rest.replace(/^[ \t,]+/, '');
    const parameter = PARAMETER.exec(rest);
    const last = found.at(-1);
    if (parameter !== null && last !== undefined) {
      const [whole, name = '', quoted, token] = parameter;
      // The first of two equal names holds, so that nothing appended can change it.
      const key = name.toLowerCase();
      if (!last.parameters.has(key)) last.parameters.set(key, quoted?.replace(/\\(.)/g, '$1') ?? token ?? '');
      rest = rest.slice(whole.length);
      continue;
    }
    const scheme = SCHEME.exec(rest);
    if (scheme === null) return found;
    found.push({ scheme: scheme[1]!.toLowerCase(), parameters: new Map() });
    rest = rest.slice(scheme[0].length);
  }
}
