/** What passes between the store and those who keep policies, what hosts booted before, and how old images are. */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import type * as r from './records.ts';
import type { PageRequest } from './store.ts';

/** `shipped`: came with this build; `api`: a person applied it; `files`: from the configured file or folder. */
export type PolicyOrigin = 'shipped' | 'api' | 'files';

export type NewPolicyVersion = {
  /** Of what it means (docs/policy.md, section 8), as the build that took it understood it. */
  readonly digest: Digest;
  readonly name: string;
  /** The documents as they were written; those that others extend are among them, the shipped one is not. */
  readonly documents: readonly { readonly file: string; readonly text: string }[];
  readonly origin: PolicyOrigin;
  /** The file or folder; null where it came over the API. */
  readonly place: string | null;
  /** Of the git repository that the folder is checked out from; null where it is none. */
  readonly commit: string | null;
  readonly note: string | null;
};
export type PolicyVersion = NewPolicyVersion & {
  /** From 1; the highest one judges. */
  readonly n: number;
  readonly createdAt: Instant;
  readonly createdBy: string;
};

export interface PolicyVersions {
  /** Number of the version that judges; null before the first. One read of an index. */
  head(): Promise<number | null>;
  get(n: number): Promise<PolicyVersion | undefined>;
  /** Newest first. */
  list(page: PageRequest<{ readonly n: number }>): Promise<r.Page<PolicyVersion, { readonly n: number }>>;
  /** Which versions mean this, newest first, at most `limit`. */
  byDigest(digest: Digest, limit: number): Promise<readonly PolicyVersion[]>;
  /**
   * Appends, writes the trail and enqueues the work in one transaction. `after` is the head as it was read (null: none); answers the
   * new number, undefined where another version came between.
   */
  append(
    version: NewPolicyVersion,
    after: number | null,
    by: r.Act,
    jobs: readonly r.NewJob[],
  ): Promise<number | undefined>;
  /** Controls with the rules of the policy that judges, in the order of both. */
  controls(): Promise<readonly RuleControl[]>;
  /** Makes them these; writes nothing where they are so already. */
  setControls(controls: readonly RuleControl[]): Promise<void>;
}
export type RuleControl = { readonly control: string; readonly rule: string };

/** An image that a host booted, as the host named it first and as the server knows it. */
export type Booted = {
  /** Manifest digest where it is known, else what the host gave. */
  readonly image: string;
  readonly firstAt: Instant;
};
/** A time through which a host ran one image. */
export type Stay = {
  readonly image: string;
  /** When the first report of it was judged, and its number; null where that is not known. */
  readonly from: Instant;
  readonly seq: number | null;
  /** When it was last heard before it ran another; null while it runs this one. */
  readonly to: Instant | null;
  /** What the host then said that it follows, such as a tag. */
  readonly reference: string | null;
};
/**
 * What a host booted, oldest first and bounded by LINEAGE_IMAGES_MAX, and of each path of /etc that differs from the booted image: the
 * index of the image under which that very copy was made or that it still equals, and a short digest of the copy (docs/policy.md 11).
 */
export type Lineage = {
  readonly images: readonly Booted[];
  /** `[path as escaped, copy, index into images]`, in the order of paths; at most LINEAGE_COPIES_MAX. */
  readonly copies: readonly (readonly [path: string, copy: string, image: number])[];
  /** What it ran one after the other, oldest first, at most LINEAGE_STAYS_MAX; absent in what an older build wrote. */
  readonly stays?: readonly Stay[];
};

export interface Lineages {
  get(hostId: string): Promise<Lineage | undefined>;
}

export interface ImageAges {
  /** What `Images.find` tells from then on; before the image becomes ready. */
  note(digest: string, madeAt: Instant | null): Promise<void>;
}

/** A tag that hosts follow, as last looked up. */
export type ImageTag = {
  /** `docker://registry.example/team/os:stable`. */
  readonly reference: string;
  /** To which it led. */
  readonly digests: readonly string[];
  /** When it was first seen to lead there. */
  readonly movedAt: Instant;
  /** Null while nobody looked. */
  readonly checkedAt: Instant | null;
  /** Why it could not be looked up the last time; what was known stands. */
  readonly failure: string | null;
};

export interface ImageTags {
  get(reference: string): Promise<ImageTag | undefined>;
  /** Notes that it is to be looked up; false where as many as `most` are already. */
  want(reference: string, at: Instant, most: number): Promise<boolean>;
  /** Answers whether it leads elsewhere than before, or was never looked up. */
  looked(reference: string, digests: readonly string[], at: Instant): Promise<boolean>;
  failed(reference: string, failure: string): Promise<void>;
  forget(reference: string): Promise<void>;
}
