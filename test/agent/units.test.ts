import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';

const units = join(import.meta.dirname, '../../agent/units');
const SERVICES = ['bootproof-agent.service', 'bootproof-enroll.service', 'bootproof-status.service'];
const ALL = [...SERVICES, 'bootproof-agent.timer'];
const read = (name: string) => readFileSync(join(units, name), 'utf8');
/** The settings of a unit, comments left out; a key may stand several times. */
const settings = (name: string) =>
  read(name)
    .split('\n')
    .filter((line) => /^[A-Z]\w*=/.test(line));

const top = mkdtempSync(join(tmpdir(), 'bootproof-units-'));
after(() => rmSync(top, { recursive: true, force: true }));

/** A root with our units, the machine's own targets, and programs that only have to be there. */
function rootWithUnits(t: TestContext): string | undefined {
  const version = spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' });
  if (version.error) {
    t.skip('systemd-analyze is not here (package systemd)');
    return undefined;
  }
  const system = join(top, 'usr/lib/systemd/system');
  for (const folder of [system, join(top, 'usr/lib/bootproof'), join(top, 'usr/bin')])
    mkdirSync(folder, { recursive: true });
  for (const target of globSync('/usr/lib/systemd/system/*.target'))
    copyFileSync(target, join(system, target.split('/').at(-1)!));
  for (const name of ALL) copyFileSync(join(units, name), join(system, name));
  for (const program of ['usr/lib/bootproof/bootproof', 'usr/bin/bootc']) {
    writeFileSync(join(top, program), '#!/bin/sh\n');
    chmodSync(join(top, program), 0o755);
  }
  return top;
}

test('systemd-analyze verify has nothing to say', (t) => {
  const root = rootWithUnits(t);
  if (root === undefined) return;
  const run = spawnSync('systemd-analyze', ['verify', '--man=no', `--root=${root}`, ...ALL], { encoding: 'utf8' });
  const version = Number(
    /^systemd (\d+)/.exec(spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' }).stdout)![1],
  );
  const tooNew = version >= 254 ? /^(?!)/ : /Unknown key (?:name )?'ImportCredential'/;
  const said = (run.stderr + run.stdout).split('\n').filter((line) => line !== '' && !tooNew.test(line));
  assert.deepEqual(said, []);
  assert.equal(run.status, 0);
});

test('systemd-analyze verify would notice: a key that is none', (t) => {
  const root = rootWithUnits(t);
  if (root === undefined) return;
  const file = join(root, 'usr/lib/systemd/system/bootproof-agent.service');
  writeFileSync(file, read('bootproof-agent.service').replace('NoNewPrivileges=', 'NoNewPrivilege='));
  const run = spawnSync('systemd-analyze', ['verify', '--man=no', `--root=${root}`, ...ALL], { encoding: 'utf8' });
  assert.match(run.stderr, /Unknown key/);
});

test('systemd-analyze security gives the agent at most 4.0 of 10', (t) => {
  const root = rootWithUnits(t);
  if (root === undefined) return;
  const run = spawnSync(
    'systemd-analyze',
    ['security', '--offline=true', '--threshold=40', '--no-pager', `--root=${root}`, 'bootproof-agent.service'],
    { encoding: 'utf8' },
  );
  if (/offline/.test(run.stderr)) return t.skip('this systemd-analyze cannot judge units offline');
  assert.equal(run.status, 0, run.stdout);
});

test('the agent has one capability and is not root', () => {
  const lines = settings('bootproof-agent.service');
  for (const line of [
    'User=bootproof',
    'NoNewPrivileges=yes',
    'AmbientCapabilities=CAP_DAC_READ_SEARCH',
    'CapabilityBoundingSet=CAP_DAC_READ_SEARCH',
  ])
    assert.ok(lines.includes(line), line);
});

// systemd.exec(5), "Sandboxing" and "Paths": each of these gives a service a mount namespace of its own.
const NAMESPACED =
  /^(Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Proc|Hostname)|Private(Tmp|Devices|Mounts|Users|IPC)|ProcSubset|(Read(Only|Write)|Inaccessible|Exec|NoExec)Paths|Bind(ReadOnly)?Paths|TemporaryFileSystem|Root(Directory|Image)|Mount(Flags|APIVFS|Images)|(Extension)(Images|Directories)|DynamicUser)=/;
for (const name of SERVICES)
  test(`${name} sees the mounts of the host: no sandbox that makes its own`, () => {
    assert.deepEqual(
      settings(name).filter((line) => NAMESPACED.test(line)),
      [],
    );
  });

test('the timer runs after boot and every quarter of an hour, each host at its own time', () => {
  const lines = settings('bootproof-agent.timer');
  for (const line of ['OnBootSec=5min', 'OnUnitActiveSec=15min', 'FixedRandomDelay=yes', 'WantedBy=timers.target'])
    assert.ok(lines.includes(line), line);
  assert.ok(lines.some((line) => /^RandomizedDelaySec=[1-9]/.test(line)));
});

