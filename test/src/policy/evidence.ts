/** Evidence for policy tests: an untouched ostree host, to be changed by each test. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DeploymentState, Overlay } from '#src/deployment/state.ts';
import type { Digest } from '#src/digest.ts';
import type { Drift } from '#src/drift/drift.ts';
import type { Facts } from '#src/manifest/entry.ts';
import { parsePolicy, type Policy } from '#src/policy/document.ts';
import type { Evidence } from '#src/policy/evaluate.ts';

export const DEFAULT_FILE = 'policies/default.yaml';
export const DEFAULT_TEXT = readFileSync(join(import.meta.dirname, '../../..', DEFAULT_FILE), 'utf8');
export const DEFAULT: Policy = parsePolicy(DEFAULT_TEXT, { file: DEFAULT_FILE });

/** A policy of the given sections, on its own. */
export function policyOf(sections: string): Policy {
  return parsePolicy(`format: bootproof.policy/1\nname: test\n${sections}`, { file: 'test.yaml' });
}

export const IMAGE = `sha256:${'1'.repeat(64)}` as Digest;
export const READY = { state: 'ready', image: IMAGE, rule: 'ostree/1' } as const;

export const DEPLOYMENT: DeploymentState = {
  backend: 'ostree',
  via: 'bootc',
  booted: {
    image: { reference: 'quay.io/x/y:1', transport: 'registry', digest: IMAGE, version: '1', signature: null },
    checksum: 'a'.repeat(64),
    stateroot: 'default',
    pinned: false,
    layered: [],
  },
  staged: null,
  rollback: null,
  overlays: [],
  kargs: ['root=UUID=0', 'rw', 'console=tty0'],
  kernel: '6.0',
  verity: null,
  transientRoot: false,
  contradictions: [],
};

export const INTACT: Evidence = {
  manifest: READY,
  drift: [],
  secrets: [],
  trees: { usr: { holes: [], holesCapped: false }, etc: { holes: [], holesCapped: false } },
  truncated: null,
  deployment: DEPLOYMENT,
  flags: [],
  skewMs: 0,
  silence: 'over',
};

export function overlay(path: string, kind: Overlay['kind'], more: Partial<Overlay> = {}): Overlay {
  return { path, kind, detail: 'made up', writable: false, masks: true, beneath: null, ...more };
}

export const sha = (digit: string): string => digit.repeat(64);
export const file = (more: Partial<Facts> = {}): Facts => ({
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 1,
  sha256: sha('a'),
  ...more,
});
export const program = (more: Partial<Facts> = {}): Facts => file({ mode: 0o755, ...more });
/** A secret as it may be told: neither size nor digest. */
export const hidden = (mode: number, more: Partial<Facts> = {}): Facts => ({
  type: 'file',
  mode,
  uid: 0,
  gid: 0,
  ...more,
});
export const folder = (mode = 0o755, more: Partial<Facts> = {}): Facts => ({
  type: 'dir',
  mode,
  uid: 0,
  gid: 0,
  ...more,
});
export const symlink = (link: string): Facts => ({ type: 'symlink', mode: 0, uid: 0, gid: 0, link });

export const added = (path: string, actual: Facts = file()): Drift => ({ path, change: 'added', actual });
export const removed = (path: string, expected: Facts = file()): Drift => ({ path, change: 'removed', expected });
export const modified = (path: string, actual: Partial<Facts>, expected: Facts = file()): Drift => ({
  path,
  change: 'modified',
  expected,
  actual: { ...expected, ...actual },
});
/** The content of a file replaced. */
export const replaced = (path: string, expected: Facts = file()): Drift =>
  modified(path, { sha256: sha('b'), size: 2 }, expected);
