/** A finding in one line for people, from what its group holds: `/usr/bin/sudo: content differs, mode now 4755`. */
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { unvis, VisError } from '#src/manifest/vis.ts';
import type { Judgement } from '#src/policy/judgement.ts';
import { printable } from '#src/terminal.ts';

const PATHS: ReadonlySet<string> = new Set<Judgement['kind']>(['drift', 'secret', 'hole', 'overlay', 'stale-config']);

/** The path that a finding is about, as bytes; undefined for a finding about something else. */
export function pathOfSubject({
  kind,
  subject,
}: {
  readonly kind: string;
  readonly subject: string;
}): ByteString | undefined {
  if (!PATHS.has(kind) || !subject.startsWith('/')) return undefined;
  try {
    return unvis(subject);
  } catch (error) {
    if (error instanceof VisError) return undefined;
    throw error;
  }
}

/** Safe to print: no control character, nothing that reorders what is read. */
export function describe({ kind, subject, signature }: Pick<Judgement, 'kind' | 'subject' | 'signature'>): string {
  // IMAGE_NOT_TOLD: a finding about an image that has no digest.
  const image = subject === '' ? 'an image that the host does not name' : subject;
  switch (kind) {
    case 'drift':
    case 'secret':
      return `${pathText(subject)}: ${changeText(signature)}`;
    case 'hole':
      return `${pathText(subject)} could not be judged: ${signature}`;
    case 'overlay':
      return `${pathText(subject)} lies under ${overlayText(signature)}`;
    case 'layered':
      return `layered on top of the image: ${subject}`;
    case 'karg':
      return signature === 'missing' ? `kernel argument ${subject} is missing` : `kernel argument ${subject}`;
    case 'contradiction':
      return `the host contradicts itself: ${subject}`;
    case 'verity':
      return 'fs-verity is not required for /';
    case 'transient-root':
      return '/ has an upper layer that can be written';
    case 'enforcement':
      return 'no signature is demanded when images are pulled';
    case 'manifest':
      return `no manifest for ${image}: ${signature}`;
    case 'report':
      return FLAG_TEXT.get(signature) ?? `about its reports: ${signature}`;
    case 'silence':
      return signature === 'silent' ? 'the host is silent' : 'the host is late';
    case 'outdated':
      return signature === 'behind-tag' ? `${subject} is behind its tag` : `${subject} is older than policy allows`;
    case 'account':
      return `account ${subject}: ${accountText(signature)}`;
    case 'stale-config':
      return `${pathText(subject)} keeps what an older image said: the image ${signature === 'default;removed' ? 'no longer has it' : 'has another one now'}`;
    case 'rollback':
      return `${image} is older than one that the host ran before`;
    case 'provenance':
      return `${image} ${PROVENANCE_TEXT.get(signature) ?? `is not as the image policy demands: ${signature}`}`;
  }
}

const FLAG_TEXT = new Map([
  ['identity-forked', 'two hosts sign with the same key'],
  ['cloned', 'reports of two running systems alternate under one identity'],
  ['chain-gap', 'reports are missing between those received'],
  ['reports-dropped', 'the host dropped reports that it could not deliver'],
  ['clock-skew', "the host's clock is off"],
  ['drift-truncated', 'more drift than a report can list'],
  ['holes-capped', 'more unread paths than a report can list'],
  ['scan-implausible', 'the scan saw far less than the image holds'],
]);

const PROVENANCE_TEXT = new Map([
  ['unsigned', 'is not signed'],
  ['rejected', 'is signed, but not as the image policy demands'],
  ['unverifiable', 'could not be checked for signatures'],
  ['host-unreadable', 'is signed in a form that hosts which enforce signatures cannot read'],
  ['signature-vanished', 'was signed, and its signature is gone from where it lay'],
]);

function pathText(subject: string): string {
  try {
    const bytes = unvis(subject);
    return toUtf8(bytes) === undefined ? subject : printable(bytes);
  } catch (error) {
    if (!(error instanceof VisError)) throw error;
    return printable(subject); // the subject of a kind that is no path, stored under one: shown as it is
  }
}

function accountText(signature: string): string {
  const [change, ...fields] = signature.split(';');
  if (change === 'removed') return 'removed';
  const values = new Map(fields.map((field) => [field.split('=', 1)[0]!, field.slice(field.indexOf('=') + 1)]));
  const password = values.get('password') === 'yes' ? 'with a password' : 'without a password';
  const shell = values.get('shell') ?? '';
  return `${change}, uid ${values.get('uid')}, shell ${shell === '' ? '/bin/sh' : pathText(shell)}, ${password}`;
}

function overlayText(signature: string): string {
  const [kind, access, ...names] = signature.split(';');
  const what = `a ${access === 'rw' ? 'writable ' : ''}${kind}`;
  return names.length === 0 ? what : `${what} (${names.join(' ').replaceAll('\\040', ' ')})`;
}

const CHANGED = new Map([
  ['type', (value: string) => `now a ${value}`],
  ['mode', (value: string) => `mode now ${value}`],
  ['uid', (value: string) => `owner now ${value}`],
  ['gid', (value: string) => `group now ${value}`],
  ['sha256', () => 'content differs'],
  ['size', (value: string) => `content differs (now ${value} bytes, which could not be read)`],
  ['link', (value: string) => `points to ${value}`],
  ['capability', (value: string) => (value === '-' ? 'capability lost' : 'capability changed')],
  ['device', (value: string) => `device now ${value}`],
]);

function changeText(signature: string): string {
  const [change, ...fields] = signature.split(';');
  if (change === 'removed') return 'removed';
  if (change === 'differs') return 'content differs (a secret: compared on the host)';
  const values = new Map(fields.map((field) => [field.split('=', 1)[0]!, field.slice(field.indexOf('=') + 1)]));
  if (change === 'added') {
    const type = values.get('type') ?? 'file';
    const mode = values.get('mode');
    const more = [
      ...(mode === undefined ? [] : [`mode ${mode}`]),
      ...(values.has('link') ? [`points to ${values.get('link')}`] : []),
      ...(values.has('capability') ? ['with a capability'] : []),
    ];
    return `added ${type}${more.length === 0 ? '' : ` (${more.join(', ')})`}`;
  }
  // Another type of thing: the rest of it is only how it looks now.
  if (values.has('type')) return `replaced: ${CHANGED.get('type')!(values.get('type')!)}`;
  const told = [...values].flatMap(([name, value]) => CHANGED.get(name)?.(value) ?? []);
  if (fields.includes('differs')) told.unshift('content differs');
  return told.length === 0 ? 'modified' : told.join(', ');
}
