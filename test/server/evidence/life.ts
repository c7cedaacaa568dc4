/** Some days of a small fleet through the real server, for exports: what is found, waived, silent, retired, never heard. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ZipSource } from '#src/evidence/zip.ts';
import { decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { makeBundle } from '#server/evidence/bundle.ts';
import type { Make } from '#server/evidence/inworker.ts';
import { serverKeys } from '#server/keys.ts';
import { openStore } from '#server/store/open.ts';
import type { EvidenceExport } from '#server/store/evidencerecords.ts';
import { ALICE, BOB, DAY, deciding, odd, ODD, OS, shows } from '../decisions/people.ts';
import { enrol, HOUR, T0, type TestHost, type TestServer } from '../fleet.ts';

/** The period: whole days of UTC. */
export const FROM = T0 - 12 * HOUR;
export const TO = FROM + 4 * DAY;
const STEP = 6;

/** Enrolled, compared with its image, in a group. */
async function joined(server: TestServer, name: string, group: string): Promise<TestHost> {
  const host = await enrol(server, OS, { name });
  await server.server.store.hosts.setGroup(host.id, group, { actor: 'admin', at: server.time.now });
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  server.time.now += 1000;
  await host.sendFull();
  return host;
}

/**
 * web-1 shows something odd on the second day and not any more on the fourth; web-2's is waived; db-1 is silent for a day and a half; old-1 is
 * retired; quiet-1 never says anything.
 */
export async function live(server: TestServer): Promise<Readonly<Record<string, TestHost>>> {
  const { store } = server.server;
  const by = () => ({ actor: 'admin', at: server.time.now });
  const web1 = await joined(server, 'web-1', 'prod/web');
  const web2 = await joined(server, 'web-2', 'prod/web');
  const db1 = await joined(server, 'db-1', 'prod/db');
  const old1 = await joined(server, 'old-1', 'prod/db');
  const quiet1 = await enrol(server, OS, { name: 'quiet-1' });
  await store.hosts.setGroup(quiet1.id, 'prod/db', by());
  for (let hour = STEP; hour < 84; hour += STEP) {
    server.time.now = T0 + hour * HOUR;
    await server.settle();
    if (hour === 18) await shows(web1, odd());
    else if (hour === 66) await shows(web1);
    else await web1.sendSame();
    if (hour === 30) {
      await shows(web2, odd('y'));
      await waive(server, web2);
    } else await web2.sendSame();
    if (hour < 12 || hour > 46) await db1.sendSame();
    if (hour === 42) await store.hosts.retire(old1.id, by());
    else if (hour < 42) await old1.sendSame();
  }
  server.time.now = TO + 5 * 60_000;
  await server.settle();
  // Since the period ended: bundles tell what it was called then.
  await store.hosts.rename(quiet1.id, 'loud-1', by());
  await store.hosts.setGroup(quiet1.id, 'prod/web', by());
  server.time.now += 1000;
  await store.hosts.setGroup(quiet1.id, 'prod/db/loud', by());
  return { web1, web2, db1, old1, quiet1 };
}

async function waive(server: TestServer, host: TestHost): Promise<void> {
  const deps = deciding(server);
  const waiver = await requestWaiver(
    {
      kind: 'accepted_risk',
      title: 'odd on web',
      justification: 'it is ours until the next image',
      compensating: null,
      ticket: 'T-1',
      selector: { subject: { exact: ODD }, content: 'any', hosts: { ids: [host.id] } },
      ceiling: 'critical',
      startsAt: null,
      expiresAt: server.time.now + 6 * DAY,
    },
    ALICE,
    deps,
  );
  await decideWaiver(waiver.id, waiver.revision, { kind: 'approve', note: 'yes' }, BOB, deps);
  await server.settle();
}

/** In this thread: starting one costs more than the bundle. The way that servers go is taken once, by the command. */
export const makeHere: Make = async ({ storeUrl, order }, tell) => {
  const store = await openStore(storeUrl);
  try {
    const { signer } = await serverKeys(store, () => new Uint8Array(32));
    const made = await makeBundle(order, {
      store,
      signer,
      tell: (progress, hosts) => tell({ kind: 'progress', progress, hosts }),
    });
    return { kind: 'made', made };
  } finally {
    await store.close();
  }
};

/** Waits until an export is over, whichever way. */
export async function over(server: TestServer, id: string): Promise<EvidenceExport> {
  for (;;) {
    const found = await server.server.store.evidence.exports.get(id);
    if (found === undefined) throw new Error(`${id} is gone`);
    if (found.state === 'done' || found.state === 'failed') return found;
    await sleep(10);
  }
}

/** A bundle on disk, as the verifier reads it. */
export function fileSource(path: string): ZipSource & { close(): void } {
  const file = openSync(path, 'r');
  return {
    size: fstatSync(file).size,
    read(at, length) {
      const bytes = new Uint8Array(length);
      readSync(file, bytes, 0, length, at);
      return Promise.resolve(bytes);
    },
    close: () => closeSync(file),
  };
}
