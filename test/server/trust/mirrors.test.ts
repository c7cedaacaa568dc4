/** Images and signatures that lie elsewhere than their names say: a mirrors map, and a repository for signatures, with real registries. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serveRegistry } from '#demo/registry.ts';
import { keyPolicy, signatureImage, signatureOf, signInto } from '#demo/sign.ts';
import { push } from '#demo/pack.ts';
import { parseReference } from '#src/image/reference.ts';
import { UsageError } from '#src/terminal.ts';
import { mirrorOf, parseMirrors, parseSignatureRepositories } from '#server/mirrors.ts';
import { assessHere } from '#server/trust/assesshere.ts';
import { trustSetup } from '#server/trust/setup.ts';
import { throwsCode } from '#test/throws.ts';
import { enrol, folder, image, serverFor } from '../fleet.ts';
import { KEY } from './site.ts';

const NAME = 'quay.invalid/acme/os';
const SOURCE = `docker://${NAME}`;
const any = () => true;

const policy = trustSetup({
  policies: [{ file: 'os.yaml', text: keyPolicy('os', `${NAME}@*`, [KEY]) }],
  roots: [],
});

test('behind a mirror an image is looked for there and told by its own name', async (t) => {
  const registry = await serveRegistry(folder(t), 0);
  t.after(() => registry.close());
  const os = image('a', undefined, { source: SOURCE });
  // Signed as what it is called, and copied to the mirror with its signature.
  const signed = signatureImage(os.digest, [signatureOf(os.digest, NAME, KEY)]);
  await push(signed.image, registry.host, 'mirrored/acme/os', signed.tag);
  const mirrors = parseMirrors([`quay.invalid=${registry.host}/mirrored`], any);
  const server = await serverFor(t, {
    images: [os],
    trust: policy,
    assess: assessHere,
    sources: [{ reference: SOURCE }],
    registry: { mirrors },
  });
  const host = await enrol(server, os);
  host.reference = `${NAME}:latest`;
  host.compareWith(os);
  await host.sendFull();
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'trusted');
  const { policies, looked } = (await server.api(`/api/v1/images/${os.digest}/trust`)).body;
  assert.match(policies[0].authorities[0].proofs[0].where, /^docker:\/\/quay\.invalid\/acme\/os: tag sha256-/);
  for (const { where } of looked) assert.ok(where.startsWith(`${SOURCE}: `), where);
});

test('a repository for signatures is asked besides, for the images that it is for', async (t) => {
  const registry = await serveRegistry(folder(t), 0);
  t.after(() => registry.close());
  const name = `${registry.host}/acme/os`;
  const source = `docker://${name}`;
  const setup = trustSetup({ policies: [{ file: 'a', text: keyPolicy('os', `${name}@*`, [KEY]) }], roots: [] });
  for (const [of, state] of [
    ['', 'trusted'],
    [`${registry.host}/acme=`, 'trusted'],
    [`${registry.host}/acm=`, 'unsigned'],
  ] as const) {
    const os = image(`with ${of}`, undefined, { source });
    await signInto(registry.host, { name: 'acme/os', digest: os.digest, key: KEY, under: 'signatures' });
    const server = await serverFor(t, {
      images: [os],
      trust: setup,
      assess: assessHere,
      sources: [{ reference: source, plainHttp: true }],
      registry: { signatureRepositories: parseSignatureRepositories([`${of}${registry.host}/signatures`], any) },
    });
    const host = await enrol(server, os);
    host.reference = `${name}:latest`;
    host.compareWith(os);
    await host.sendFull();
    await server.settle();
    assert.equal((await host.told()).provenance.state, state, of);
    if (state === 'trusted')
      assert.equal((await server.api(`/api/v1/images/${os.digest}/trust`)).body.hostPolicy.code, 'OTHER_PLACE');
  }
});

test('the longest place stands for a repository, by whole parts of its path', () => {
  const mirrors = parseMirrors(
    ['quay.io=m:5000', 'quay.io/acme=m2.b/x', 'ghcr.io/a/b=m3.b/c'],
    (host) => host === 'm2.b',
  );
  const of = (name: string) => {
    const reference = parseReference(`docker://${name}`);
    assert.ok(reference.transport === 'docker');
    const found = mirrorOf(reference, mirrors);
    return found && [`${found.reference.registry}/${found.reference.repository}`, found.plainHttp];
  };
  assert.deepEqual(of('quay.io/acme/os:1'), ['m2.b/x/os', true]);
  assert.deepEqual(of('quay.io/acmeother/os'), ['m:5000/acmeother/os', false]);
  assert.deepEqual(of('ghcr.io/a/b'), ['m3.b/c', false]);
  assert.equal(of('ghcr.io/a/bc'), undefined);
});

for (const text of [
  'quay.io',
  'quay.io=',
  'a=b=c',
  'quay.io/a=m.n',
  'quay.io=m',
  'quay.io/A=m.n/x',
  'quay.io:1:2=m.n',
  'quay.io/x:1=m.n/x',
])
  test(`no mirror: ${text}`, () => throwsCode(() => parseMirrors([text], any), UsageError, 'USAGE'));
for (const text of ['', 'quay.io', 'quay.io/x:1', 'a=b=c/d', '=', 'quay.io/x@sha256:1'])
  test(`no repository for signatures: ${text}`, () =>
    throwsCode(() => parseSignatureRepositories([text], any), UsageError, 'USAGE'));
test('a place that is mirrored twice is a mistake', () =>
  throwsCode(() => parseMirrors(['a.b=c.d', 'a.b=d.e'], any), UsageError, 'USAGE'));
