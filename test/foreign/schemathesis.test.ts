/**
 * Schemathesis asks a running server, with a fleet in it, everything that the OpenAPI document lets it think of: no answer may be a fault
 * of ours, or one that the document does not describe. `SEED` repeats a run.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { test, type TestContext } from 'node:test';
import { BASE, enrol, file, HOUR, image, serverFor, type TestServer } from '../server/fleet.ts';
import { scratch } from './tools.ts';

const PROGRAM = process.env['SCHEMATHESIS'] ?? 'schemathesis';
const EXAMPLES = process.env['EXAMPLES'] ?? '6';
const SEED = process.env['SEED'] ?? '20261125';
/** What it may take where two processors are shared with everything else. */
const SECONDS_MAX = 70;

const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'unsupported_method',
  'allow_header_conformance',
];

/** Something of each kind, so that answers have items in them. */
async function seeded(t: TestContext): Promise<TestServer> {
  const [os, next] = [image('41'), image('42', [...BASE, file('/usr/bin/new', 'new', 0o755)])];
  const server = await serverFor(t, { images: [os, next] });
  const post = async (path: string, body: object): Promise<any> => {
    const answer = await server.api(path, { method: 'POST', body });
    assert.ok(answer.status < 300, `${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const { token } = await post('/api/v1/tokens', { maxUses: null, group: 'web', labels: { site: 'a' } });
  for (const name of ['web-1', 'web-2', 'web-3']) {
    const host = await enrol(server, os, { token, name });
    await host.sendFull();
    await server.settle();
    host.compareWith(os);
    if (name !== 'web-3') host.entries = [...BASE, file('/usr/bin/extra', 'x', 0o755), file('/etc/motd.d', 'mine')];
    await host.sendFull();
    await host.sendSame();
  }
  await server.settle();
  const { items } = (await server.api('/api/v1/groups')).body;
  assert.ok(items.length > 0, 'something was found');
  const [first] = items;
  await post('/api/v1/waivers', {
    kind: 'accepted_risk',
    title: 'Until the next image',
    justification: 'The tool is in the next image.',
    selector: { rules: [first.rule], subject: { exact: first.subject } },
    expiresAt: new Date(server.time.now + 14 * 24 * HOUR).toISOString(),
  });
  await post(`/api/v1/groups/${first.id}/comments`, { text: 'Looking at it.' });
  await post('/api/v1/views', { name: 'Urgent', q: 'sev:>=high', shared: true });
  await server.api('/api/v1/deny', { method: 'PUT', body: { image: next.digest, reason: 'withdrawn' } });
  return server;
}

test('Schemathesis finds no fault and no answer that is not described', { timeout: 600_000 }, async (t) => {
  if (spawnSync(PROGRAM, ['--version']).status !== 0) {
    t.skip('schemathesis (PyPI) is not here: .ci/run installs it');
    return;
  }
  const server = await seeded(t);
  const { url } = server.server;
  const args = [
    `run ${url}/api/v1/openapi.json --checks ${CHECKS.join(',')} --phases examples,coverage,fuzzing`,
    `--max-examples ${EXAMPLES} --seed ${SEED} --max-time ${SECONDS_MAX} --generation-database none`,
    // How many examples its generator throws away is no matter of ours.
    '--request-timeout 30 --continue-on-failure --no-color --suppress-health-check all',
  ];
  const header = ['--header', `Authorization: Bearer ${server.admin}`];
  const ran = await run([...args.join(' ').split(' '), ...header], scratch(t));
  const faults = server.events.filter(({ event }) => event === 'fault');
  assert.deepEqual(faults, [], 'faults in the log');
  assert.equal(ran.status, 0, ran.output);
});

/** The server runs in this very process, so its guest must not be waited for in a blocking way. */
function run(args: readonly string[], cwd: string): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(PROGRAM, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.on('error', reject).on('close', (status) => resolve({ status, output }));
  });
}
