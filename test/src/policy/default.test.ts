/** The policy that ships, held to what it must and must not find. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { deploymentState } from '#src/deployment/assemble.ts';
import { parseBootcStatus } from '#src/deployment/bootc.ts';
import { parseMountinfo } from '#src/deployment/mountinfo.ts';
import { viewMounts } from '#src/deployment/overlay.ts';
import { parseRpmOstreeStatus } from '#src/deployment/rpmostree.ts';
import { driftFromJson, DriftJson, type Drift, type Secret } from '#src/drift/drift.ts';
import { isSecret } from '#src/drift/redact.ts';
import type { Facts } from '#src/manifest/entry.ts';
import { parsePolicy, type Policy } from '#src/policy/document.ts';
import { evaluate, type Evidence } from '#src/policy/evaluate.ts';
import { fileRuleFor, pathChanges } from '#src/policy/files.ts';
import { accountRuleFor } from '#src/policy/accounts.ts';
import { NO_HOST } from '#src/policy/host.ts';
import type { AccountChange, ProvenanceFault, Stale } from '#src/policy/judgement.ts';
import type { Account, Accounts } from '#src/report/report.ts';
import { sections, vector } from '../deployment/vectors.ts';
import {
  added,
  DEFAULT,
  DEFAULT_TEXT,
  DEPLOYMENT,
  file,
  folder,
  hidden,
  IMAGE,
  INTACT,
  modified,
  overlay,
  program,
  removed,
  replaced,
  sha,
  symlink,
} from './evidence.ts';
import { UNTOLD } from '#test/src/deployment/vectors.ts';
import { deep } from '#test/depth.ts';

type Part = { drift: DriftJson[]; secrets: Secret[]; accounts?: Accounts; findings: [rule: string, path: string][] };
const vectors = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../vectors/policy/fresh-host.json'), 'utf8'),
) as Record<'fresh' | 'provisioned' | 'later', Part>;

function evidenceOf(part: Part): Evidence {
  const drift = part.drift.map((line) => driftFromJson(DriftJson.parse(line))!);
  assert.ok(drift.every(Boolean), 'a line contradicts itself');
  return { ...INTACT, drift, secrets: part.secrets };
}

test('a fresh Fedora or CentOS bootc host has one unexplained finding: its accounts', () => {
  const part = vectors.fresh;
  const { judgements, facts } = evaluate(evidenceOf(part), DEFAULT);
  assert.deepEqual(
    judgements.map(({ rule, subject }) => [rule, subject]),
    part.findings,
  );
  assert.equal(part.findings.length, 1);
  const changes = pathChanges(evidenceOf(part).drift, part.secrets);
  assert.equal(facts.local.etc, changes.length - 1);
  assert.deepEqual([facts.allowed, facts.local.usr], [{ usr: 0, etc: 0 }, 0]);
});

test('where the host tells its accounts, the one unexplained finding names the account', () => {
  const part = vectors.fresh;
  const { judgements, facts } = evaluate({ ...evidenceOf(part), accounts: part.accounts! }, DEFAULT);
  assert.deepEqual(
    judgements.map(({ rule, subject, signature }) => [rule, subject, signature]),
    [['account-new-login', 'core', 'added;uid=1000;gid=1000;shell=/bin/bash;password=yes']],
  );
  assert.equal(facts.local.etc, pathChanges(evidenceOf(part).drift, part.secrets).length);
});

/** What bootc and rpm-ostree said on hosts of every kind (test/vectors/bootc), each with a fresh host's /etc. */
const recorded: [name: string, rules: string[], mounts?: string][] = [
  ['01-ostree-bootc-1.1-minimal', []],
  ['02-ostree-full-staged-rollback-pinned', []],
  ['03-ostree-usr-overlay-rw-transient', ['usr-unlocked'], 'ostree admin unlock / bootc usr-overlay on ostree backend'],
  ['04-ostree-hotfix-persistent', ['usr-unlocked'], 'hotfix after reboot'],
  ['05-ostree-rpmostree-layered-incompatible', ['packages-layered']],
  ['06-ostree-pinned-pullspec-index-digest', []],
  ['07-ostree-remote-signature', []],
  ['08-composefs-uki-sealed', []],
  ['09-composefs-bls-unsealed', []],
  ['10-composefs-legacy-imagedigest-bare-hex', []],
  ['12-local-containers-storage-transport', []],
  ['30-v1alpha1-no-signature', []],
];
const samples = sections('mountinfo-samples.txt');
for (const [name, rules, over] of recorded)
  test(`recorded host ${name}: ${rules.join(', ') || 'nothing'} beside the one account`, () => {
    const bootc = parseBootcStatus(vector(`${name}.json`));
    const seen = over === undefined ? null : samples.get('ostree+composefs, normal')! + samples.get(over)!;
    const mounts =
      seen === null
        ? null
        : viewMounts(parseMountinfo(seen.replaceAll('11'.repeat(32), bootc.booted!.ostree!.checksum!)), '/');
    const deployment = deploymentState({ ...UNTOLD, bootc, mounts });
    const part = vectors.fresh;
    const { judgements } = evaluate({ ...evidenceOf(part), accounts: part.accounts!, deployment }, DEFAULT);
    assert.deepEqual(
      judgements.filter(({ rule }) => rule !== 'account-new-login').map(({ rule }) => rule),
      rules,
    );
  });

