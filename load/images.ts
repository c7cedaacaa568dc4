/**
 * What simulated hosts show of their images: the manifest's own trees, and files that were added to /etc. Worked out once for each image and
 * each kind of difference, however many hosts show it.
 */
import { digestOf, type Digest } from '#src/digest.ts';
import { driftJson, type Drift } from '#src/drift/drift.ts';
import { comparisonText } from '#src/drift/redact.ts';
import { recompute } from '#src/drift/recompute.ts';
import type { DeploymentState } from '#src/deployment/state.ts';
import type { ManifestHeader, TreeTexts } from '#src/manifest/header.ts';
import type { FullReport } from '#src/report/report.ts';
import { stateDigest } from '#src/report/seal.ts';
import { nodeSha256 } from '#src/source/verified.ts';

/** Kinds of difference; 0 is none. Real fleets have few: what one script did to many hosts. */
export const DIFFERENCES = 16;

/** What is compared with: the header and both texts of /etc, as the server has them. */
export type KnownImage = { readonly header: ManifestHeader; readonly etc: TreeTexts };

export type Shown = Pick<FullReport, 'trees' | 'drift' | 'manifest' | 'deployment'> & {
  /** Digest of `deployment`. */
  readonly state: Digest;
};

export class Images {
  readonly #digests: readonly string[];
  readonly #known: readonly (KnownImage | undefined)[];
  readonly #driftLines: number;
  readonly #shown = new Map<number, Shown>();

  /** `known`: by image; undefined where the server has no manifest of it: hosts then compare with nothing. */
  constructor(digests: readonly string[], known: readonly (KnownImage | undefined)[], driftLines: number) {
    this.#digests = digests;
    this.#known = known;
    this.#driftLines = driftLines;
  }

  get count(): number {
    return this.#digests.length;
  }

  /** A number for what a full report of it says: the same as long as nothing but time passes. */
  keyOf(image: number, difference: number): number {
    return (image * (DIFFERENCES + 1) + difference) * 2 + (this.#known[image] === undefined ? 0 : 1);
  }

  shown(image: number, difference: number): Shown {
    const key = this.keyOf(image, difference);
    let shown = this.#shown.get(key);
    if (shown === undefined) this.#shown.set(key, (shown = this.#make(image, difference)));
    return shown;
  }

  #make(image: number, difference: number): Shown {
    const known = this.#known[image];
    const deployment = deploymentOf(this.#digests[image]!);
    const state = stateDigest(deployment, nodeSha256);
    const added = difference === 0 ? [] : addedOf(difference, this.#driftLines);
    if (known === undefined) {
      const of = (what: string) => digestOf(`${this.#digests[image]} ${what}`, nodeSha256);
      const tree = (name: string, entries: number) => ({
        main: of(name),
        extra: of(`${name} extra`),
        entries,
        holes: [],
        holesCapped: false,
      });
      const trees = { usr: tree('usr', 40_000), etc: tree(`etc ${difference}`, 1_000 + added.length) };
      return { trees, drift: [], manifest: null, deployment, state };
    }
    const { header, etc } = known;
    const expected = { main: comparisonText(etc.main), extra: etc.extra };
    const digests = recompute(expected, { tree: 'etc', drift: added, secrets: [], secretPaths: [] }, nodeSha256);
    const { usr } = header.trees;
    return {
      trees: {
        usr: {
          main: usr.main.comparison,
          extra: usr.extra,
          entries: usr.entries,
          holes: [],
          holesCapped: false,
        },
        etc: { ...digests, entries: header.trees.etc.entries + added.length, holes: [], holesCapped: false },
      },
      drift: added.map(driftJson),
      manifest: { image: header.image, rule: header.rule },
      deployment,
      state,
    };
  }
}

function addedOf(difference: number, lines: number): Drift[] {
  return Array.from({ length: lines }, (_, n): Drift => {
    const name = `bootproof-load-${String(difference).padStart(2, '0')}-${String(n).padStart(6, '0')}`;
    const actual = { type: 'file', mode: 0o644, uid: 0, gid: 0, size: name.length, sha256: nodeSha256(name) } as const;
    return { path: `/etc/${name}`, change: 'added', actual };
  });
}

function deploymentOf(digest: string): DeploymentState {
  const image = { reference: null, transport: 'registry', digest, version: null, signature: 'containerPolicy' };
  return {
    backend: 'ostree',
    via: 'bootc',
    booted: { image, checksum: null, stateroot: 'default', pinned: false, layered: [] },
    staged: null,
    rollback: null,
    overlays: [],
    kargs: ['root=UUID=00000000-0000-0000-0000-000000000000', 'ro'],
    kernel: '6.12.0',
    verity: null,
    transientRoot: null,
    contradictions: [],
  };
}
