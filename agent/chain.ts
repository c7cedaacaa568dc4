/** What the agent remembers of its own reports and of the server's last answer: one file, replaced as a whole. */
import { z } from 'zod';
import { formatInstant, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { DROPPED_RANGES_MAX } from '#src/limits.ts';
import { DigestJson } from '#src/manifest/json.ts';
import type { Report } from '#src/report/report.ts';
import { contentDigest } from '#src/report/seal.ts';
import { Answer, Time } from '#src/wire/answer.ts';
import type { Problem } from '#src/wire/problem.ts';

const Count = z.int().min(0);
const Range = z.strictObject({ from: Count, to: Count });
export type Range = z.infer<typeof Range>;

/** What is told of the log lies in its own file (keptlog.ts); here it would keep an older agent from reading what a newer one wrote. */
const KeptAnswer = Answer.omit({ consistency: true, logKey: true });

export const AgentChain = z.strictObject({
  version: z.literal(1),
  /** Number of the last sealed report. */
  seq: Count,
  /** Envelope of the last sealed full report. */
  lastFull: DigestJson.nullable(),
  /** The last full report that the server took, and how often it was said since that it still holds. */
  accepted: z.strictObject({ envelope: DigestJson, content: DigestJson, sameCount: Count }).nullable(),
  /** Full reports that were sealed and not answered yet, oldest first. */
  unanswered: z.array(z.strictObject({ seq: Count, envelope: DigestJson, content: DigestJson })),
  /** Numbers that were given up, until a report that says so was taken. */
  dropped: z.array(Range),
  answer: z.strictObject({ ...KeptAnswer.shape, receivedAt: Time }).nullable(),
  /** The server asked for quiet until then (Retry-After). */
  notBefore: Time.nullable(),
  /** The rule that fitted an image's /usr last time, newest last. */
  rules: z.array(z.strictObject({ image: DigestJson, rule: z.string() })),
});
export type AgentChain = z.infer<typeof AgentChain>;

export const NEW_CHAIN: AgentChain = {
  version: 1,
  seq: 0,
  lastFull: null,
  accepted: null,
  unanswered: [],
  dropped: [],
  answer: null,
  notBefore: null,
  rules: [],
};

/** Images whose rule is remembered: booted, staged and rollback, with room. */
const RULES_MAX = 8;

/** The chain after a report was sealed. Told again of one that it knows, it stays as it is. */
export function sealed(
  chain: AgentChain,
  report: Report,
  envelope: Digest,
  hash: (data: string | Uint8Array) => string,
): AgentChain {
  if (report.seq <= chain.seq) return chain;
  if (report.kind === 'full') {
    const content = contentDigest(report, hash);
    const unanswered = [...chain.unanswered, { seq: report.seq, envelope, content }];
    return { ...chain, seq: report.seq, lastFull: envelope, unanswered };
  }
  const { accepted } = chain;
  const counted = accepted?.envelope === report.full ? { ...accepted, sameCount: report.count } : accepted;
  return { ...chain, seq: report.seq, accepted: counted };
}

/** The chain after the server took a report. */
export function answered(chain: AgentChain, report: Report, answer: Answer, now: Instant): AgentChain {
  const full = chain.unanswered.find(({ seq }) => seq === report.seq);
  // One that was only put into the history is not what a `same` may lean on.
  const leans = full !== undefined && answer.effect !== 'history';
  const { consistency: _consistency, logKey: _logKey, ...kept } = answer;
  const told = (range: Range) => report.dropped.some(({ from, to }) => from <= range.from && range.to <= to);
  return {
    ...chain,
    accepted: leans ? { envelope: full.envelope, content: full.content, sameCount: 0 } : chain.accepted,
    unanswered: chain.unanswered.filter(({ seq }) => seq !== report.seq),
    dropped: chain.dropped.filter((range) => !told(range)),
    // A repeat may bring no new tickets: those that are held, and when they came, stay (docs/report.md 4.5).
    answer:
      answer.challenge === null && chain.answer !== null
        ? { ...chain.answer, next: answer.next, want: answer.want }
        : { ...kept, receivedAt: formatInstant(now) },
    notBefore: null,
  };
}

/**
 * The chain after the server refused a report. It knows of it, so nothing is said of its number. Where the number was used before, this state is
 * older than what the server has of this host: numbers go on from there, rather than to be refused one by one (docs/report.md 4.6).
 */
export function refused(chain: AgentChain, seq: number, { code, head }: Problem, now: Instant): AgentChain {
  const unanswered = chain.unanswered.filter((full) => full.seq !== seq);
  // At the head's own number the server can tell for certain that two reports bear it; below, it may have forgotten.
  const named = code === 'SEQUENCE_FORKED' ? head : code === 'SEQUENCE_FORGOTTEN' && head ? head - 1 : undefined;
  // What it names is taken no further than a lost chain would go: no server can use the numbers up.
  const next = Math.min(named ?? 0, numberAfterLoss(now));
  return next <= chain.seq ? { ...chain, unanswered } : { ...chain, unanswered, seq: next, accepted: null };
}

/** Where numbers go on after the chain was lost. Nobody sends a report a minute for ever: minutes since 1970 are above all that went before. */
export function numberAfterLoss(now: Instant): number {
  return Math.max(0, Math.floor(now / 60_000));
}

/**
 * The chain after reports went to a file. No answer will ever name them, and what the server leans on then cannot be known here: after a full
 * report the next one is full again.
 */
export function carriedAway(chain: AgentChain, seqs: readonly number[]): AgentChain {
  const unanswered = chain.unanswered.filter(({ seq }) => !seqs.includes(seq));
  return { ...chain, unanswered, accepted: unanswered.length === chain.unanswered.length ? chain.accepted : null };
}

/** The chain after reports were given up: dropped from a full spool, or no longer readable. */
export function givenUp(chain: AgentChain, seqs: readonly number[]): AgentChain {
  const numbers = [...new Set(seqs)].sort((a, b) => a - b).map((seq) => ({ from: seq, to: seq }));
  return {
    ...chain,
    dropped: union([...chain.dropped, ...numbers]),
    unanswered: chain.unanswered.filter(({ seq }) => !seqs.includes(seq)),
  };
}

/** Rising, apart from each other, and no more than a report may hold: then the oldest are no longer said. */
function union(ranges: readonly Range[]): Range[] {
  const out: Range[] = [];
  for (const range of [...ranges].sort((a, b) => a.from - b.from)) {
    const last = out.at(-1);
    if (last !== undefined && range.from <= last.to + 1)
      out[out.length - 1] = { from: last.from, to: Math.max(last.to, range.to) };
    else out.push({ ...range });
  }
  return out.slice(-DROPPED_RANGES_MAX);
}

export function withRule(chain: AgentChain, image: Digest, rule: string): AgentChain {
  const others = chain.rules.filter((known) => known.image !== image);
  return { ...chain, rules: [...others, { image, rule }].slice(-RULES_MAX) };
}

export function isDropped(chain: AgentChain, seq: number): boolean {
  return chain.dropped.some(({ from, to }) => from <= seq && seq <= to);
}
