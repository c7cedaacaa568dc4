/** A fleet that has lived for a week: rollouts, drift of several kinds, decisions, hosts that fell silent. For pictures and for looking at. */
import type { TestContext } from 'node:test';
import type { Entry } from '../../../src/manifest/entry.ts';
import type { Digest } from '../../../src/digest.ts';
import { acknowledge } from '../../../server/decisions/findings.ts';
import { decideWaiver, requestWaiver } from '../../../server/decisions/waivers.ts';
import { deciding, person } from '../../server/decisions/people.ts';
import {
  builderOf,
  dir,
  enrol,
  file,
  HOUR,
  image,
  serverFor,
  type TestHost,
  type TestImage,
  type TestServer,
} from '../../server/fleet.ts';

export type Lived = {
  readonly server: TestServer;
  /** A change on many hosts. */
  readonly group: string;
  readonly waiver: string;
  /** One with several findings, and one that has another image staged. */
  readonly host: string;
  readonly other: string;
  /** One whose report waited on it, and a moment at which nobody knew yet what that told. */
  readonly apart: string;
  readonly moment: string;
  readonly image: Digest;
  readonly next: Digest;
};

const BINARIES =
  'bash bootc chronyc curl dnf getent gzip ip journalctl less login mount passwd podman ps python3 rpm-ostree ssh sudo tar tmux vi'.split(
    ' ',
  );
const LIBRARIES =
  'libc.so.6 libcrypto.so.3 libcurl.so.4 libpam.so.0 libselinux.so.1 libssl.so.3 libsystemd.so.0 libz.so.1'.split(' ');

/** An image as its version has it: what is named in `changed` has content of its own. */
function release(version: string, changed: readonly string[]): TestImage {
  const of = (path: string, mode = 0o644): Entry =>
    file(path, changed.includes(path) ? `${path} ${version}` : path, mode);
  const entries: Entry[] = [
    dir('/etc'),
    of('/etc/hostname'),
    of('/etc/motd'),
    of('/etc/chrony.conf'),
    dir('/etc/pam.d'),
    of('/etc/pam.d/sshd'),
    of('/etc/shadow', 0),
    dir('/etc/ssh'),
    of('/etc/ssh/sshd_config', 0o600),
    dir('/etc/ssh/sshd_config.d'),
    dir('/etc/sudoers.d'),
    dir('/etc/systemd'),
    dir('/etc/systemd/system'),
    dir('/usr'),
    dir('/usr/bin'),
    ...BINARIES.map((name) => of(`/usr/bin/${name}`, name === 'sudo' || name === 'passwd' ? 0o4755 : 0o755)),
    dir('/usr/lib'),
    dir('/usr/lib/systemd'),
    of('/usr/lib/systemd/systemd', 0o755),
    of('/usr/lib/os-release'),
    dir('/usr/lib64'),
    ...LIBRARIES.map((name) => of(`/usr/lib64/${name}`, 0o755)),
    dir('/usr/sbin'),
    of('/usr/sbin/chronyd', 0o755),
    of('/usr/sbin/sshd', 0o755),
  ];
  return image(
    version,
    entries.sort((a, b) => (a.path < b.path ? -1 : 1)),
  );
}

const RELEASES = [
  ['41.20261104.0', ['/usr/lib/os-release']],
  ['41.20261111.0', ['/usr/lib/os-release', '/usr/lib64/libssl.so.3', '/usr/lib64/libcrypto.so.3']],
  [
    '41.20261118.0',
    [
      '/usr/lib/os-release',
      '/usr/lib64/libssl.so.3',
      '/usr/lib64/libcrypto.so.3',
      '/usr/bin/podman',
      '/usr/bin/bootc',
      '/etc/chrony.conf',
    ],
  ],
] as const;

/** Host groups, where they stand, and how many hosts each has. */
const PLACES = [
  ['prod/web', 'web-ams', 24],
  ['prod/web', 'web-fra', 18],
  ['prod/db', 'db-ams', 8],
  ['prod/edge', 'edge-lis', 12],
  ['lab', 'lab', 6],
] as const;

const ANNA = person('anna', { name: 'Anna' });
const JONAS = person('jonas', { name: 'Jonas' });

