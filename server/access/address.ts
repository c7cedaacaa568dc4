/** Where a request comes from: the peer of its connection, or what a proxy that the operator named says of it. */
import { BlockList, isIP } from 'node:net';
import { BootproofError } from '#src/error.ts';

export class ProxyError extends BootproofError<'PROXY_ADDRESS'> {}

/** Addresses and networks of proxies, `10.0.0.0/8` or `192.0.2.1`. @throws {ProxyError} */
export function trustedProxies(texts: readonly string[]): BlockList {
  const list = new BlockList();
  for (const text of texts) {
    const [address = '', prefix] = text.split('/');
    const family = isIP(address);
    const bits = prefix === undefined ? undefined : Number(prefix);
    const most = family === 4 ? 32 : 128;
    if (family === 0 || (bits !== undefined && !(/^\d{1,3}$/.test(prefix!) && bits <= most)))
      throw new ProxyError('PROXY_ADDRESS', `${text}: expected an address or network, such as 10.0.0.0/8`);
    if (bits === undefined) list.addAddress(address, family === 4 ? 'ipv4' : 'ipv6');
    else list.addSubnet(address, bits, family === 4 ? 'ipv4' : 'ipv6');
  }
  return list;
}

/**
 * The last address that no named proxy vouches for: what stands left of it in X-Forwarded-For anybody could have written. Null for a
 * request that came over no connection.
 */
export function addressOf(peer: string | undefined, forwarded: string | undefined, proxies: BlockList): string | null {
  if (peer === undefined) return null;
  const trusted = (address: string) => proxies.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
  let at = plain(peer);
  const said = (forwarded ?? '').split(',').map((part) => plain(part.trim()));
  while (trusted(at)) {
    const before = said.pop();
    if (before === undefined || isIP(before) === 0) return at;
    at = before;
  }
  return at;
}

const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '');

/** A request as Hono has it behind @hono/node-server; without a connection in tests. */
export type Came = {
  readonly env: unknown;
  readonly req: { header(name: string): string | undefined };
};

export function cameFrom(came: Came, proxies: BlockList): string | null {
  return addressOf(peerOf(came), came.req.header('x-forwarded-for'), proxies);
}

/** Whether a request comes over a proxy that was named: what it says besides of the request may be believed. */
export function viaProxy(came: Came, proxies: BlockList): boolean {
  const peer = plain(peerOf(came) ?? '');
  return isIP(peer) !== 0 && proxies.check(peer, isIP(peer) === 6 ? 'ipv6' : 'ipv4');
}

function peerOf({ env }: Came): string | undefined {
  const { incoming } = (env ?? {}) as { incoming?: { socket?: { remoteAddress?: string } } };
  return incoming?.socket?.remoteAddress;
}
