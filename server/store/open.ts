/** `openStore`: from a URL to a store that keeps the contract of store.ts. */
import { SQLITE_ALONE_KIB } from '#src/limits.ts';
import { accessOn } from './access.ts';
import { anchorsOn } from './anchors.ts';
import { auditOn } from './audit.ts';
import { blobsOn } from './blobs.ts';
import { bulksOn } from './bulks.ts';
import type { Engine } from './engine.ts';
import { tokensOn } from './enrol.ts';
import { evidenceOn } from './evidence.ts';
import { findingsOn } from './findings.ts';
import { holdsOn } from './holds.ts';
import { hostsOn } from './hosts.ts';
import { imagesOn, sourcesOn } from './images.ts';
import { intakeIn } from './intake.ts';
import { inventoriesOn } from './inventories.ts';
import { jobsOn } from './jobs.ts';
import { imageAgesOn, imageTagsOn, lineagesOn, policyVersionsOn } from './policies.ts';
import { logOn } from './log.ts';
import { noticesOn } from './notices.ts';
import { schemaOf } from './migrate.ts';
import { imageOriginsOn } from './origins.ts';
import { openPostgres } from './postgres.ts';
import { facetReads } from './read/facets.ts';
import { findingReads } from './read/findings.ts';
import { hostReads } from './read/hosts.ts';
import { imageReads } from './read/images.ts';
import { posturesOn } from './read/posture.ts';
import { reportsOn } from './reports.ts';
import { retentionOn } from './retention.ts';
import { settingsOn } from './settings.ts';
import { sizesOf } from './sizes.ts';
import { openSqlite, type Listing } from './sqlite.ts';
import { StoreError, type Store } from './store.ts';
import { imageTextsOn } from './texts.ts';
import { denialsOn, trustOn } from './trust.ts';
import { upkeepOn } from './upkeep.ts';
import { viewsOn } from './views.ts';
import { waiversOn } from './waivers.ts';

/** The store on an engine. */
export function storeOn(engine: Engine): Store {
  return {
    engine: engine.kind,
    settings: settingsOn(engine),
    tokens: tokensOn(engine),
    hosts: hostsOn(engine),
    reports: reportsOn(engine),
    findings: findingsOn(engine),
    waivers: waiversOn(engine),
    bulks: bulksOn(engine),
    views: viewsOn(engine),
    images: imagesOn(engine),
    sources: sourcesOn(engine),
    trust: trustOn(engine),
    denials: denialsOn(engine),
    policies: policyVersionsOn(engine),
    lineages: lineagesOn(engine),
    imageAges: imageAgesOn(engine),
    imageTags: imageTagsOn(engine),
    imageOrigins: imageOriginsOn(engine),
    imageTexts: imageTextsOn(engine),
    blobs: blobsOn(engine),
    jobs: jobsOn(engine),
    audit: auditOn(engine),
    access: accessOn(engine),
    notices: noticesOn(engine),
    log: logOn(engine),
    anchors: anchorsOn(engine),
    postures: posturesOn(engine),
    evidence: evidenceOn(engine),
    retention: retentionOn(engine),
    holds: holdsOn(engine),
    inventories: inventoriesOn(engine),
    upkeep: upkeepOn(engine),
    read: { ...hostReads(engine), ...findingReads(engine), ...facetReads(engine), ...imageReads(engine) },
    intake: (items) => (items.length === 0 ? Promise.resolve([]) : engine.write((tx) => intakeIn(tx, items))),
    ping: () =>
      engine.reading(async (db) => {
        await db.selectFrom('setting').select('key').limit(1).execute();
      }),
    schema: () => engine.reading((db) => schemaOf(db)),
    sizes: () => sizesOf(engine),
    close: () => engine.close(),
  };
}

/** The engine behind a URL; apart from `openStore` for tests that ask the database for its plans, and set how lists are read. */
export async function openEngine(url: string, listing: Listing = {}): Promise<Engine> {
  if (url.startsWith('sqlite:')) {
    const path = url.slice('sqlite:'.length);
    if (path === '' || path.startsWith(':') || path.startsWith('//'))
      throw new StoreError('STORE_URL', 'expected sqlite:PATH, the path of a file');
    return openSqlite(path, listing);
  }
  if (/^postgres(?:ql)?:\/\//.test(url)) return openPostgres(url);
  // The URL may hold a password: only its scheme is repeated.
  const scheme = /^[a-z][a-z0-9+.-]*(?=:)/i.exec(url)?.[0];
  throw new StoreError(
    'STORE_URL',
    `expected sqlite:PATH or postgres://…, got ${scheme === undefined ? 'no scheme' : `the scheme ${scheme}:`}`,
  );
}

/**
 * Opens the store, and brings its schema up to this build.
 * `sqlite:PATH` (file and folders are made, readable to their owner) or `postgres://…` (the database must exist).
 * @throws {StoreError} STORE_URL, STORE_FOLDER, STORE_NEWER, STORE_FOREIGN, STORE_UNAVAILABLE.
 */
export async function openStore(url: string): Promise<Store> {
  return storeOn(await openEngine(url));
}

/** The same for a thread of its own, which reads a whole database once: lists run in it, and few pages are kept. */
export const openStoreAlone = async (url: string): Promise<Store> =>
  storeOn(await openEngine(url, { inlineBytes: Infinity, cacheKiB: SQLITE_ALONE_KIB }));
