/** The examples of packaging/server hold together without an engine: settings that exist, files that the image has, probes that are answered. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { readSettings } from '#server/config.ts';
import { settingsIn } from '#server/configfile.ts';
import { FLAGS, OPTIONS } from '#server/flags.ts';
import { STOP_WITHIN_MS } from '#src/limits.ts';

const ROOT = join(import.meta.dirname, '../..');
const read = (name: string): string => readFileSync(join(ROOT, 'packaging/server', name), 'utf8');
const FILES = ['Containerfile', 'bootproof.container', 'compose.yaml', 'kubernetes.yaml'] as const;
const MOST_MS = STOP_WITHIN_MS + 25_000;
const USER = 65532;

test('every variable that they set is a setting, and every path below /opt/bootproof is in the image', () => {
  const known: string[] = Object.values({ ...OPTIONS, ...FLAGS }).flatMap((about) =>
    'env' in about ? [about.env] : [],
  );
  const copied = [...read('Containerfile').matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, from]) =>
    from!.split(' '),
  );
  for (const name of FILES) {
    const text = read(name);
    for (const [, variable] of text.matchAll(/\bBOOTPROOF_([A-Z_]+)\b(?!NAME)/g))
      assert.ok(known.includes(variable!), `${name}: ${variable}`);
    for (const [, path] of text.matchAll(/\/opt\/bootproof\/([\w./-]+)/g))
      if (path !== 'node') assert.ok(existsSync(join(ROOT, path!)) && copied.includes(path!.split('/')[0]!), path!);
  }
  for (const path of copied) assert.ok(existsSync(join(ROOT, path)), path);
  // Everything that the command imports comes along.
  const rooms = Object.keys(
    (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { imports: object }).imports,
  );
  for (const room of rooms) if (room !== '#test/*') assert.ok(copied.includes(room.slice(1, -2)), room);
});

test('their files with settings are ones', () => {
  const { data } = ConfigMap.parse(documents().find(({ kind }) => kind === 'ConfigMap'));
  for (const text of [read('server.yaml'), data['server.yaml']]) {
    const { listen, data: folder, stopDelayMs, stopWithinMs } = readSettings([], {}, settingsIn(text, 'server.yaml'));
    assert.deepEqual([listen, folder], [{ host: '0.0.0.0', port: 8340, movable: false }, '/var/lib/bootproof']);
    assert.ok(stopDelayMs + stopWithinMs + 10_000 < 60_000, 'it ends before it is killed');
  }
});

test('the image runs as an ordinary user, begins with ours, and is told to stop as we are', () => {
  const text = read('Containerfile');
  const last = text.slice(text.lastIndexOf('\nFROM '));
  assert.match(last, new RegExp(`^USER ${USER}:${USER}$`, 'm'));
  assert.match(last, /^ENTRYPOINT \["\/opt\/bootproof\/bootproof"\]\nCMD \["server"\]$/m);
  assert.match(last, /^STOPSIGNAL SIGTERM$/m);
  assert.match(last, /^EXPOSE 8340$/m);
});

// ── Kubernetes: the fields that we use, each spelt as the API has it ──

const Labels = z.record(z.string(), z.string());
const Metadata = z.strictObject({ name: z.string().regex(/^[a-z0-9-]{1,63}$/), labels: Labels });
const Security = z.strictObject({
  allowPrivilegeEscalation: z.literal(false),
  readOnlyRootFilesystem: z.literal(true),
  capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }),
});
const Probe = z.strictObject({
  httpGet: z.strictObject({
    path: z.enum(['/livez', '/readyz']),
    port: z.literal('https'),
    scheme: z.literal('HTTPS'),
  }),
  periodSeconds: z.int(),
  timeoutSeconds: z.int().optional(),
  failureThreshold: z.int(),
});
const Container = z.strictObject({
  name: z.string(),
  image: z.string().regex(/:\d+\.\d+\.\d+$/),
  args: z.array(z.string()),
  env: z.array(z.strictObject({ name: z.string(), value: z.string() })).optional(),
  ports: z.array(z.strictObject({ name: z.literal('https'), containerPort: z.literal(8340) })).optional(),
  securityContext: Security,
  resources: z.strictObject({ requests: Labels, limits: z.strictObject({ memory: z.string() }) }),
  startupProbe: Probe.optional(),
  livenessProbe: Probe.optional(),
  readinessProbe: Probe.optional(),
  volumeMounts: z.array(
    z.strictObject({
      name: z.string(),
      mountPath: z.string().startsWith('/'),
      subPath: z.string().optional(),
      readOnly: z.boolean().optional(),
    }),
  ),
});
const Pod = z.strictObject({
  serviceAccountName: z.string(),
  automountServiceAccountToken: z.literal(false),
  restartPolicy: z.literal('OnFailure').optional(),
  terminationGracePeriodSeconds: z.int().optional(),
  securityContext: z.strictObject({
    runAsNonRoot: z.literal(true),
    runAsUser: z.literal(USER),
    runAsGroup: z.literal(USER),
    fsGroup: z.literal(USER),
    seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') }),
  }),
  topologySpreadConstraints: z.array(z.object({ topologyKey: z.string() })).optional(),
  containers: z.array(Container).length(1),
  volumes: z.array(
    z.union([
      z.strictObject({ name: z.string(), configMap: z.strictObject({ name: z.string() }) }),
      z.strictObject({ name: z.string(), secret: z.strictObject({ secretName: z.string() }) }),
      z.strictObject({ name: z.string(), emptyDir: z.strictObject({}) }),
    ]),
  ),
});
const Template = z.strictObject({
  metadata: z.strictObject({ labels: Labels, annotations: Labels.optional() }),
  spec: Pod,
});
const Selector = z.strictObject({ matchLabels: Labels });
const ConfigMap = z.strictObject({
  apiVersion: z.literal('v1'),
  kind: z.literal('ConfigMap'),
  metadata: Metadata,
  data: z.strictObject({ 'server.yaml': z.string() }),
});
const KINDS = {
  ServiceAccount: z.strictObject({
    apiVersion: z.literal('v1'),
    kind: z.literal('ServiceAccount'),
    metadata: Metadata,
    automountServiceAccountToken: z.literal(false),
  }),
  ConfigMap,
  Job: z.strictObject({
    apiVersion: z.literal('batch/v1'),
    kind: z.literal('Job'),
    metadata: Metadata,
    spec: z.strictObject({
      backoffLimit: z.int(),
      activeDeadlineSeconds: z.int(),
      ttlSecondsAfterFinished: z.int(),
      template: Template,
    }),
  }),
  Deployment: z.strictObject({
    apiVersion: z.literal('apps/v1'),
    kind: z.literal('Deployment'),
    metadata: Metadata,
    spec: z.strictObject({
      replicas: z.int().min(2),
      selector: Selector,
      strategy: z.strictObject({
        type: z.literal('RollingUpdate'),
        rollingUpdate: z.strictObject({ maxUnavailable: z.literal(0), maxSurge: z.int() }),
      }),
      template: Template,
    }),
  }),
  Service: z.strictObject({
    apiVersion: z.literal('v1'),
    kind: z.literal('Service'),
    metadata: Metadata,
    spec: z.strictObject({
      selector: Labels,
      ports: z.array(z.strictObject({ name: z.string(), port: z.int(), targetPort: z.literal('https') })),
    }),
  }),
  PodDisruptionBudget: z.strictObject({
    apiVersion: z.literal('policy/v1'),
    kind: z.literal('PodDisruptionBudget'),
    metadata: Metadata,
    spec: z.strictObject({ minAvailable: z.int().min(1), selector: Selector }),
  }),
} as const;

function documents(): { readonly kind: string }[] {
  return [...parseAllDocuments(read('kubernetes.yaml'))].map((document) => {
    assert.deepEqual([...document.errors, ...document.warnings], []);
    return document.toJS() as { kind: string };
  });
}

test('the Kubernetes example is of objects that fit each other', () => {
  const all = new Map(documents().map((each) => [each.kind, each]));
  assert.deepEqual([...all.keys()].sort(), Object.keys(KINDS).sort());
  const of = <Kind extends keyof typeof KINDS>(kind: Kind) =>
    KINDS[kind].parse(all.get(kind)) as z.infer<(typeof KINDS)[Kind]>;
  const [job, deployment] = [of('Job'), of('Deployment')];
  const { template, selector, replicas } = deployment.spec;
  assert.deepEqual(template.metadata.labels, selector.matchLabels);
  assert.deepEqual(of('Service').spec.selector, selector.matchLabels);
  const budget = of('PodDisruptionBudget').spec;
  assert.deepEqual(budget.selector, selector);
  assert.ok(budget.minAvailable < replicas, 'a node can be emptied');
  const [server] = template.spec.containers;
  const [migrate] = job.spec.template.spec.containers;
  assert.equal(server!.image, migrate!.image, 'who migrates is the build that waits for it');
  assert.deepEqual([server!.args, migrate!.args], [['server'], ['server', 'migrate']]);
  assert.deepEqual(server!.env, [{ name: 'BOOTPROOF_NO_MIGRATE', value: 'true' }]);
  assert.equal(server!.livenessProbe!.httpGet.path, '/livez');
  assert.equal(server!.readinessProbe!.httpGet.path, '/readyz');
  assert.ok(template.spec.terminationGracePeriodSeconds! * 1000 > MOST_MS);
  const { 'server.yaml': settings } = of('ConfigMap').data;
  for (const [{ volumes }, container] of [
    [job.spec.template.spec, migrate!],
    [template.spec, server!],
  ] as const) {
    const mounts = new Map(container.volumeMounts.map((mount) => [mount.name, mount.mountPath]));
    assert.deepEqual([...mounts.keys()].sort(), volumes.map(({ name }) => name).sort());
    assert.ok(settings.includes(`database-url-file: ${mounts.get('database')}/`));
    if (mounts.has('tls')) assert.ok(settings.includes(`tls-cert: ${mounts.get('tls')}/tls.crt`));
  }
});

test('the compose example migrates first, and nothing in it writes to its root', () => {
  const Service = z.strictObject({
    image: z.string(),
    command: z.array(z.string()).optional(),
    environment: Labels,
    secrets: z.array(z.string()),
    ports: z.array(z.string()).optional(),
    read_only: z.literal(true),
    tmpfs: z.array(z.string()),
    cap_drop: z.tuple([z.literal('ALL')]),
    security_opt: z.tuple([z.literal('no-new-privileges:true')]),
    restart: z.string(),
    stop_grace_period: z.string().optional(),
    deploy: z.strictObject({ replicas: z.int() }).optional(),
    depends_on: z.record(z.string(), z.strictObject({ condition: z.string() })),
  });
  const { services, secrets } = z
    .object({
      services: z.strictObject({
        database: z.object({ secrets: z.array(z.string()) }),
        migrate: Service,
        server: Service,
      }),
      secrets: z.record(z.string(), z.strictObject({ file: z.string() })),
    })
    .parse(parse(read('compose.yaml')));
  const { migrate, server } = services;
  assert.deepEqual(migrate.command, ['server', 'migrate']);
  assert.equal(server.depends_on['migrate']!.condition, 'service_completed_successfully');
  assert.equal(server.environment['BOOTPROOF_NO_MIGRATE'], 'true');
  assert.ok(server.tmpfs.some((path) => path.startsWith('/var/lib/bootproof:')));
  const used = Object.values(services).flatMap((each) => each.secrets);
  assert.deepEqual([...new Set(used)].sort(), Object.keys(secrets).sort());
  for (const { environment } of [migrate, server]) readSettings([], { ...environment });
});

test('the quadlet keeps its root read-only, waits for the end, and asks what is answered', () => {
  const sections = new Map<string, Map<string, string[]>>();
  let section = new Map<string, string[]>();
  for (const line of read('bootproof.container').split('\n')) {
    const head = /^\[(\w+)\]$/.exec(line)?.[1];
    if (head !== undefined) sections.set(head, (section = new Map()));
    else if (line !== '' && !line.startsWith('#')) {
      const [, key, value] = /^(\w+)=(.+)$/.exec(line) ?? assert.fail(line);
      section.set(key!, [...(section.get(key!) ?? []), value!]);
    }
  }
  assert.deepEqual([...sections.keys()], ['Unit', 'Container', 'Service', 'Install']);
  const container = sections.get('Container')!;
  assert.deepEqual(
    ['ReadOnly', 'User', 'DropCapability', 'NoNewPrivileges'].map((key) => container.get(key)?.[0]),
    ['true', String(USER), 'all', 'true'],
  );
  const health = JSON.parse(container.get('HealthCmd')![0]!) as string[];
  assert.match(health.at(-1)!, /^https:\/\/127\.0\.0\.1:8340\/livez$/);
  assert.ok(Number(sections.get('Service')!.get('TimeoutStopSec')![0]) * 1000 > MOST_MS);
});
