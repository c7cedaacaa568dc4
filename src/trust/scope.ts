/** What of which trust roots counts for an authority (docs/trust.md 4.2). Roots are never merged. */
import type { TrustMaterial } from '@sigstore/verify';
import { TrustError } from './material.ts';
import type { Authority, KeyAuthority, KeylessAuthority, TrustRootName } from './requirement.ts';
import { quote } from './strictjson.ts';
import type { TrustRoot, TrustRoots } from './trustroot.ts';

/** `undefined` parts are not looked at. */
export type Scope = {
  readonly roots: readonly TrustRoot[];
  readonly authorities: TrustMaterial['certificateAuthorities'];
  readonly ctlogs: TrustMaterial['ctlogs'];
  readonly logs: TrustMaterial['tlogs'] | undefined;
  readonly stampers: TrustMaterial['timestampAuthorities'] | undefined;
  readonly needs: { readonly log: boolean; readonly stamp: boolean; readonly sct: boolean };
};

/** @throws {TrustError} NO_TRUST_ROOT */
export function scopeOf(authority: Authority, roots: TrustRoots): Scope {
  return authority.kind === 'key' ? keyScope(authority, roots) : keylessScope(authority, roots);
}

function rootOf(roots: TrustRoots, name: TrustRootName): TrustRoot {
  const root = roots.get(name);
  if (root === undefined)
    throw new TrustError('NO_TRUST_ROOT', `no trust root ${quote(name)} is known here; import its trusted_root.json`);
  return root;
}

function keyScope({ tlog, tsa }: KeyAuthority, roots: TrustRoots): Scope {
  const logRoot = tlog === undefined ? undefined : rootOf(roots, tlog);
  const stampRoot = tsa === undefined ? undefined : rootOf(roots, tsa);
  return {
    roots: [...new Set([logRoot, stampRoot])].filter((root) => root !== undefined),
    authorities: [],
    ctlogs: [],
    logs: logRoot?.material.tlogs,
    // A log of version 2 promises no time; the same instance's stamps are then what there is.
    stampers: (stampRoot ?? logRoot)?.material.timestampAuthorities,
    needs: { log: tlog !== undefined, stamp: tsa !== undefined, sct: false },
  };
}

function keylessScope({ trustRoot, tlogRoot, tsaRoot, tlog, tsa, sct }: KeylessAuthority, roots: TrustRoots): Scope {
  const root = rootOf(roots, trustRoot);
  const logRoot = tlogRoot === undefined ? root : rootOf(roots, tlogRoot);
  const stampRoot = tsaRoot === undefined ? root : rootOf(roots, tsaRoot);
  return {
    roots: [...new Set([root, logRoot, stampRoot])],
    authorities: root.material.certificateAuthorities,
    ctlogs: root.material.ctlogs,
    logs: logRoot.material.tlogs,
    stampers: stampRoot.material.timestampAuthorities,
    needs: { log: tlog, stamp: tsa || !tlog, sct },
  };
}
