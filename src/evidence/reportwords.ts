/** Words of the report, for a reader who has never seen Bootproof. */

export const WORDS: readonly (readonly [word: string, means: string])[] = [
  ['Acknowledged', 'A person has seen a finding and takes care of it. It stays open, and excepts nothing.'],
  [
    'Checkpoint',
    'The log’s size and root at a moment, signed by the log’s key. Whoever keeps one can tell later whether the log still contains all that it contained then.',
  ],
  ['Deployment', 'One bootable copy of an image on a host: booted, staged for the next boot, or kept to roll back to.'],
  ['Digest', 'SHA-256 of bytes. Two things with one digest are the same; shortened in print, whole in the CSV files.'],
  [
    'Evidence log',
    'A list to which entries are only ever added, built so that a changed, removed or reordered entry shows (C2SP tlog-tiles).',
  ],
  [
    'Exception',
    'Anything in the period that was not as it should be. It fails a rule, leaves it untold, or is waived, explained or ended.',
  ],
  ['Finding', 'Something about one host that policy does not allow, since when and until when.'],
  ['Gap', 'A time without a report that was longer than policy allows.'],
  ['Host', 'A machine that boots from an image and has a key of its own, with which it signs its reports.'],
  [
    'Image',
    'The operating system as it was built and signed, named by its digest. Every file in a host’s /usr and /etc can be compared with it.',
  ],
  ['Policy', 'The rules that say which differences are allowed, which matter how much, and who may sign images.'],
  ['Report', 'What a host says of itself, signed: digests of /usr and /etc, what differs, what it booted.'],
  ['Waiver', 'An exception that one person asked for and another approved, with a reason and an end.'],
  ['Witness', 'A party that does not run this server and signs checkpoints only if each continues the one before.'],
];