type Host = { readonly name: string; readonly host: TestHost; at: number };

/** What a host shows beside its image: added, or in another's place. */
function show(one: Host, images: readonly TestImage[], ...own: readonly Entry[]): void {
  const paths = new Set(own.map(({ path }) => path));
  const base = images[one.at]!.rules.get('ostree/1')!;
  one.host.entries = [...base.filter(({ path }) => !paths.has(path)), ...own].sort((a, b) =>
    a.path < b.path ? -1 : 1,
  );
}

/** The server with its clock at the end of the span that the fleet has lived. */
export async function livedIn(t: TestContext, span: number): Promise<Lived> {
  const images = RELEASES.map(([version, changed]) => release(version, changed));
  const versions = new Map(images.map(({ digest }, at) => [digest, RELEASES[at]![0]]));
  const plain = builderOf(images);
  const end = Date.UTC(2026, 10, 24, 14, 12);
  const server = await serverFor(t, {
    images,
    // What happened before the log began cannot be shown.
    now: end - span,
    build: async (...asked) => {
      const built = await plain(...asked);
      return built.kind === 'built' ? { ...built, version: versions.get(built.digest) ?? null } : built;
    },
  });
  const { time } = server;
  const all: Host[] = [];
  for (const [group, prefix, n] of PLACES) {
    const { body } = await server.api('/api/v1/tokens', {
      method: 'POST',
      body: { group, labels: { site: prefix.split('-')[1] ?? 'office' }, maxUses: n + 1 },
    });
    for (let i = 1; i <= n; i++) {
      const name = `${prefix}-${String(i).padStart(2, '0')}`;
      all.push({ name, host: await enrol(server, images[0]!, { name, token: body.token }), at: 0 });
      time.now += 20_000;
    }
  }
  for (const { host } of all) await host.sendFull();
  await server.settle();
  const of = (prefix: string, ...numbers: readonly number[]): Host[] =>
    numbers.map((n) => all.find(({ name }) => name === `${prefix}-${String(n).padStart(2, '0')}`)!);
  const own = new Map<Host, Entry[]>();
  /** It runs what no source has; and two hosts that nothing is heard of since. */
  let desk: Host | undefined;
  const silent = new Set(of('edge-lis', 11, 12));
  const report = async (some: readonly Host[]): Promise<void> => {
    for (const one of some) {
      one.host.booted = one === desk ? image('built on a desk').digest : images[one.at]!.digest;
      one.host.compareWith(images[one.at]!);
      show(one, images, ...(own.get(one) ?? []));
      // A challenge is two intervals old at most: what it was given days ago is answered with a fresh one.
      if (one.host.full !== null) await one.host.sendSame();
      const { status, body } = await one.host.sendFull();
      if (status !== 200) throw new Error(`${one.name}: ${JSON.stringify(body)}`);
      time.now += 5_000;
    }
    await server.settle();
  };
  const add = (some: readonly Host[], ...entries: readonly Entry[]): void => {
    for (const one of some) own.set(one, [...(own.get(one) ?? []), ...entries]);
  };
  const until = (days: number): void => {
    time.now = Math.max(time.now, end - span + days * 24 * HOUR);
  };

  until(1);
  add(
    of('db-ams', 1, 2, 3, 4, 5, 6, 7, 8),
    file('/etc/sudoers.d/backup', 'backup ALL=(root) NOPASSWD: /usr/bin/tar', 0o440),
  );
  await report(all);
  const deps = deciding(server);
  const at = async (path: string): Promise<string> =>
    (await server.api(`/api/v1/groups?status=all&subject=${encodeURIComponent(path)}`)).body.items[0].id;
  const draft = (path: string, title: string, justification: string, days: number) =>
    ({
      kind: 'mitigated',
      title,
      justification,
      compensating: 'The account logs in with a key that only the backup host has.',
      ticket: 'https://tickets.example.org/OPS-412',
      selector: { subject: { exact: path }, content: 'pinned' },
      ceiling: null,
      startsAt: null,
      expiresAt: time.now + days * 24 * HOUR,
    }) as const;
  const first = await requestWaiver(
    draft(
      '/etc/sudoers.d/backup',
      'Backup account may read everything',
      'The nightly backup needs it until it runs as a service of its own.',
      14,
    ),
    ANNA,
    deps,
  );
  time.now += HOUR;
  await decideWaiver(first.id, first.revision, { kind: 'approve', note: 'Until the new backup is out.' }, JONAS, deps);

  until(3);
  for (const one of all) if (!/^(?:lab|edge)/.test(one.name)) one.at = 1;
  add(
    of('web-fra', 3, 4),
    file('/etc/systemd/system/miner.service', '[Service]\nExecStart=/usr/bin/python3 -m http.server'),
  );
  await report(all);
  until(4);
  own.delete(of('web-fra', 3)[0]!);
  own.delete(of('web-fra', 4)[0]!);
  add(
    of('edge-lis', 1, 2, 3, 4, 5),
    file('/etc/ssh/sshd_config.d/50-legacy.conf', 'PubkeyAcceptedAlgorithms +ssh-rsa', 0o600),
  );
  await report(all);
  await acknowledge(
    { groupId: await at('/etc/ssh/sshd_config.d/50-legacy.conf') },
    { until: null, note: 'The gateway at the quay speaks nothing else; replaced this week.' },
    JONAS,
    deps,
  );

  // Off the network for half a day: what it saw meanwhile comes when it is back.
  until(5.6);
  const [apart] = of('edge-lis', 9) as [Host];
  show(apart, images, file('/etc/sudoers.d/field', 'field ALL=(ALL) NOPASSWD: ALL', 0o440));
  const waiting = apart.host.fullReport();
  apart.host.full = { digest: (await apart.host.seal(waiting)).digest, report: waiting };
  until(5.9);
  const moment = new Date(time.now).toISOString().slice(0, 19);
  until(6.2);
  const late = await apart.host.send(waiting);
  if (late.status !== 200) throw new Error(`${apart.name}: ${JSON.stringify(late.body)}`);
  for (const one of of('web-ams', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)) one.at = 2;
  for (const one of of('web-ams', 13, 14, 15))
    one.host.state = {
      staged: {
        ...one.host.deployment().booted!,
        image: { ...one.host.deployment().booted!.image!, digest: images[2]!.digest },
      },
    };
  await report(all.filter((one) => !silent.has(one)));
  until(6.6);
  add(of('web-ams', 2, 3, 5, 8, 9, 11, 14, 16, 17, 20, 22, 23), file('/usr/sbin/sshd', 'another sshd', 0o755));
  add(
    of('web-ams', 9),
    file('/usr/bin/.cache', 'shell', 0o4755),
    file('/etc/sudoers.d/deploy', 'deploy ALL=(ALL) NOPASSWD: ALL', 0o440),
  );
  add(of('web-fra', 7, 9), file('/etc/sudoers.d/deploy', 'deploy ALL=(ALL) NOPASSWD: ALL', 0o440));
  add(of('lab', 2), file('/usr/bin/strace', 'strace', 0o755));
  of('web-fra', 12)[0]!.host.state = { kargs: ['root=UUID=1', 'selinux=0'] };
  [desk] = of('lab', 5);
  await report(all.filter((one) => !silent.has(one)));
  const asked = await requestWaiver(
    draft('/etc/sudoers.d/deploy', 'Deploy account during the move', 'The new pipeline is not in the image yet.', 10),
    ANNA,
    deps,
  );
  until(span / (24 * HOUR));
  time.now = end;
  for (const one of all)
    if (!silent.has(one)) {
      await one.host.sendSame();
      await one.host.sendSame();
    }
  await enrol(server, null, { name: 'web-fra-19' });
  await server.settle();
  time.now += 4 * 60_000;
  do await server.server.evidence.turn();
  while ((await server.server.store.log.pending()).count > 0);
  return {
    server,
    group: await at('/usr/sbin/sshd'),
    waiver: asked.id,
    host: of('web-ams', 9)[0]!.host.id,
    other: of('web-ams', 14)[0]!.host.id,
    apart: apart.host.id,
    moment,
    image: images[1]!.digest,
    next: images[2]!.digest,
  };
}
