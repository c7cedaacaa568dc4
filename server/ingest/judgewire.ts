/** What the event loop and a thread that looks at reports say to each other; all of it plain data. */
import type { PolicyDocumentText } from '#src/policy/documents.ts';
import type { Arrival } from '#src/report/accept.ts';
import type { Blob, Manifest } from '#server/store/records.ts';
import type { Images } from '#server/store/store.ts';
import type { ProvenanceFacts } from '#server/trust/provenance.ts';
import type { Lookups, Opened } from './examiner.ts';
import type { Circumstances, Evaluated } from './judge.ts';
import type { TagFacts } from './lineage.ts';

/** What a thread is started with. */
export type ThreadData = {
  readonly ticketKeys: readonly Uint8Array[];
  /** Manifest texts that it keeps at hand, bytes. */
  readonly textBytes: number;
};

/** What a thread asks for: `Lookups`, images with their texts, and the documents of a policy. */
export type Asks = {
  readonly admit: [string, Awaited<ReturnType<Lookups['admit']>>];
  readonly provenance: [string | null, ProvenanceFacts];
  readonly tag: [string, TagFacts | null];
  readonly find: [string, Awaited<ReturnType<Images['find']>>];
  readonly manifests: [string, readonly Manifest[]];
  readonly blob: [string, Blob | undefined];
  readonly policy: [number, readonly PolicyDocumentText[]];
};
export type Asked = { [What in keyof Asks]: { readonly what: What; readonly of: Asks[What][0] } }[keyof Asks];

/** To the thread. Of one report nothing is asked before the last answer came. */
export type ToThread =
  | { readonly kind: 'open'; readonly session: number; readonly bytes: Uint8Array; readonly arrival: Arrival }
  | { readonly kind: 'reopen'; readonly session: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'evaluate';
      readonly session: number;
      readonly occasion: Circumstances;
      /** Its version in the store. */
      readonly policy: number;
    }
  | { readonly kind: 'close'; readonly session: number }
  | { readonly kind: 'told'; readonly ask: number; readonly value: unknown }
  | { readonly kind: 'untold'; readonly ask: number };

/** From the thread. */
export type FromThread =
  | { readonly kind: 'ask'; readonly ask: number; readonly asked: Asked }
  | { readonly kind: 'opened'; readonly session: number; readonly value: Opened<null> }
  | { readonly kind: 'reopened'; readonly session: number; readonly held: boolean }
  | { readonly kind: 'evaluated'; readonly session: number; readonly value: Evaluated }
  /** `lookup`: what it had asked for was not told. */
  | { readonly kind: 'failed'; readonly session: number; readonly lookup: boolean; readonly why: string };