test('recorded host 20, with layered packages: each package is a finding', () => {
  const rpmOstree = parseRpmOstreeStatus(vector('20-rpm-ostree-layered-container.json'));
  const deployment = deploymentState({ ...UNTOLD, rpmOstree });
  const rules = evaluate({ ...INTACT, deployment }, DEFAULT).judgements.map(({ rule }) => rule);
  assert.ok(rules.length > 0 && rules.every((rule) => rule === 'packages-layered'), rules.join());
});

const account = (more: Partial<Account> = {}): Account => ({
  name: 'x',
  uid: 1000,
  gid: 1000,
  shell: '/bin/bash',
  hasPassword: false,
  ...more,
});
const accounts: [what: string, change: AccountChange, account: Partial<Account>, rule: string][] = [
  ['another root', 'added', { uid: 0, gid: 0, shell: '/sbin/nologin' }, 'account-second-root'],
  ['an account that became root', 'changed', { uid: 0 }, 'account-second-root'],
  ['a password for root', 'changed', { name: 'root', uid: 0, gid: 0, hasPassword: true }, 'account-root'],
  ['root with another group', 'changed', { name: 'root', uid: 0, gid: 1 }, 'account-root-broken'],
  [
    'root with a program for a shell',
    'changed',
    { name: 'root', uid: 0, gid: 0, shell: '/tmp/x' },
    'account-root-broken',
  ],
  ['no root', 'removed', { name: 'root', uid: 0, gid: 0 }, 'account-root-broken'],
  ['a system user', 'added', { uid: 990, shell: '/usr/sbin/nologin' }, 'account-system-made'],
  ['a dynamic user', 'added', { uid: 61184, shell: '/usr/sbin/nologin' }, 'account-system-made'],
  ['a system user with a shell', 'added', { uid: 990 }, 'account-system-login'],
  [
    'a system user with a password',
    'added',
    { uid: 990, shell: '/sbin/nologin', hasPassword: true },
    'account-system-login',
  ],
  ['a system user with the empty shell', 'added', { uid: 990, shell: '' }, 'account-system-login'],
  ['a person', 'added', { hasPassword: true }, 'account-new-login'],
  ['a person with a key alone', 'added', {}, 'account-new-login'],
  ['somebody without a shell', 'added', { shell: '/sbin/nologin' }, 'account-new'],
  ['a service that got a shell', 'changed', { uid: 81 }, 'account-opened'],
  [
    'a service that got a password',
    'changed',
    { uid: 81, shell: '/sbin/nologin', hasPassword: true },
    'account-opened',
  ],
  ['a service with another id', 'changed', { uid: 81, shell: '/sbin/nologin' }, 'account-renumbered'],
  ['one that the image has', 'removed', { uid: 81 }, 'account-missing'],
];
for (const [what, change, more, rule] of accounts)
  test(`${what} falls under ${rule}`, () => {
    assert.equal(accountRuleFor(DEFAULT, account(more), change, NO_HOST)?.id, rule);
  });

