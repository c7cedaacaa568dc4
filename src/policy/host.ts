/** Which hosts a rule is about (docs/policy.md, section 2.5): by what people and the server say of them, never by what they claim. */
import { fromUtf8 } from '#src/bytes.ts';
import { matchesGlob, type Glob } from './paths.ts';

/** What of a host a rule may ask: labels and group as people set them, the image as the server found it. */
export type HostFacts = {
  readonly labels: ReadonlyMap<string, string>;
  readonly group: string | null;
  readonly image: {
    /** Of the booted image; null where it is not known. */
    readonly digest: string | null;
    /** `registry.example/team/os`: where the server found it, by allowed sources only. */
    readonly repositories: readonly string[];
    readonly version: string | null;
  };
};

/** All that stand must hold; of the globs of one, one must match. */
export type HostSelector = {
  readonly labels?: readonly { readonly key: string; readonly values: readonly Glob[] }[] | undefined;
  readonly groups?: readonly Glob[] | undefined;
  readonly images?: readonly Glob[] | undefined;
};

export const NO_HOST: HostFacts = {
  labels: new Map(),
  group: null,
  image: { digest: null, repositories: [], version: null },
};

const matchesOne = (globs: readonly Glob[], text: string): boolean => {
  const bytes = fromUtf8(text);
  return globs.some((glob) => matchesGlob(glob, bytes));
};

export function selects({ labels, groups, images }: HostSelector, host: HostFacts): boolean {
  if (groups !== undefined && (host.group === null || !matchesOne(groups, host.group))) return false;
  if (images !== undefined) {
    const { digest, repositories } = host.image;
    const names = digest === null ? repositories : [digest, ...repositories];
    if (!names.some((name) => matchesOne(images, name))) return false;
  }
  return (labels ?? []).every(({ key, values }) => {
    const value = host.labels.get(key);
    return value !== undefined && matchesOne(values, value);
  });
}

/** Whether a rule is about a host: among those of `hosts`, not among those of `except`. */
export function isAbout(
  rule: { readonly hosts?: HostSelector | undefined; readonly except?: HostSelector | undefined },
  host: HostFacts,
): boolean {
  if (rule.hosts !== undefined && !selects(rule.hosts, host)) return false;
  return rule.except === undefined || !selects(rule.except, host);
}
