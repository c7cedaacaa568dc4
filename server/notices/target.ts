/**
 * Where messages may go (docs/notices.md 5): a channel's address is chosen by whoever may make channels, and must not lead the server
 * into its own network. Loopback, link-local and private addresses are refused, after names were resolved and for the very address that
 * is connected to, unless whoever runs the server named the target.
 */
import { lookup as resolveName, type LookupAddress, type LookupOptions } from 'node:dns';
import { BlockList, isIP } from 'node:net';
import { BootproofError } from '#src/error.ts';
import { addressClass } from '#src/source/address.ts';
import { UsageError } from '#src/terminal.ts';

export class TargetError extends BootproofError</** The target lies where notices may not go. */
'NOTICE_TARGET'> {}

const CLOSED = new BlockList();
for (const [network, bits] of [
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  // Multicast, reserved, broadcast.
  ['224.0.0.0', 3],
] as const)
  CLOSED.addSubnet(network, bits, 'ipv4');
for (const [network, bits] of [
  ['fc00::', 7],
  ['fec0::', 10],
  ['ff00::', 8],
  // IPv4 inside IPv6 by translation or tunnel: which one decides is not for us to find out.
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['2002::', 16],
  ['2001::', 32],
  ['::', 96],
] as const)
  CLOSED.addSubnet(network, bits, 'ipv6');

/** Whether an address (no name) lies on a public network. */
export function isPublic(address: string): boolean {
  const plain = address.replace(/^\[|\]$/g, '').replace(/%.*$/, '');
  const family = isIP(plain);
  if (family === 0 || addressClass(plain) !== 'other') return false;
  return !CLOSED.check(plain, family === 4 ? 'ipv4' : 'ipv6');
}

/** A target that the operator named: a host, on every port or on one. */
export type NoticeTarget = { readonly host: string; readonly port: number | null };

/** @throws {UsageError} */
export function parseTargets(texts: readonly string[]): readonly NoticeTarget[] {
  return texts.map((text) => {
    const match = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?$/.exec(text);
    const port = match?.[2] === undefined ? null : Number(match[2]);
    if (match === null || (port !== null && (port === 0 || port > 65_535)))
      throw new UsageError(`--notice-target ${text}: expected HOST or HOST:PORT, such as siem.corp.example:6514`);
    return { host: nameOf(match[1]!), port };
  });
}

const nameOf = (host: string): string =>
  host
    .toLowerCase()
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '');

export class Targets {
  readonly #named: readonly NoticeTarget[];
  readonly #resolve: typeof resolveName;

  constructor(named: readonly NoticeTarget[], resolve: typeof resolveName = resolveName) {
    this.#named = named;
    this.#resolve = resolve;
  }

  /** Whether whoever runs the server named it: then it may lie anywhere, and be spoken with in the clear. */
  isNamed(host: string, port: number): boolean {
    const name = nameOf(host);
    return this.#named.some((one) => one.host === name && (one.port === null || one.port === port));
  }

  /** @throws {TargetError} for an address spelled out that is closed. Names are looked at where they are resolved. */
  check(host: string, port: number): void {
    const name = nameOf(host);
    if (this.isNamed(host, port)) return;
    if (isIP(name) !== 0 ? isPublic(name) : addressClass(name) === 'other') return;
    throw refused(host, port);
  }

  /** DNS for one connection: leaves out closed addresses, so that no name can stand for them, however often it changes. */
  lookup(port: number) {
    return (
      hostname: string,
      options: LookupOptions,
      done: (error: Error | null, address: string | LookupAddress[], family?: number) => void,
    ): void => {
      this.#resolve(hostname, { ...options, all: true }, (error, addresses) => {
        if (error !== null) return done(error, []);
        const open = this.isNamed(hostname, port) ? addresses : addresses.filter(({ address }) => isPublic(address));
        const [first] = open;
        if (first === undefined) return done(refused(hostname, port), []);
        return options.all === true ? done(null, open) : done(null, first.address, first.family);
      });
    };
  }
}

function refused(host: string, port: number): TargetError {
  return new TargetError(
    'NOTICE_TARGET',
    `${host} port ${port} lies on a loopback, link-local or private network, where notices do not go unless whoever runs the server allows it: --notice-target ${host}:${port}`,
  );
}
