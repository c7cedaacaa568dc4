/** The identity of findings: the same judgement on many hosts is one group. */
import type { Judgement } from '#src/policy/judgement.ts';

/** SHA-256 in hex over rule, kind, subject and change signature; the same on every host and under every image. */
export declare function groupOf(judgement: Pick<Judgement, 'rule' | 'kind' | 'subject' | 'signature'>): string;
