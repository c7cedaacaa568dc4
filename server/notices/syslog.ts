/**
 * Syslog as RFC 5424 spells it, over UDP (RFC 5426), TCP with octet counting (RFC 6587 3.4.1) or TLS (RFC 5425). Nothing acknowledges a
 * message: one counts as delivered once the collector's machine has taken all of it and the connection ended in order.
 */
import { createSocket } from 'node:dgram';
import { isIP, connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { NOTICE_TIMEOUT_MS, SYSLOG_BYTES_MAX, SYSLOG_DATAGRAM_BYTES } from '#src/limits.ts';
import { jsonText } from '#src/terminal.ts';
import type { Target } from './channel.ts';
import type { Notice } from './notice.ts';
import { ocsfEvent, plainText } from './shapes.ts';
import type { Targets } from './target.ts';

type SyslogTarget = Extract<Target, { kind: 'syslog' }>;

/** RFC 5424 6.2.1. */
const SEVERITIES = { critical: 2, high: 3, medium: 4, low: 5, info: 6 } as const;
const BOM = Buffer.from([0xef, 0xbb, 0xbf]);

/** Printable ASCII without spaces, or the nil value (RFC 5424 6): `max` characters of it. */
const word = (text: string, max: number): string => text.replaceAll(/[^!-~]/g, '_').slice(0, max) || '-';

/** One message, without its frame. `hostName` is ours. */
export function syslogMessage(
  notice: Notice,
  { facility, body, transport }: Pick<SyslogTarget, 'facility' | 'body' | 'transport'>,
  { id, hostName }: { readonly id: string; readonly hostName: string },
): Buffer {
  const most = transport === 'udp' ? SYSLOG_DATAGRAM_BYTES : SYSLOG_BYTES_MAX;
  const head = `<${facility * 8 + SEVERITIES[notice.severity]}>1 ${notice.timestamp} ${word(hostName, 255)} bootproof - ${word(notice.type, 32)} - `;
  // Fewer hosts until it fits: what is cut off in the middle is no JSON any more.
  for (const hosts of [100, 30, 10, 3, 1, 0]) {
    const shorter = {
      ...notice,
      hosts: notice.hosts.slice(0, hosts),
      more: notice.more + Math.max(0, notice.hosts.length - hosts),
      ...(hosts < 10 ? { groups: [], moreGroups: notice.moreGroups + notice.groups.length } : {}),
    };
    const message = Buffer.concat([Buffer.from(head), content(shorter, body, id)]);
    if (message.length <= most) return message;
  }
  const { severity, text, link } = notice;
  return Buffer.concat([Buffer.from(head), told(`${severity}: ${text.slice(0, most / 8)}… ${link}`)]).subarray(0, most);
}

function content(notice: Notice, body: 'text' | 'ocsf', id: string): Buffer {
  // JSON in ASCII needs no mark, which some collectors take for part of it.
  return body === 'ocsf' ? Buffer.from(asciiJson(ocsfEvent(notice, id))) : told(plainText(notice));
}

/** UTF-8 begins with its mark (RFC 5424 6.4); ASCII is that without one. */
function told(text: string): Buffer {
  const bytes = Buffer.from(text);
  return bytes.length === text.length ? bytes : Buffer.concat([BOM, bytes]);
}

function asciiJson(value: unknown): string {
  return jsonText(value).replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The message with its length before it. */
export function octetCounted(message: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${message.length} `), message]);
}

/** Sends one message. Rejects where it cannot be. */
export async function sendSyslog(message: Buffer, target: SyslogTarget, targets: Targets): Promise<void> {
  const { host, port, transport, ca } = target;
  targets.check(host, port);
  const name = host.replace(/^\[|\]$/g, '');
  if (transport === 'udp') return sendDatagram(message, name, port, targets);
  const to = { host: name, port, lookup: targets.lookup(port) };
  const socket =
    transport === 'tcp'
      ? connectTcp(to)
      : connectTls({
          ...to,
          ...(isIP(name) === 0 ? { servername: name } : {}),
          ...(ca === null ? {} : { ca }),
          minVersion: 'TLSv1.2',
        });
  await sendOver(socket, octetCounted(message), transport === 'tls' ? 'secureConnect' : 'connect');
}

function sendOver(socket: Socket, bytes: Buffer, ready: 'connect' | 'secureConnect'): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => socket.destroy(new Error('no end within the time')), NOTICE_TIMEOUT_MS);
    let isSent = false;
    // What a collector says is nothing to us; unread it would keep the connection from ending.
    socket.resume();
    socket.once(ready, () => {
      socket.end(bytes, () => {
        isSent = true;
      });
    });
    socket.once('error', (error: Error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('close', () => {
      clearTimeout(timer);
      if (isSent) resolve();
      else reject(new Error('the collector ended the connection before all was sent'));
    });
  });
}

async function sendDatagram(message: Buffer, host: string, port: number, targets: Targets): Promise<void> {
  const address = await new Promise<{ address: string; family: number }>((resolve, reject) => {
    if (isIP(host) !== 0) return resolve({ address: host, family: isIP(host) });
    targets.lookup(port)(host, {}, (error, found, family) => {
      if (error === null && typeof found === 'string') resolve({ address: found, family: family ?? 4 });
      else reject(error ?? new Error('the name has no address'));
    });
  });
  const socket = createSocket(address.family === 6 ? 'udp6' : 'udp4');
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.send(message, port, address.address, (error) => (error === null ? resolve() : reject(error)));
    });
  } finally {
    socket.close();
  }
}
