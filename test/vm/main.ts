/**
 * The system test on a booted machine (README.md beside this): an image of Debian packages with the agent in it, deployed by the real
 * ostree, booted by qemu, reporting to a real server; then tampered with while it runs, and judged.
 */
import { hash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { serveRegistry, type Registry } from '#demo/registry.ts';
import type { Digest } from '#src/digest.ts';
import { addImage, addLayer, REPOSITORY, toDeploy, type PackedLayer } from './image.ts';
import { MODES, type Mode } from './mode.ts';
import { playAll } from './play.ts';
import { Record } from './record.ts';
import { Service } from './service.ts';

const here = import.meta.dirname;
const root = join(here, '../..');
const cache =
  process.env['VM_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'bootproof-vm');
const modes = MODES.filter((mode) => (process.env['VM_MODES'] ?? MODES.join()).split(',').includes(mode));

const work = mkdtempSync(
  join(process.env['TMPDIR'] ?? (existsSync('/var/tmp') ? '/var/tmp' : tmpdir()), 'bootproof-vm-'),
);
const record = new Record();
const guest = (...args: string[]) =>
  execFileSync('bash', [join(here, 'guest.sh'), ...args], { stdio: ['ignore', 'inherit', 'inherit'] });

let registry: Registry | undefined;
let service: Service | undefined;
try {
  const packages = record.timed('packages', () => guestPackages());
  const deb = record.timed('agent', () => agentPackage());
  const blobs = join(work, 'registry');
  mkdirSync(blobs);
  registry = await serveRegistry(blobs, 0);
  service = await Service.start(root, join(work, 'server'), `docker://${registry.host}/${REPOSITORY}`);
  const settings = imageSettings(service);
  const base = join(work, 'base');
  guest('base', packages, base);
  const system = await record.timedAsync('system layer', () => packed(base, blobs));
  const made: { readonly mode: Mode; readonly digest: Digest; readonly disk: string }[] = [];
  for (const mode of modes) {
    const image = await record.timedAsync(`image and disk, ${mode}`, async () => {
      const upper = join(work, `layer-${mode}`);
      guest('layer', base, upper, mode, deb, settings);
      const layers = [system, await packed(upper, blobs)];
      const digest = addImage(blobs, layers, mode);
      const from = { folder: blobs, host: registry!.host };
      return { digest, disk: deployed(packages, { digest, layers, tag: mode }, from) };
    });
    made.push({ mode, ...image });
  }
  record.versions(packages);
  const api = service;
  await Promise.all(
    made.map((image) =>
      playAll({ ...image, service: api, record, folder: work }).catch((error: unknown) => record.broke(error)),
    ),
  );
} catch (error) {
  record.broke(error);
} finally {
  await service?.stop();
  await registry?.close();
  if (process.env['VM_KEEP'] === undefined) rmSync(work, { recursive: true, force: true });
  else console.log(`kept: ${work}`);
}
const { text, failed } = record.results();
// A part of it is no result.
if (modes.length === MODES.length) writeFileSync(join(here, 'RESULTS.md'), text);
console.log(text);
process.exitCode = failed ? 1 : 0;

/** The guest's packages, unpacked: kept from run to run, by what they are and how they are chosen. */
function guestPackages(): string {
  const script = readFileSync(join(here, 'guest.sh'), 'utf8');
  const about = [/^packages=.*$/m.exec(script)![0], process.env['VM_SUITE'] ?? 'sid'].join('\n');
  const folder = join(cache, `packages-${hash('sha256', about, 'hex').slice(0, 16)}`);
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const part = mkdtempSync(join(cache, 'part-'));
  chmodSync(part, 0o755);
  try {
    guest('packages', join(part, 'root'));
    renameSync(join(part, 'root'), folder);
  } catch (cause) {
    throw new Error(
      'the guest’s Debian packages cannot be had: mmdebstrap needs the mirror that apt is configured with, or VM_MIRROR=http://…/debian/',
      { cause },
    );
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
  return folder;
}

/** The Debian package, as `npm run build:agent -- --packages` makes it. */
function agentPackage(): string {
  const out = join(work, 'dist');
  const env = { ...process.env, SOURCE_DATE_EPOCH: process.env['SOURCE_DATE_EPOCH'] ?? '1700000000' };
  execFileSync('sh', [join(root, 'packaging/build.sh'), '--packages', '--out', out], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env,
  });
  const made = execFileSync('find', [out, '-name', '*.deb'], { encoding: 'utf8' }).trim();
  if (made === '') throw new Error('no deb of the agent was made: dpkg-deb is not here');
  return made;
}

/** What the site puts into the image: settings, the authority of its server, and a timer that does not let the test wait for five minutes. */
function imageSettings(to: Service): string {
  const folder = join(work, 'settings');
  const own = join(folder, 'usr/lib/bootproof');
  const timer = join(folder, 'usr/lib/systemd/system/bootproof-agent.timer.d');
  mkdirSync(own, { recursive: true });
  mkdirSync(timer, { recursive: true });
  writeFileSync(
    join(own, 'agent.json'),
    JSON.stringify({ url: to.url, ca: '/usr/lib/bootproof/ca.pem', interval: '1h' }),
  );
  copyFileSync(to.authority, join(own, 'ca.pem'));
  writeFileSync(
    join(timer, '10-soon.conf'),
    '[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=5s\nOnUnitActiveSec=1h\nRandomizedDelaySec=1s\nAccuracySec=1s\n',
  );
  return folder;
}

async function packed(folder: string, blobs: string): Promise<PackedLayer> {
  const tar = `${folder}.tar`;
  guest('pack', folder, tar);
  const layer = await addLayer(blobs, tar);
  rmSync(tar);
  return layer;
}

function deployed(
  packages: string,
  image: { readonly digest: Digest; readonly layers: readonly PackedLayer[]; readonly tag: Mode },
  from: { readonly folder: string; readonly host: string },
): string {
  const folder = join(work, `pulled-${image.tag}`);
  const disk = join(work, `${image.tag}.img`);
  toDeploy(folder, from, image);
  guest('deploy', packages, disk, folder);
  rmSync(folder, { recursive: true });
  return disk;
}
