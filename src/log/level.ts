/** How much a log, or a bundle of it, proves (docs/log.md 1): one rule, for the page, the command, the statement of a bundle and its verification. */

export const LEVELS = [0, 1, 2] as const;
export type Level = (typeof LEVELS)[number];

export type Seen = {
  /** A witness cosigned a checkpoint, or an authority stamped it: somebody who runs neither server nor hosts. */
  readonly outside: boolean;
  /** A host keeps a checkpoint; in a verification: one was brought, and the log is that one. */
  readonly kept: boolean;
};

export const levelOf = ({ outside, kept }: Seen): Level => (outside ? 2 : kept ? 1 : 0);

/** What each level means, in a sentence. */
export const LEVEL_MEANS: readonly [string, string, string] = [
  'This server’s word: who has its database and key can write the log anew and sign it again.',
  'Hosts keep checkpoints, each checked against the one before: a log that is written anew does not fit what an auditor collects from them.',
  'Somebody who runs neither the server nor the hosts signed or stamped a checkpoint: a log that is written anew needs their help.',
];

/** What there is to be done for a higher level; empty where there is none. */
export function howToRaise(level: Level): readonly string[] {
  const outside = [
    'a witness: start the server with --witness VKEY=URL (C2SP tlog-witness), and give its operator the log’s key from /log/key',
    'a timestamp authority: --timestamp-authority NAME=URL with --timestamp-ca NAME=FILE (RFC 3161); its certificate goes to auditors, too',
  ];
  if (level === 2) return [];
  return level === 1
    ? outside
    : [
        'hosts: each that reports keeps the newest checkpoint; collect some with bootproof agent checkpoint',
        ...outside,
      ];
}
