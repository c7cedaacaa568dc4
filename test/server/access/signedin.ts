/** For tests of who may what: a person with roles, in a browser that is signed in and with a token of theirs. */
import { randomBytes } from 'node:crypto';
import { newApiToken } from '#server/access/apitoken.ts';
import type { Grant } from '#server/access/principal.ts';
import { hashToken } from '#server/access/token.ts';
import { HOUR, type TestServer } from '#test/server/fleet.ts';
import { Visitor } from './provider.ts';

export async function personAs(
  server: TestServer,
  name: string,
  grants: readonly Grant[],
): Promise<{ readonly id: string; readonly visitor: Visitor; readonly csrf: string; readonly token: string }> {
  const { store } = server.server;
  const now = server.time.now;
  const about = { issuer: 'https://login.example', subject: name, name, email: null, claims: [], ids: [`${name}-1`] };
  const { account } = (await store.access.person(about, now))!;
  for (const [at, { role, groups }] of grants.entries())
    for (const group of groups ?? [null])
      await store.access.bind(
        { id: `rb_${name}_${at}_${group ?? ''}`, holder: { kind: 'account', id: account.id }, role, group },
        { actor: 'admin', at: now },
      );
  const { token, hash } = newApiToken(randomBytes);
  await store.access.createToken(
    { id: `tok_${name}`, hash, name, owner: account.id, grants: [...grants], expiresAt: now + HOUR },
    { actor: 'admin', at: now },
  );
  const visitor = new Visitor();
  const secret = randomBytes(32).toString('base64url');
  await store.access.beginSession(
    {
      accountId: account.id,
      mark: null,
      createdAt: now,
      seenAt: now,
      idleUntil: now + HOUR,
      endsAt: now + HOUR,
      address: '',
      hash: hashToken(secret),
    },
    { actor: account.id, at: now },
    { after: null },
    20,
  );
  visitor.cookies.set('bootproof_session', secret);
  const page = await (await visitor.ask(`${server.server.url}/keys`)).text();
  return { id: account.id, visitor, csrf: /name="csrf" value="([^"]+)"/.exec(page)![1]!, token };
}
