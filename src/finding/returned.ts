/** Why a finding is open again that people had decided about, in words (docs/findings.md 1.2): pages and command say the same. */

export type ReturnedHow =
  | 'waiver_expired'
  | 'waiver_revoked'
  | 'waiver_changed'
  | 'acknowledgement_over'
  | 'acknowledgement_withdrawn';

/** `waiver W-17 expired`. `what`: the waiver; of an acknowledgement who had given it, or took it back. */
export function returnedText({ how, what }: { readonly how: ReturnedHow; readonly what: string }): string {
  switch (how) {
    case 'waiver_expired':
      return `waiver ${what} expired`;
    case 'waiver_revoked':
      return `waiver ${what} was revoked`;
    case 'waiver_changed':
      return `waiver ${what} covers it no more`;
    case 'acknowledgement_over':
      return `the acknowledgement of ${what} is over`;
    case 'acknowledgement_withdrawn':
      return `${what} took the acknowledgement back`;
  }
}
