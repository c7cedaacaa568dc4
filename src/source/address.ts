/**
 * Which addresses a registry, or what it redirects to, may lie at (PROTOCOL 2.6): a server must not be made to ask its own
 * loopback services or a cloud's metadata endpoint. Private networks are where registries of companies are, and stay open.
 */

/** `public` leaves out loopback and link-local, `loopback` only link-local. */
export type Reach = 'public' | 'loopback' | 'any';
export type AddressClass = 'loopback' | 'link-local' | 'other';

/** Whether an address of this class may be spoken with. */
export function reaches(reach: Reach, address: AddressClass): boolean {
  return address === 'other' || reach === 'any' || (reach === 'loopback' && address === 'loopback');
}

/**
 * The class of a host as it stands in a URL (lower case, IPv4 in decimal, IPv6 in brackets or without). A name is `other`, but for
 * `localhost`: what it resolves to is looked at where the connection is made.
 */
export function addressClass(host: string): AddressClass {
  const name = host.replace(/\.$/, '');
  if (name === 'localhost' || name.endsWith('.localhost')) return 'loopback';
  if (/^[0-9.]+$/.test(name)) return ipv4Class(name);
  return name.includes(':') ? ipv6Class(name.replace(/^\[|\]$/g, '').replace(/%.*$/, '')) : 'other';
}

function ipv4Class(address: string): AddressClass {
  // 0.0.0.0/8 reaches the own host on Linux. 100.100.100.200 and 168.63.129.16 are metadata endpoints of clouds outside 169.254/16.
  if (/^(?:127|0)\./.test(address)) return 'loopback';
  return address.startsWith('169.254.') || address === '100.100.100.200' || address === '168.63.129.16'
    ? 'link-local'
    : 'other';
}

function ipv6Class(address: string): AddressClass {
  const words = ipv6Words(address);
  // What is no address cannot be connected to; the resolver will say so.
  if (words === undefined) return 'other';
  const leading = words.slice(0, 6).every((word) => word === 0);
  if (leading && words[6] === 0 && words[7]! <= 1) return 'loopback';
  const [first = 0] = words;
  if ((first & 0xffc0) === 0xfe80) return 'link-local';
  // fd00:ec2::254 and fd20:ce::254 are metadata endpoints.
  if ((first === 0xfd00 && words[1] === 0x0ec2) || (first === 0xfd20 && words[1] === 0x00ce)) return 'link-local';
  // IPv4 in IPv6: mapped, compatible, NAT64 (64:ff9b::/96), 6to4 (2002::/16).
  const mapped = words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff;
  const nat64 = first === 0x64 && words[1] === 0xff9b && words.slice(2, 6).every((word) => word === 0);
  if (leading || mapped || nat64) return ipv4Class(dotted(words[6]!, words[7]!));
  return first === 0x2002 ? ipv4Class(dotted(words[1]!, words[2]!)) : 'other';
}

const dotted = (high: number, low: number): string => [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');

function ipv6Words(address: string): number[] | undefined {
  let canonical: string;
  try {
    canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  } catch {
    return undefined; // the URL parser's only complaint is "not an IPv6 address", which is the answer
  }
  const [head = '', tail] = canonical.split('::');
  const parse = (part: string) => (part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16)));
  const left = parse(head);
  const right = parse(tail ?? '');
  return [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
}
