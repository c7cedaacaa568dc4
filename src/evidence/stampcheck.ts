/**
 * Timestamps in a bundle (docs/evidence.md 4, check `timestamps`): each is over the text of a checkpoint, of the bundle's own or of an earlier size
 * whose root the walk over the entries came to. So it needs no checkpoint beside it.
 */
import { formatInstant } from '#src/clock.ts';
import { printCheckpoint, type Checkpoint } from '#src/log/checkpoint.ts';
import { TimestampError, verifyTimestamp } from '#src/signing/timestamp.ts';
import type { Certificate, VerifyBy } from '#src/signing/x509.ts';
import { counted, Faults, type Step } from './steps.ts';

export type StampMember = { readonly member: string; readonly size: number };

/** `log/timestamps/NAME.SIZE.tsr`; without a size it is over the bundle's own checkpoint. */
export function stampsIn(names: Iterable<string>, size: number): StampMember[] {
  return [...names].flatMap((member) => {
    if (!member.startsWith('log/timestamps/')) return [];
    const digits = /\.(0|[1-9][0-9]{0,14})\.tsr$/.exec(member)?.[1];
    return [{ member, size: digits === undefined ? size : Number(digits) }];
  });
}

export type StampOutcome = {
  readonly step: Step | undefined;
  readonly notChecked: readonly string[];
  /** One by an authority that is trusted holds. */
  readonly seen: boolean;
};

const encoder = new TextEncoder();

export async function checkStamps(
  stamps: readonly StampMember[],
  read: (member: string) => Promise<Uint8Array>,
  checkpoint: Checkpoint,
  roots: ReadonlyMap<number, Uint8Array>,
  { trusted, verify }: { readonly trusted: readonly Certificate[]; readonly verify: VerifyBy | undefined },
): Promise<StampOutcome> {
  if (stamps.length === 0) return { step: undefined, notChecked: [], seen: false };
  const all = counted(stamps.length, 'timestamp');
  if (verify === undefined || trusted.length === 0) {
    const why =
      verify === undefined
        ? 'they are checked by the command bootproof evidence verify, or by openssl (VERIFY.md)'
        : 'certificates of their authorities were not given (tsas of --trusted-root); openssl checks them, too (VERIFY.md)';
    return { step: undefined, notChecked: [`${all}: ${why}`], seen: false };
  }
  const faults = new Faults();
  const held: { readonly size: number; readonly text: string }[] = [];
  let foreign = 0;
  let outside = 0;
  for (const { member, size } of stamps) {
    const root = size === checkpoint.size ? checkpoint.root : roots.get(size);
    if (root === undefined) {
      outside++;
      continue;
    }
    const text = encoder.encode(printCheckpoint({ origin: checkpoint.origin, size, root }));
    try {
      const { time, authority } = await verifyTimestamp(await read(member), text, { trusted, verify });
      held.push({ size, text: `${authority} stamped ${size} entries at ${formatInstant(time)}` });
    } catch (error) {
      if (!(error instanceof TimestampError)) throw error;
      // As with signatures: those of others are nobody's word here.
      if (error.code === 'TIMESTAMP_UNTRUSTED') foreign++;
      else faults.add(`${member}: ${error.message}`);
    }
  }
  const notChecked: string[] = [];
  if (foreign > 0)
    notChecked.push(`${counted(foreign, 'timestamp')} by authorities that the trusted root does not name`);
  if (outside > 0) notChecked.push(`${counted(outside, 'timestamp')} of sizes that lie outside what the bundle holds`);
  if (held.length > 0)
    notChecked.push(
      'whether a certificate of a timestamp authority was revoked: nobody is asked (its CRL or OCSP responder says so; the serial stands in the token: openssl ts -reply -text -in FILE)',
    );
  const newest = held.sort((a, b) => b.size - a.size).slice(0, 3);
  const more = held.length - newest.length;
  const good = `${newest.map(({ text }) => text).join(', ')}${more > 0 ? `, and ${more} of earlier sizes` : ''}`;
  const step = held.length === 0 && faults.ok ? undefined : faults.step('timestamps', good);
  return { step, notChecked, seen: held.length > 0 && faults.ok };
}