test('a process with the rights of the service, and no more, looks at the host and reads what root alone may', (t) => {
  if (process.geteuid?.() !== 0) return t.skip('needs root to give rights away');
  const folder = join(top, 'closed');
  mkdirSync(join(folder, 'etc'), { recursive: true });
  writeFileSync(join(folder, 'etc/machine-id'), '1ec1434c7dcd41ef8f9fb35bc21dbda8\n', { mode: 0o600 });
  chmodSync(folder, 0o700);
  const rights = ['--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs'];
  const capability = ['--bounding-set=-all,+dac_read_search', '--inh-caps=-all,+dac_read_search'];
  const look = [process.execPath, join(import.meta.dirname, 'observechild.ts'), folder];
  const run = (...more: string[]) => spawnSync('setpriv', [...rights, ...more, ...look], { encoding: 'utf8' });
  const able = run(...capability, '--ambient-caps=-all,+dac_read_search');
  if (able.error || /setpriv:/.test(able.stderr))
    return t.skip(`setpriv: ${able.error?.message ?? able.stderr.trim()}`);
  assert.match((JSON.parse(able.stdout) as { machineId: string }).machineId, /^[0-9a-f]{32}$/);
  assert.notEqual(run().status, 0, 'without the capability the same process may not');
});

test("bootc's change of status runs the agent too", () => {
  assert.ok(settings('bootproof-agent.service').includes('WantedBy=bootc-status-updated.target'));
});

test('what bootc is asked is what the agent parses, and lies where the agent looks', () => {
  const observe = readFileSync(join(units, '../observe.ts'), 'utf8');
  const lines = settings('bootproof-status.service');
  assert.ok(lines.includes('ExecStart=/usr/bin/bootc status --format=json --format-version=1'));
  assert.match(observe, /'status', '--format=json', '--format-version=1'/);
  const file = lines.find((line) => line.startsWith('StandardOutput='))!.split('truncate:')[1]!;
  assert.ok(observe.includes(`'${file}'`));
  assert.match(read('bootproof.tmpfiles'), new RegExp(`^d ${join(file, '..')} `, 'm'));
});

test('what install.sh puts into an image lies in /usr, enabled there, and SELinux lets systemd start it', () => {
  const image = join(top, 'image');
  const executable = join(top, 'executable');
  writeFileSync(executable, 'of any machine\n');
  const made = spawnSync('sh', [join(units, 'install.sh'), image, executable], { encoding: 'utf8' });
  assert.equal(made.stderr, '');
  assert.equal(made.status, 0);
  assert.deepEqual(readdirSync(image), ['usr'], 'nothing beside /usr');
  const usr = join(image, 'usr');
  for (const name of ALL) assert.equal(readFileSync(join(usr, 'lib/systemd/system', name), 'utf8'), read(name));
  for (const link of [
    'timers.target.wants/bootproof-agent.timer',
    'bootc-status-updated.target.wants/bootproof-agent.service',
  ])
    assert.ok(existsSync(join(usr, 'lib/systemd/system', link)), `${link} leads to its unit`);
  // What lies in /usr/lib is lib_t, in /usr/libexec bin_t.
  assert.equal(
    realpathSync(join(usr, 'lib/bootproof/bootproof')),
    join(realpathSync(usr), 'libexec/bootproof/bootproof'),
  );
  assert.equal(readFileSync(join(usr, 'libexec/bootproof/agent'), 'utf8'), 'of any machine\n');
  for (const program of ['agent', 'bootproof'])
    assert.equal(statSync(join(usr, 'libexec/bootproof', program)).mode & 0o777, 0o755);
  assert.ok(readdirSync(join(usr, 'share/doc/bootproof-agent')).includes('LICENSE.node'));
});

test('install.sh without an executable says how to make one', () => {
  const made = spawnSync('sh', [join(units, 'install.sh'), join(top, 'none'), join(top, 'absent')], {
    encoding: 'utf8',
  });
  assert.equal(made.status, 64);
  assert.match(made.stderr, /npm run build:agent/);
  assert.ok(!existsSync(join(top, 'none')));
});

// That it says which library is missing: test/foreign/agentbuild.test.ts.
test('what starts the agent does so where no library is where it usually lies, but the loader misses none', () => {
  const script = read('bootproof');
  const place = join(top, 'libraries');
  mkdirSync(place, { recursive: true });
  const agent = join(place, 'agent');
  writeFileSync(agent, '#!/bin/sh\necho started "$@"\n', { mode: 0o755 });
  const folders = /for folder in ([^;]+);/.exec(script)![1]!;
  const here = script.replace('/usr/libexec/bootproof/agent', agent).replace(folders, place);
  const run = () => spawnSync('sh', ['-s', '--', 'agent', 'run'], { input: here, encoding: 'utf8' });
  assert.equal(run().stdout, 'started agent run\n');
});

test('the presets name the units that can be enabled', () => {
  const named = [...read('bootproof.preset').matchAll(/^enable (\S+)$/gm)].map((found) => found[1]!);
  assert.deepEqual(
    named.sort(),
    ALL.filter((name) => settings(name).some((line) => line.startsWith('WantedBy='))).sort(),
  );
});

test('systemd-tmpfiles and systemd-sysusers read our files', (t) => {
  const root = join(top, 'users');
  mkdirSync(join(root, 'etc'), { recursive: true });
  const users = spawnSync('systemd-sysusers', [`--root=${root}`, join(units, 'bootproof.sysusers')], {
    encoding: 'utf8',
  });
  if (users.error) return t.skip('systemd-sysusers is not here (package systemd)');
  if (users.status !== 0 && process.geteuid?.() !== 0) return t.skip('systemd-sysusers wants to be root here');
  assert.equal(users.status, 0, users.stderr);
  assert.match(readFileSync(join(root, 'etc/passwd'), 'utf8'), /^bootproof:/m);
  if (process.geteuid?.() !== 0) return;
  const files = spawnSync('systemd-tmpfiles', ['--create', `--root=${root}`, join(units, 'bootproof.tmpfiles')], {
    encoding: 'utf8',
  });
  assert.equal(files.stderr, '');
  assert.equal(files.status, 0);
});