test('every rule on accounts has its case above, and none of them is unnamed', () => {
  assert.deepEqual(
    [...new Set(accounts.map(([, , , rule]) => rule))].sort(),
    DEFAULT.accounts.map(({ id }) => id).sort(),
  );
  fc.assert(
    fc.property(
      fc.constantFrom('added', 'removed', 'changed'),
      fc.string(),
      fc.nat(),
      fc.constantFrom('/bin/sh', '', '/sbin/nologin', '/x'),
      fc.boolean(),
      (change, name, uid, shell, hasPassword) => {
        const found = accountRuleFor(DEFAULT, account({ name, uid, shell, hasPassword }), change, NO_HOST);
        assert.ok(found !== undefined);
        assert.ok(uid !== 0 || name === 'root' || change === 'removed' || found.severity === 'critical');
      },
    ),
  );
});

for (const name of ['provisioned', 'later'] as const)
  test(`what gives or hides power is a finding though it is common: ${name}`, () => {
    const part = vectors[name];
    const found = evaluate(evidenceOf(part), DEFAULT).judgements.map(({ rule, subject }) => `${subject} ${rule}`);
    assert.deepEqual(found.sort(), part.findings.map(([rule, path]) => `${path} ${rule}`).sort());
  });

test('the vector is what an agent could report: a secret shows neither size nor digest, and only secrets are listed as such', () => {
  for (const part of Object.values(vectors)) {
    const secrets = new Set(part.secrets.map(({ path }) => path));
    for (const path of secrets) assert.ok(isSecret(path), `${path} is no secret`);
    for (const { path, actual } of part.drift) {
      const isFile = actual?.type === 'file';
      if (!isFile) continue;
      assert.equal(secrets.has(path!), isSecret(path!), path!);
      assert.equal(actual.sha256 === undefined, isSecret(path!), path!);
    }
  }
});

const facts = fc.record({
  type: fc.constantFrom<Facts['type']>('dir', 'file', 'symlink', 'char', 'fifo', 'socket'),
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.constantFrom(0, 1000),
  gid: fc.constantFrom(0, 1000),
  sha256: fc.constantFrom(sha('a'), sha('b')),
});
const path = fc
  .tuple(
    fc.constantFrom('/usr', '/etc'),
    fc.array(
      fc.oneof(
        fc.constantFrom('bin', 'lib', 'ssh', 'systemd', 'system', 'cups', 'passwd', 'shadow', 'x.so', '.hidden', 'pki'),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 5 }).filter((text) => !text.includes('/')),
      ),
      { maxLength: 4 },
    ),
  )
  .map(([tree, names]) => [tree, ...names].join('/'));
const drift = fc.oneof(
  fc.record({ path, change: fc.constant('added' as const), actual: facts }),
  fc.record({ path, change: fc.constant('removed' as const), expected: facts }),
  fc.record({ path, change: fc.constant('modified' as const), expected: facts, actual: facts }),
) as fc.Arbitrary<Drift>;
const secret = fc.constantFrom('differs', 'added', 'removed', undefined);

test('it covers /usr and /etc whole: a rule of its own speaks to every change of every path', () => {
  fc.assert(
    fc.property(drift, secret, (line, state) => {
      const rule = fileRuleFor(DEFAULT, { path: line.path, drift: line, secret: state });
      assert.ok(rule !== undefined, 'no rule names it');
      assert.ok(!line.path.startsWith('/usr') || rule.effect === 'forbidden', 'a difference in /usr was let pass');
    }),
    { numRuns: deep(5000, 800) },
  );
  for (const state of ['differs', 'added', 'removed'] as const)
    assert.ok(fileRuleFor(DEFAULT, { path: '/etc/any/thing', drift: undefined, secret: state }));
  for (const tree of ['/usr/**', '/etc/**'])
    assert.ok(DEFAULT.files.some(({ paths, when }) => paths[0]?.source === tree && Object.keys(when).length === 0));
});

test('in /usr nothing is below high', () => {
  fc.assert(
    fc.property(drift, (line) => {
      fc.pre(line.path.startsWith('/usr'));
      const { severity } = fileRuleFor(DEFAULT, { path: line.path, drift: line, secret: undefined })!;
      assert.ok(severity === 'high' || severity === 'critical');
    }),
  );
});

