/** A process that seals and posts as the agent does, on a real disk, until it is killed: `agentloop.ts FOLDER URL`. */
import { writeSync } from 'node:fs';
import { verifyInPool } from '#src/signing/node.ts';
import { nodeDisk } from '#agent/disk.ts';
import { Outbox } from '#agent/outbox.ts';
import { postReport, Server } from '#agent/post.ts';
import { HOST, reportAt, signer } from '#test/agent/fixture.ts';

const [folder, url] = process.argv.slice(2);
const server = new Server({ url: url! });
const deps = {
  disk: nodeDisk,
  clock: Date.now,
  random: Math.random,
  sleep: () => Promise.resolve(),
  verify: verifyInPool,
  say: () => Promise.resolve(),
};
const outbox = await Outbox.open(deps, { folder: folder!, host: HOST, signer });
writeSync(1, 'ready\n');
for (;;) {
  const { seq, lastFull: previous, answer, dropped } = outbox.chain;
  await outbox.makeRoom(10_000);
  const place = { host: HOST, seq: seq + 1, previous, challenge: answer?.challenge ?? null, dropped };
  await outbox.put(reportAt(place, seq, Date.now()));
  await outbox.flush((envelope) => postReport(server, envelope, Date.now));
}
