/** What prepare-root.conf of an image says of composefs: whether the kernel is to demand fs-verity of every file. */
export const MODES = ['yes', 'verity'] as const;
export type Mode = (typeof MODES)[number];
