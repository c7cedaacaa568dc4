/** What policy's selectors and conditions ask of a host (docs/policy.md, section 2.5): what people set and what the server found, never a claim. */
import type { HostFacts } from '#src/policy/host.ts';
import type { Host, Image } from '#server/store/records.ts';

/** `image`: the booted one as the server knows it; undefined while nobody found it. */
export function hostFactsOf(
  host: Pick<Host, 'labels' | 'group'>,
  image?: Pick<Image, 'digest' | 'repositories' | 'version'>,
): HostFacts {
  return {
    labels: new Map(Object.entries(host.labels)),
    group: host.group,
    image: {
      digest: image?.digest ?? null,
      repositories: (image?.repositories ?? []).map((place) => place.replace(/^docker:\/\//, '')),
      version: image?.version ?? null,
    },
  };
}
