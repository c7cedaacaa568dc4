/** The server under load for bench/intake.ts, in a process of its own: SQLite or PostgreSQL, one synthetic image of 60,000 paths. */
import { policySource } from '#server/prepare.ts';
import { startServer } from '#server/start.ts';
import { builderOf, image, SOURCE } from '#test/server/fleet.ts';
import { treeOfPaths } from './intaketree.ts';

/** Made when it is asked for, so that a start does not wait for it. */
let build: ReturnType<typeof builderOf> | undefined;
const server = await startServer({
  storeUrl: process.argv[2]!,
  policy: await policySource(undefined),
  listen: { host: '127.0.0.1', port: 0 },
  sources: [{ reference: SOURCE }],
  build: (...asked) => (build ??= builderOf([image('bench', treeOfPaths())]))(...asked),
  log: (level, event, fields) => {
    if (level === 'warn' || level === 'error') console.error(level, event, fields);
  },
});
console.log(JSON.stringify({ port: server.port, admin: server.adminToken }));
process.once('SIGTERM', () => {
  const { user, system } = process.cpuUsage();
  console.error(
    `server: ${((user + system) / 1e6).toFixed(1)} s of CPU, ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB`,
  );
  void server.close();
});