const cases: [what: string, drift: Drift, rule: string][] = [
  ['a setuid program added to /usr', added('/usr/bin/.x', program({ mode: 0o4755 })), 'privileged-program-gained'],
  ['a setgid program added', added('/usr/lib/x', program({ mode: 0o2755 })), 'privileged-program-gained'],
  ['setuid given to a program', modified('/usr/bin/bash', { mode: 0o4755 }, program()), 'privileged-program-gained'],
  ['a capability given', modified('/usr/bin/x', { capability: 'AQ==' }, program()), 'privileged-program-gained'],
  ['a setuid program in /etc', added('/etc/x', program({ mode: 0o4755 })), 'privileged-program-gained'],
  ['sudo replaced', replaced('/usr/bin/sudo', program({ mode: 0o4755 })), 'privileged-program-changed'],
  [
    'another capability',
    modified('/usr/bin/x', { capability: 'Ag==' }, program({ capability: 'AQ==' })),
    'privileged-program-changed',
  ],
  ['setuid taken away', modified('/usr/bin/sudo', { mode: 0o755 }, program({ mode: 0o4755 })), 'usr-program'],
  [
    'a device node',
    added('/usr/lib/sda', { type: 'block', mode: 0o600, uid: 0, gid: 0, device: '8:0' }),
    'device-node',
  ],
  ['a world-writable folder', modified('/usr/share/x', { mode: 0o777 }, folder()), 'world-writable'],
  ['a folder like /tmp', added('/usr/share/x', folder(0o1777)), 'usr-other'],
  ['a program replaced', replaced('/usr/sbin/sshd', program()), 'usr-program'],
  ['a program removed', removed('/usr/sbin/auditd', program()), 'usr-program'],
  ['a program added', added('/usr/bin/nc', program()), 'usr-program'],
  ['a library removed', removed('/usr/lib64/libssl.so.3'), 'usr-library'],
  ['a library replaced', replaced('/usr/lib/x86_64-linux-gnu/security/pam_unix.so'), 'usr-library'],
  ['a kernel module', replaced('/usr/lib/modules/6.0/kernel/x.ko.xz'), 'usr-kernel'],
  ['a text in /usr', replaced('/usr/share/doc/x'), 'usr-other'],
  ['/usr itself', modified('/usr', { uid: 1000 }, folder()), 'usr-other'],
  ['another host name', replaced('/etc/hostname'), 'etc-machine-identity'],
  ['a host name that others own', modified('/etc/hostname', { uid: 1000 }), 'etc-other'],
  ['its name for disks', added('/etc/nvme/hostnqn'), 'etc-machine-disks'],
  ['no machine-id', removed('/etc/machine-id'), 'etc-other'],
  [
    'a time zone',
    modified('/etc/localtime', { link: '../usr/share/zoneinfo/UTC' }, symlink('../usr/share/zoneinfo/X')),
    'etc-time-zone',
  ],
  ['a time zone from elsewhere', added('/etc/localtime', symlink('../var/x')), 'etc-other'],
  ['mtab', added('/etc/mtab', symlink('../proc/self/mounts')), 'etc-mtab'],
  ['the resolver', replaced('/etc/resolv.conf'), 'etc-resolver'],
  ['an SSH host key', added('/etc/ssh/ssh_host_rsa_key', hidden(0o600)), 'etc-ssh-host-key-secret'],
  ['an SSH host key that all can read', added('/etc/ssh/ssh_host_rsa_key', hidden(0o644)), 'etc-ssh'],
  ['its public half', added('/etc/ssh/ssh_host_rsa_key.pub'), 'etc-ssh-host-key-public'],
  ['sshd_config', replaced('/etc/ssh/sshd_config'), 'etc-ssh'],
  ['a network profile', added('/etc/NetworkManager/system-connections/a', hidden(0o600)), 'etc-network-profiles'],
  ['NetworkManager.conf', replaced('/etc/NetworkManager/NetworkManager.conf'), 'etc-other'],
  ['fstab', replaced('/etc/fstab'), 'etc-mounts'],
  ['a subscription', added('/etc/pki/consumer/key.pem', hidden(0o600)), 'etc-subscription'],
  ['a pull secret', added('/etc/ostree/auth.json', hidden(0o600)), 'etc-pull-secret'],
  ['a pull secret that all can read', added('/etc/ostree/auth.json', hidden(0o644)), 'etc-image-trust'],
  ['a backup of shadow', added('/etc/shadow-', hidden(0)), 'etc-password-hashes'],
  ['a stray copy of shadow', added('/etc/shadow.bak', hidden(0o600)), 'etc-password-hashes-exposed'],
  ['shadow open to all', modified('/etc/shadow', { mode: 0o644 }, hidden(0)), 'etc-password-hashes-exposed'],
  ['a backup of passwd', added('/etc/passwd-'), 'etc-account-bookkeeping'],
  ['groups', replaced('/etc/group'), 'etc-groups'],
  ['accounts', replaced('/etc/passwd'), 'etc-accounts'],
  ['passwd writable by its group', modified('/etc/passwd', { mode: 0o664 }), 'etc-accounts-broken'],
  ['passwd as a link', modified('/etc/passwd', symlink('/var/x')), 'etc-accounts-broken'],
  ['preload', added('/etc/ld.so.preload'), 'etc-preload'],
  ['sudoers', added('/etc/sudoers.d/x', file({ mode: 0o440 })), 'etc-sudoers'],
  ['PAM', replaced('/etc/pam.d/sshd'), 'etc-pam'],
  ['Kerberos', added('/etc/krb5.keytab', hidden(0o600)), 'etc-remote-identity'],
  [
    'a debug shell by link',
    added('/etc/systemd/system/x.target.wants/a.service', symlink('/usr/lib/systemd/system/debug-shell.service')),
    'etc-debug-shell',
  ],
  [
    'a debug shell by name',
    added('/etc/systemd/system/x.target.wants/debug-shell.service', symlink('/x')),
    'etc-debug-shell-wanted',
  ],
  [
    'a unit of the image enabled',
    added('/etc/systemd/system/x.target.wants/a.service', symlink('/usr/lib/systemd/system/a.service')),
    'etc-units-enabled',
  ],
  ['a folder for such links', added('/etc/systemd/system/x.target.wants', folder()), 'etc-units-enabled-folder'],
  [
    'an alias of such a unit',
    added('/etc/systemd/system/dbus-org.freedesktop.x.service', symlink('/usr/lib/systemd/system/x.service')),
    'etc-units-alias',
  ],
  [
    'a unit enabled from elsewhere',
    added('/etc/systemd/system/x.target.wants/a.service', symlink('/usr/lib/systemd/system/../../../../etc/a')),
    'etc-units',
  ],
  [
    'a unit disabled',
    removed('/etc/systemd/system/x.target.wants/a.service', symlink('/usr/lib/systemd/system/a.service')),
    'etc-units',
  ],
  ['an override', added('/etc/systemd/system/sshd.service.d/x.conf'), 'etc-units'],
  ['cron', added('/etc/cron.d/x'), 'etc-cron'],
  ['profile.d', added('/etc/profile.d/x.sh'), 'etc-shell-start'],
  ['tmpfiles.d', added('/etc/tmpfiles.d/x.conf'), 'etc-made-at-boot'],
  ['policy.json', replaced('/etc/containers/policy.json'), 'etc-image-trust'],
  ['an authority', added('/etc/pki/ca-trust/source/anchors/x.crt'), 'etc-certificates'],
  ['a package repository', added('/etc/yum.repos.d/x.repo'), 'etc-packages'],
  ['ld.so.cache', replaced('/etc/ld.so.cache'), 'etc-caches'],
  ['ld.so.cache given away', modified('/etc/ld.so.cache', { uid: 1000 }), 'etc-loader'],
  ['ld.so.conf', replaced('/etc/ld.so.conf'), 'etc-loader'],
  ['tuned', replaced('/etc/tuned/active_profile'), 'etc-tuning'],
  ['printers', added('/etc/cups/printers.conf', hidden(0o600)), 'etc-printing'],
  ['sysctl', added('/etc/sysctl.d/x.conf'), 'etc-kernel'],
  ['SELinux', replaced('/etc/selinux/config'), 'etc-selinux'],
  ['audit rules', replaced('/etc/audit/rules.d/audit.rules'), 'etc-audit'],
  ['the firewall', replaced('/etc/firewalld/firewalld.conf'), 'etc-firewall'],
  ['anything else', added('/etc/motd'), 'etc-other'],
  ['/etc itself', modified('/etc', { uid: 1000 }, folder()), 'etc-other'],
];
for (const [what, line, rule] of cases)
  test(`${what} falls under ${rule}`, () => {
    assert.equal(fileRuleFor(DEFAULT, { path: line.path, drift: line, secret: undefined })?.id, rule);
  });

