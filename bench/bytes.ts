/**
 * What a host costs in bytes a year: hosts that report through months of a clock that is moved, one report in each quarter of a day, as of all `same` in a day
 * the last alone is kept; each repeats the log's checkpoint, and now and then begins to differ from its image or is mended.
 */
import Database from 'better-sqlite3';
import { startServer } from '#server/start.ts';
import { readPolicy } from '#server/prepare.ts';
import { BASE, builderOf, enrol, file, image, SOURCE, T0, type TestHost, type TestServer } from '#test/server/fleet.ts';

const HOUR = 3_600_000;

/** Bytes of the store a host and day: of days on which nothing changed, and of a change there and back with 20 lines. */
export async function benchBytes(path: string, { hosts: count = 20, days = 30 } = {}) {
  const os = image('bytes');
  const time = { now: T0 };
  const server = await startServer({
    storeUrl: `sqlite:${path}`,
    policy: await readPolicy(undefined),
    listen: { host: '127.0.0.1', port: 0 },
    sources: [{ reference: SOURCE }],
    build: builderOf([os]),
    clock: () => time.now,
    log: (level, event, fields) => {
      if (level === 'warn' || level === 'error') console.error(level, event, fields);
    },
    jobsEveryMs: 20,
  });
  const bearer = server.adminToken!;
  const api: TestServer['api'] = async (at, { method = 'GET', body } = {}) => {
    const headers = { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' };
    const response = await server.app.request(at, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
    });
    return { status: response.status, body: await response.json(), headers: response.headers };
  };
  const fleet = {
    server,
    admin: bearer,
    time,
    events: [],
    api,
    settle: () => Promise.resolve(),
  } as unknown as TestServer;
  /** Until everything is in the log, as minutes of a real clock would bring it there. */
  const logged = async (): Promise<void> => {
    while ((await server.store.log.pending()).count > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  /** As it stands with what is not folded in yet. */
  const size = async (): Promise<number> => {
    await logged();
    const db = new Database(path, { readonly: true });
    const of = (name: string) => db.pragma(name, { simple: true }) as number;
    const bytes = of('page_size') * (of('page_count') - of('freelist_count'));
    db.close();
    return bytes;
  };
  try {
    const { token } = (await api('/api/v1/tokens', { method: 'POST', body: { maxUses: null } })).body;
    const hosts: TestHost[] = [];
    for (let n = 0; n < count; n++) hosts.push(await enrol(fleet, os, { token, name: `host-${n}` }));
    for (const host of hosts) await host.sendFull();
    while ((await api('/api/v1/images')).body.items[0]?.state !== 'ready')
      await new Promise((resolve) => setTimeout(resolve, 20));
    let checkpoint: string | null = null;
    const taken = (status: number, what: string): void => {
      if (status !== 200) throw new Error(`${what}: ${status}`);
    };
    for (const host of hosts) {
      host.compareWith(os);
      taken((await host.sendFull()).status, 'full');
    }
    const quiet = async (): Promise<void> => {
      for (let quarter = 0; quarter < 4; quarter++) {
        time.now += 6 * HOUR;
        for (const host of hosts) {
          const posted = await host.sendSame({ checkpoint });
          taken(posted.status, 'same');
          ({ checkpoint } = posted.body);
        }
      }
      await logged();
    };
    await quiet();
    const begun = await size();
    for (let day = 0; day < days; day++) await quiet();
    const still = await size();
    for (const entries of [[...BASE, ...Array.from({ length: 20 }, (_, n) => file(`/etc/added-${n}`, `${n}`))], BASE]) {
      time.now += HOUR;
      for (const host of hosts) {
        host.entries = entries;
        taken((await host.sendFull({ checkpoint })).status, 'changed');
      }
    }
    const changed = await size();
    return { perDay: (still - begun) / hosts.length / days, perChange: (changed - still) / hosts.length };
  } finally {
    await server.close();
  }
}
