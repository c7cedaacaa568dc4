/** A server that enrols in memory. */
import assert from 'node:assert/strict';
import type { Signer } from '#src/signing/ed25519.ts';
import { verifyInPool } from '#src/signing/node.ts';
import {
  checkEnrolToken,
  EnrolBody,
  EnrolError,
  makeNonce,
  NonceRequest,
  openEnrolRequest,
  sealEnrolment,
  type Enrolment,
} from '#src/wire/enrol.ts';
import { problem } from '#src/wire/problem.ts';
import { enrol as vector, keys, serverSigner, T0, ticketKeys } from '../src/report/vectors.ts';
import { json, type Reply, type Seen } from './httpserver.ts';

/** The server's side, with every check of docs/report.md 6.4; hosts are known by their keys. */
export class EnrolServer {
  readonly hosts = new Map<string, string>();
  signer: Signer = serverSigner;
  change: Partial<Enrolment> = {};

  readonly handle = async ({ path, body }: Seen): Promise<Reply> => {
    const document: unknown = JSON.parse(body.toString());
    if (path === '/api/v1/enrol/nonce')
      return json({ nonce: makeNonce(NonceRequest.parse(document).tokenId, T0, ticketKeys) });
    assert.equal(path, '/api/v1/enrol');
    const sent = EnrolBody.parse(document);
    const opened = await openEnrolRequest(sent, verifyInPool);
    try {
      await checkEnrolToken(
        opened,
        sent.tokenSignature,
        { tokenKey: keys.token.publicKey, now: T0, keys: ticketKeys },
        verifyInPool,
      );
    } catch (error) {
      assert.ok(error instanceof EnrolError);
      assert.ok(error.code === 'ENROL_TOKEN' || error.code === 'ENROL_NONCE');
      return json(problem(error.code, error.message), 403);
    }
    const host =
      this.hosts.get(opened.publicKey) ??
      `h_${'abcdefghijklmnopqrstuvwxyz'.slice(this.hosts.size)}${'a'.repeat(this.hosts.size)}`;
    this.hosts.set(opened.publicKey, host);
    const { publicKey, nonce } = opened.request;
    return json(await sealEnrolment({ ...vector.enrolment, host, publicKey, nonce, ...this.change }, this.signer));
  };
}