test('accounts that were told leave nothing to say of /etc/passwd but what is broken there', () => {
  const rule = (line: Drift) =>
    fileRuleFor(DEFAULT, { path: line.path, drift: line, secret: undefined }, { host: NO_HOST, accountsTold: true })
      ?.id;
  assert.equal(rule(replaced('/etc/passwd')), 'etc-accounts-told');
  assert.equal(rule(modified('/etc/passwd', { mode: 0o664, sha256: sha('b') })), 'etc-accounts-broken');
  assert.equal(rule(removed('/etc/passwd')), 'etc-accounts-broken');
});

test('every file rule has its case above, so none stands in the shadow of another', () => {
  assert.deepEqual(
    [...new Set([...cases.map(([, , rule]) => rule), 'etc-accounts-told'])].sort(),
    DEFAULT.files.map(({ id }) => id).sort(),
  );
});

const states: [what: string, evidence: Partial<Evidence>, rules: string[]][] = [
  ['an untouched host', {}, []],
  ['an unlocked /usr', overlaid(overlay('/usr', 'usr-overlay', { writable: true })), ['usr-unlocked']],
  ['a hotfix', overlaid(overlay('/usr', 'hotfix')), ['usr-unlocked']],
  ['a sysext', overlaid(overlay('/usr', 'sysext')), ['extension-merged']],
  ['a file bound over sudo', overlaid(overlay('/usr/bin/sudo', 'bind')), ['mount-over-image']],
  ['the same folder mounted again', overlaid(overlay('/usr', 'bind', { masks: false })), []],
  ['a transient /etc', overlaid(overlay('/etc', 'transient-etc', { masks: false, writable: true })), []],
  [
    'a mount that only the walk met',
    { trees: { ...INTACT.trees, usr: { holes: [{ path: '/usr/x', kind: 'mount', detail: '' }], holesCapped: false } } },
    ['mount-over-image'],
  ],
  [
    'layered packages',
    { deployment: { ...DEPLOYMENT, booted: { ...DEPLOYMENT.booted!, layered: ['htop', 'vim'] } } },
    ['packages-layered', 'packages-layered'],
  ],
  ['SELinux off', kargs('selinux=0'), ['kernel-integrity-off']],
  ['another init', kargs('init=/bin/sh'), ['kernel-integrity-off']],
  ['a debug shell from the kernel', kargs('systemd.debug_shell'), ['kernel-integrity-off']],
  ['a rescue boot', kargs('rd.break'), ['kernel-rescue']],
  ['mitigations off', kargs('mitigations=off'), ['kernel-mitigations-off']],
  ['ordinary arguments', kargs('quiet', 'initrd=/x', 'enforcing=1', 'singlex', 'systemd.unit=multi-user.target'), []],
  ['no verity', { deployment: { ...DEPLOYMENT, verity: false, transientRoot: true } }, []],
  [
    'a contradiction',
    { deployment: { ...DEPLOYMENT, contradictions: ['a says x, b says y'] } },
    ['host-contradicts-itself'],
  ],
  [
    'an unreadable file',
    {
      trees: {
        ...INTACT.trees,
        etc: { holes: [{ path: '/etc/x', kind: 'unreadable', detail: 'EIO' }], holesCapped: false },
      },
    },
    ['path-unread'],
  ],
  [
    'a manifest that is being built',
    { manifest: { state: 'pending', image: 'sha256:x', code: 'MANIFEST_PENDING', detail: null } },
    [],
  ],
  [
    'an image that may not be fetched',
    { manifest: { state: 'not-allowed', image: 'sha256:x', code: 'IMAGE_SOURCE_NOT_ALLOWED', detail: null } },
    ['manifest-missing'],
  ],
  ['a fork', { flags: ['identity-forked'] }, ['identity-doubtful']],
  ['a gap', { flags: ['chain-gap'] }, ['reports-missing']],
  ['a clock six minutes off', { skewMs: -360_000 }, ['clock-off']],
  ['too much drift', { truncated: { added: 1, removed: 2, modified: 3 } }, ['drift-beyond-limits']],
  ['a small scan', { flags: ['scan-implausible'] }, ['scan-doubtful']],
  ['an unsigned image', imageFault('unsigned'), ['image-unsigned']],
  ['a rejected image', imageFault('rejected'), ['image-rejected']],
  ['an image whose registry is down', imageFault('unverifiable'), ['image-untold']],
  ['a signature that is gone', imageFault('signature-vanished'), ['image-signature-gone']],
  ['a rollback', { lineage: { stale: [], rollback: { image: IMAGE, from: 'sha256:2' } } }, ['image-rolled-back']],
  ['a file that hides a newer one', { lineage: { rollback: null, stale: [stale('/etc/motd')] } }, ['config-stale']],
  ['accounts that hide newer ones', { lineage: { rollback: null, stale: [stale('/etc/passwd')] } }, []],
  ['a signature that hosts cannot read', imageFault('host-unreadable'), ['image-signature-unreadable']],
];
function stale(path: string): Stale {
  return { path, since: 'sha256:2', now: file(), was: file({ sha256: sha('b') }) };
}
function imageFault(fault: ProvenanceFault): Partial<Evidence> {
  return { provenance: { image: IMAGE, told: true, faults: [{ fault, why: 'so found' }] } };
}
function overlaid(...overlays: (typeof DEPLOYMENT)['overlays']): Partial<Evidence> {
  return { deployment: { ...DEPLOYMENT, overlays } };
}
function kargs(...more: string[]): Partial<Evidence> {
  return { deployment: { ...DEPLOYMENT, kargs: [...DEPLOYMENT.kargs, ...more] } };
}
for (const [what, evidence, rules] of states)
  test(`${what}: ${rules.join(', ') || 'no finding'}`, () => {
    assert.deepEqual(
      evaluate({ ...INTACT, ...evidence }, DEFAULT).judgements.map(({ rule }) => rule),
      rules,
    );
  });

