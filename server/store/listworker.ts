/** A thread that reads lists out of SQLite: one statement at a time, each in a read of its own that sees what was committed before. */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';
import type { Listed, ToList } from './listthreads.ts';
import { openReader, statements } from './sqlitereader.ts';

assert.ok(parentPort !== null, 'this file runs as a worker thread');
const port = parentPort;
const prepare = statements(openReader(String(workerData)));

port.on('message', (asked: ToList | null) => {
  // It is over: nothing else keeps this thread.
  if (asked === null) return port.close();
  const { text, parameters } = asked;
  // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
  port.postMessage(answer(text, parameters));
});

// It can be asked from now on.
// eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
port.postMessage(null);

function answer(text: string, parameters: readonly unknown[]): Listed {
  try {
    const statement = prepare(text).raw(true);
    const rows = statement.all(...parameters) as unknown[][];
    return { columns: statement.columns().map(({ name }) => name), rows };
  } catch (error) {
    // A fault of the database keeps its code on the other side; every other one is ours.
    const code = error instanceof Database.SqliteError ? error.code : null;
    return { code, message: error instanceof Error ? error.message : String(error) };
  }
}
