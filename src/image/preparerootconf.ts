/** `usr/lib/ostree/prepare-root.conf` (GLib key file) as ostree-ext asks it: does the root lie on composefs or an overlay? */
import type { ByteString } from '#src/bytes.ts';

/**
 * Whether the configuration enables composefs or a transient root (ostree_prepareroot.rs: overlayfs_enabled_in_config); undefined
 * where GLib would not read it.
 */
export function enablesComposefs(text: ByteString): boolean | undefined {
  const keys = new Map<string, string>();
  let group: string | undefined;
  for (const line of text.split('\n')) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const head = /^\[([^[\]]+)\]$/.exec(trimmed);
    if (head !== null) {
      group = head[1];
      continue;
    }
    const equals = trimmed.indexOf('=');
    if (group === undefined || equals < 1) return undefined;
    keys.set(`${group}\n${trimmed.slice(0, equals).trimEnd()}`, trimmed.slice(equals + 1).trimStart());
  }
  const transient = keys.get('root\ntransient');
  if (transient !== undefined && !['true', '1', 'false', '0'].includes(transient)) return undefined;
  const composefs = keys.get('composefs\nenabled') ?? 'no';
  return (
    ['true', '1'].includes(transient ?? '') || ['signed', 'verity', 'yes', 'true', '1', 'maybe'].includes(composefs)
  );
}