test('no state rule is missing from the cases above, save those that the clock and tags judge', () => {
  const quiet = [
    'overlay-harmless',
    'verity-not-required',
    'root-transient',
    'pull-unsigned',
    'manifest-awaited',
    'config-stale-own',
    'digest-bare-hex',
  ];
  const byOthers = ['host-silent', 'image-outdated'];
  const hit = states.flatMap(([, , rules]) => rules);
  assert.deepEqual([...new Set([...hit, ...quiet, ...byOthers])].sort(), DEFAULT.state.map(({ id }) => id).sort());
});

test('how old an image may be is for each site to say; then what is older is told', () => {
  const DAY = 86_400_000;
  const strict = parsePolicy(
    'format: bootproof.policy/1\nname: strict\nextends: default\nfreshness: {imageAgeMax: 30d, behindTagAfter: 7d}\n',
    { file: 'strict.yaml', base: () => DEFAULT },
  );
  const age = { image: IMAGE, at: 100 * DAY, madeAt: 60 * DAY, behindTagSince: 99 * DAY };
  const found = (policy: Policy, more: Partial<typeof age> = {}) =>
    evaluate({ ...INTACT, age: { ...age, ...more } }, policy).judgements.map(({ rule, signature }) => [
      rule,
      signature,
    ]);
  assert.deepEqual(found(DEFAULT), []);
  assert.deepEqual(found(strict), [['image-outdated', 'too-old']]);
  assert.deepEqual(found(strict, { behindTagSince: 93 * DAY }), [
    ['image-outdated', 'behind-tag'],
    ['image-outdated', 'too-old'],
  ]);
  assert.deepEqual(found(strict, { madeAt: 71 * DAY }), []);
  assert.equal(evaluate({ ...INTACT, age: { ...age, madeAt: 71 * DAY } }, strict).facts.age!.next, 101 * DAY);
});

test('each rule says why in words for someone woken at night, and what is forbidden names its controls', () => {
  for (const { id, reason, controls, effect } of [...DEFAULT.files, ...DEFAULT.accounts, ...DEFAULT.state]) {
    assert.ok(reason.length >= 40 && /[.]$/.test(reason), `${id}: ${reason}`);
    assert.equal(controls.length > 0, effect === 'forbidden', id);
  }
  assert.ok(!/\t/.test(DEFAULT_TEXT));
});
