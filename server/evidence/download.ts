/** A bundle as an answer over HTTP (RFC 9110, 14): whole, or the part that is asked for, so that a download goes on where it broke off. */
import { ReadableStream as WebStream } from 'node:stream/web';
import type { ExportFile } from './exports.ts';
import { EvidenceError } from './selection.ts';

export type Download = {
  readonly status: 200 | 206;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ReadableStream<Uint8Array>;
};

/** @throws {EvidenceError} RANGE_INVALID */
export function downloadOf(
  { read, bytes, sha256, name }: ExportFile,
  asked: { readonly range: string | undefined; readonly ifRange: string | undefined },
): Download {
  const etag = `"${sha256}"`;
  const range = asked.ifRange === undefined || asked.ifRange === etag ? rangeOf(asked.range, bytes) : undefined;
  const { from, to } = range ?? { from: 0, to: bytes - 1 };
  return {
    status: range === undefined ? 200 : 206,
    headers: {
      'Content-Type': 'application/zip',
      'Content-Length': String(to - from + 1),
      'Content-Disposition': `attachment; filename="${name}"`,
      'Accept-Ranges': 'bytes',
      ETag: etag,
      ...(range === undefined ? {} : { 'Content-Range': `bytes ${from}-${to}/${bytes}` }),
    },
    // One class by two names: only where a browser's types are beside Node's do they differ.
    body: WebStream.from<unknown>(read(from, to)) as ReadableStream<Uint8Array>,
  };
}

/** Of one range; undefined where none is asked for, or several: then the whole is answered. */
function rangeOf(
  header: string | undefined,
  bytes: number,
): { readonly from: number; readonly to: number } | undefined {
  const [, first = '', last = ''] = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header?.trim() ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  const from = first === '' ? Math.max(0, bytes - Number(last)) : Number(first);
  const to = first === '' || last === '' ? bytes - 1 : Math.min(Number(last), bytes - 1);
  if (from < bytes && from <= to) return { from, to };
  throw new EvidenceError('RANGE_INVALID', `the file has ${bytes} bytes: there is no such part of it`);
}
