/** Where on the server the agent knocks. The only place that spells these paths. */
import type { TreeName } from '#src/manifest/entry.ts';

export const PATHS = {
  enrolNonce: '/api/v1/enrol/nonce',
  enrol: '/api/v1/enrol',
  reports: '/api/v1/reports',
  /** `:digest` as the host spells it; `?backend=ostree|composefs`. */
  manifests: '/api/v1/manifests/:digest',
  /** `:rule` as `ruleInPath` writes it. */
  manifestText: '/api/v1/manifests/:image/:rule/:tree/:part',
  manifestVerity: '/api/v1/manifests/:image/verity',
} as const;

export const TEXT_PARTS = ['main', 'extra'] as const;
export type TextPart = (typeof TEXT_PARTS)[number];

/** A rule as a part of a path: proxies do not agree on what `%2F` is. */
export function ruleInPath(rule: string): string {
  return rule.replace('/', '.');
}

/** The inverse of `ruleInPath`. */
export function ruleFromPath(part: string): string {
  return part.replace('.', '/');
}

export function manifestsPath(digest: string, backend: string): string {
  return `/api/v1/manifests/${encodeURIComponent(digest)}?backend=${encodeURIComponent(backend)}`;
}

export function manifestVerityPath(image: string): string {
  return `/api/v1/manifests/${encodeURIComponent(image)}/verity`;
}

export function manifestTextPath(image: string, rule: string, tree: TreeName, part: TextPart): string {
  return `/api/v1/manifests/${encodeURIComponent(image)}/${encodeURIComponent(ruleInPath(rule))}/${tree}/${part}`;
}
