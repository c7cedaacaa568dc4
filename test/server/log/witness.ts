/** A witness and a timestamp authority for tests: the first keeps the rules of C2SP tlog-witness, and can be told to break them. */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { openCheckpoint, readCheckpoint } from '#src/log/checkpoint.ts';
import { parseConsistencyFile } from '#src/log/prooffile.ts';
import { ProofError, verifyConsistency } from '#src/log/proof.ts';
import { nodeSigner, pkcs8OfSeed, verifyInPool } from '#src/signing/node.ts';
import { cosignNote, noteKey, parseVkey, printSignatureLine, printVkey } from '#src/signing/note.ts';

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export type Answer = { readonly status: number; readonly type?: string; readonly body?: string | Uint8Array };

/** Something that answers every POST. */
export async function answering(
  t: Pick<TestContext, 'after'>,
  answer: (body: Buffer, path: string) => Promise<Answer> | Answer,
): Promise<string> {
  const server = createServer((request, response) => {
    void bodyOf(request).then(async (body) => {
      const { status, type = 'text/plain', body: out = '' } = await answer(body, request.url ?? '');
      response.writeHead(status, { 'content-type': type });
      response.end(out);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export class TestWitness {
  readonly signer = nodeSigner(pkcs8OfSeed(new Uint8Array(32).fill(77)));
  readonly name = 'witness.example/w1';
  /** By origin. */
  readonly seen = new Map<string, { readonly size: number; readonly root: Uint8Array }>();
  readonly asked: string[] = [];
  /** Keys of logs that it knows. */
  readonly logs: string[] = [];
  /** Answers instead. */
  instead: (() => Answer) | undefined;
  seconds = 1_800_000_000;

  get vkey(): string {
    return printVkey(noteKey(this.name, 4, this.signer.publicKey));
  }

  readonly answer = async (body: Buffer, path: string): Promise<Answer> => {
    const text = body.toString('utf8');
    this.asked.push(text.split('\n')[0]!);
    if (path !== '/submit/add-checkpoint') return { status: 404 };
    if (this.instead !== undefined) return this.instead();
    const { old, proof, checkpoint } = parseConsistencyFile(text);
    const read = readCheckpoint(checkpoint);
    const key = this.logs.map(parseVkey).find(({ name }) => name === read.origin);
    if (key === undefined) return { status: 404, body: 'unknown log\n' };
    try {
      await openCheckpoint(checkpoint, key, verifyInPool);
    } catch {
      return { status: 403 };
    }
    const before = this.seen.get(read.origin) ?? { size: 0, root: new Uint8Array() };
    if (before.size !== old) return { status: 409, type: 'text/x.tlog.size', body: `${before.size}\n` };
    try {
      if (old > 0) verifyConsistency(before, read, proof);
    } catch (error) {
      if (!(error instanceof ProofError)) throw error;
      return { status: 422, body: 'bad proof\n' };
    }
    this.seen.set(read.origin, read);
    const line = printSignatureLine(await cosignNote(read.note.text, this.name, this.signer, this.seconds));
    return { status: 200, body: `${line}\n` };
  };
}
