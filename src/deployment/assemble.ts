/** What options, programs, files and mounts tell of a host, brought to one shape; what contradicts is named in words. */
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { isDigest } from '#src/digest.ts';
import { printable } from '#src/terminal.ts';
import { signatureOf, type BootcEntry, type BootcStatus } from './bootc.ts';
import type { Commit } from './commit.ts';
import { kargText, kargValue, type Karg } from './kargs.ts';
import { parseImageSource, type Origin } from './origin.ts';
import type { MountView } from './overlay.ts';
import { baseDigestOf, layeredOf, type RpmOstreeDeployment, type RpmOstreeStatus } from './rpmostree.ts';
import type { OstreeBooted } from './runstate.ts';

import { STATE_LIST_MAX, STATE_TEXT_MAX, type DeploymentEntry, type DeploymentState, type Overlay } from './state.ts';

/** A deployment found on the disk. */
export type Found = {
  readonly role: 'booted' | 'staged' | 'other';
  readonly backend: 'ostree' | 'composefs';
  readonly checksum: string;
  readonly stateroot: string | null;
  readonly origin: Origin | null;
  /** Of the image: where rpm-ostree layered something, the parent of the deployment's own commit. Null on the composefs backend. */
  readonly commit: Commit | null;
  readonly layered: boolean;
};

/** Everything that told something, or null where it did not. */
export type Told = {
  /** What the caller says: it is believed, and compared with the rest. */
  readonly backend: 'ostree' | 'composefs' | null;
  /** `sha256:…`, or a reference with or without one. */
  readonly image: string | null;
  readonly bootc: BootcStatus | null;
  readonly rpmOstree: RpmOstreeStatus | null;
  readonly found: readonly Found[];
  readonly ostreeBooted: OstreeBooted | null;
  readonly mounts: MountView | null;
  readonly kargs: readonly Karg[];
  readonly kernel: string | null;
  /** What could not be read, in words. They must read the same while nothing changes: the state has a digest. */
  readonly unread: readonly string[];
};

/** One source's word on one deployment. */
type Claim = DeploymentEntry & { readonly via: DeploymentState['via']; readonly who: string };

/**
 * Brings what was told to one shape. Sources are believed in the order option, bootc, rpm-ostree, disk; the mounts are the
 * kernel's word and say what is really shown. Whatever disagrees is named.
 */
export function deploymentState(told: Told): DeploymentState {
  const words: string[] = [...told.unread];
  const claims = collectClaims(told);
  const [booted, via] = merge('booted', claims.booted, words);
  const [staged] = merge('staged', claims.staged, words);
  const [rollback] = merge('rollback', claims.rollback, words);
  const backend = decideBackend(told, words);
  compareMounts(told, booted, words);
  compareOverlays(told, words);
  const overlays = (told.mounts?.over ?? []).map(({ path, kind, detail, writable, masks }): Overlay => ({
    path: clip(pathText(path)),
    kind,
    detail: clip(detail),
    writable,
    masks,
    beneath: null,
  }));
  if (overlays.length > STATE_LIST_MAX)
    words.push(`${overlays.length} mounts lie over /usr and /etc; ${STATE_LIST_MAX} are listed`);
  if (told.kargs.length > STATE_LIST_MAX)
    words.push(`${told.kargs.length} kernel arguments; ${STATE_LIST_MAX} are listed`);
  return {
    backend,
    via: booted === null ? 'none' : via,
    booted,
    staged,
    rollback,
    overlays: overlays.slice(0, STATE_LIST_MAX),
    kargs: told.kargs.slice(0, STATE_LIST_MAX).map((karg) => clip(kargText(karg))),
    kernel: told.kernel === null ? null : clip(told.kernel),
    verity: told.mounts?.root.verity ?? null,
    transientRoot: told.mounts?.root.transient ?? told.ostreeBooted?.transientRoot ?? null,
    contradictions: words.slice(0, STATE_LIST_MAX).map(clip),
  };
}

function clip(text: string): string {
  return text.length <= STATE_TEXT_MAX ? text : `${text.slice(0, STATE_TEXT_MAX - 1)}…`;
}

function pathText(path: ByteString): string {
  return toUtf8(path) ?? printable(path);
}

type Claims = { readonly booted: Claim[]; readonly staged: Claim[]; readonly rollback: Claim[] };

function collectClaims({ image, bootc, rpmOstree, found }: Told): Claims {
  const ordered = rpmOstree?.deployments ?? [];
  const at = ordered.findIndex((deployment) => deployment.booted === true);
  const after = at < 0 ? [] : ordered.slice(at + 1).filter(({ osname }) => osname === ordered[at]!.osname);
  const others = found.filter(({ role }) => role === 'other');
  const disk = (role: Found['role']) => found.filter((one) => one.role === role).map(claimOfFound);
  const tool = (deployment: RpmOstreeDeployment | undefined) => (deployment ? [claimOfRpmOstree(deployment)] : []);
  return {
    booted: [
      ...(image === null ? [] : [claimOfOption(image)]),
      ...claimsOfBootc(bootc?.booted),
      ...tool(ordered[at]),
      ...disk('booted'),
    ],
    staged: [
      ...claimsOfBootc(bootc?.staged),
      ...tool(ordered.find(({ staged }) => staged === true) ?? ordered.slice(0, Math.max(at, 0))[0]),
      ...disk('staged'),
    ],
    rollback: [
      ...claimsOfBootc(bootc?.rollback),
      ...tool(after[0]),
      // Without a program to ask, the one other deployment is where a reboot could lead.
      ...(others.length === 1 ? others.map(claimOfFound) : []),
    ],
  };
}

const NOTHING = { image: null, checksum: null, stateroot: null, pinned: false, layered: [] };

function claimOfOption(image: string): Claim {
  const at = image.lastIndexOf('@');
  const digest = isDigest(image) ? image : at >= 0 && isDigest(image.slice(at + 1)) ? image.slice(at + 1) : null;
  const reference = isDigest(image) ? null : image;
  return {
    ...NOTHING,
    via: 'option',
    who: 'the option',
    image: { reference, transport: null, digest, version: null, signature: null },
  };
}

function claimsOfBootc(entry: BootcEntry | null | undefined): Claim[] {
  if (entry === null || entry === undefined) return [];
  const image = entry.image ?? null;
  return [
    {
      via: 'bootc',
      who: 'bootc',
      image: image && {
        reference: image.image?.image ?? null,
        transport: image.image?.transport ?? null,
        digest: image.imageDigest ?? null,
        version: image.version ?? null,
        signature: signatureOf(image),
      },
      checksum: entry.ostree?.checksum ?? entry.composefs?.verity ?? null,
      stateroot: entry.ostree?.stateroot ?? null,
      pinned: entry.pinned ?? false,
      layered: entry.incompatible === true ? [UNNAMED] : [],
    },
  ];
}

/** bootc says that rpm-ostree was at work, not what it did; dropped where another source names it. */
const UNNAMED = 'changed by rpm-ostree';

function claimOfRpmOstree(deployment: RpmOstreeDeployment): Claim {
  const digest = baseDigestOf(deployment);
  const text = deployment['container-image-reference'] ?? null;
  const source = text === null ? null : parseImageSource(text);
  return {
    via: 'rpm-ostree',
    who: 'rpm-ostree',
    image:
      digest === null && text === null
        ? null
        : {
            reference: source?.reference ?? text,
            transport: source?.transport ?? null,
            digest,
            version: deployment['base-version'] ?? deployment.version ?? null,
            signature: source?.signature ?? null,
          },
    checksum: deployment.checksum ?? null,
    stateroot: deployment.osname ?? null,
    pinned: deployment.pinned ?? false,
    layered: layeredOf(deployment),
  };
}

function claimOfFound({ backend, checksum, stateroot, origin, commit, layered }: Found): Claim {
  const digest = backend === 'composefs' ? (origin?.manifestDigest ?? null) : (commit?.manifestDigest ?? null);
  const phrases = origin?.layered ?? [];
  const image = origin?.image ?? null;
  return {
    via: 'origin',
    who: backend === 'composefs' ? 'the origin file' : 'the ostree repository',
    image:
      digest === null && image === null && (origin?.imageText ?? null) === null
        ? null
        : {
            reference: image?.reference ?? origin?.imageText ?? null,
            transport: image?.transport ?? null,
            digest,
            version: commit?.version ?? null,
            signature: image?.signature ?? null,
          },
    checksum,
    stateroot,
    pinned: origin?.pinned ?? false,
    layered: phrases.length === 0 && (layered || origin?.rpmOstree === true) ? [UNNAMED] : [...phrases],
  };
}

/** The first claim, completed by those that speak of the same deployment; and who gave the digest. */
function merge(
  role: string,
  claims: readonly Claim[],
  words: string[],
): readonly [DeploymentEntry | null, DeploymentState['via']] {
  const [first] = claims;
  if (first === undefined) return [null, 'none'];
  const known = claims.find(({ checksum }) => checksum !== null);
  const same = claims.filter(({ checksum }) => checksum === null || checksum === known!.checksum);
  for (const other of claims.filter((claim) => !same.includes(claim)))
    words.push(`${known!.who} says that deployment ${known!.checksum} is ${role}, ${other.who} says ${other.checksum}`);
  const told = same.filter(({ image }) => image !== null);
  const digests = told.map((claim) => [claim, normalDigest(claim.image!.digest)] as const);
  const best = digests.find(([, digest]) => digest !== null);
  for (const [claim, digest] of digests) {
    if (digest !== null && digest !== best![1])
      words.push(`${best![0].who} says that the ${role} image is ${best![1]}, ${claim.who} says ${digest}`);
    if (digest !== null && digest !== claim.image!.digest)
      words.push(
        `${claim.who} gives the digest of the ${role} image without "sha256:", as old bootc does; it may be that of no manifest`,
      );
  }
  const pick = (key: 'reference' | 'transport' | 'version' | 'signature'): string | null => {
    const value = told.find(({ image }) => image![key] !== null)?.image![key] ?? null;
    return value === null ? null : clip(value);
  };
  const layered = new Set(same.flatMap((claim) => claim.layered));
  if (layered.size > 1) layered.delete(UNNAMED);
  const entry: DeploymentEntry = {
    image:
      told.length === 0
        ? null
        : {
            reference: pick('reference'),
            transport: pick('transport'),
            digest: best === undefined ? null : clip(best[1]!),
            version: pick('version'),
            signature: pick('signature'),
          },
    checksum: known?.checksum ?? null,
    stateroot: same.find(({ stateroot }) => stateroot !== null)?.stateroot ?? null,
    pinned: same.some(({ pinned }) => pinned),
    layered: [...layered].slice(0, STATE_LIST_MAX).map(clip),
  };
  return [entry, (best?.[0] ?? first).via];
}

/** Old bootc writes bare hex on composefs hosts; anything else stays as it was told. */
function normalDigest(told: string | null): string | null {
  return told !== null && /^[0-9a-f]{64}$/.test(told) ? `sha256:${told}` : told;
}

function decideBackend(told: Told, words: string[]): DeploymentState['backend'] {
  const { bootc, mounts } = told;
  const entry = bootc?.booted;
  const said: (readonly [string, 'ostree' | 'composefs'])[] = [];
  if (told.backend !== null) said.push(['the option', told.backend]);
  if (mounts !== null && mounts.root.backend !== 'unknown') said.push(['the mount of /', mounts.root.backend]);
  if (entry?.ostree) said.push(['bootc', 'ostree']);
  if (entry?.composefs) said.push(['bootc', 'composefs']);
  if (told.rpmOstree?.deployments.some(({ booted }) => booted === true)) said.push(['rpm-ostree', 'ostree']);
  if (told.ostreeBooted !== null) said.push(['/run/ostree-booted', 'ostree']);
  const disk = told.found.find(({ role }) => role === 'booted') ?? told.found[0];
  if (disk !== undefined) said.push(['the disk', disk.backend]);
  const [first] = said;
  if (first === undefined) return 'unknown';
  const other = said.find(([, backend]) => backend !== first[1]);
  if (other !== undefined)
    words.push(`${first[0]} says that the backend is ${first[1]}, ${other[0]} says that it is ${other[1]}`);
  return first[1];
}

/** The kernel's word against that of files and programs. */
function compareMounts(told: Told, booted: DeploymentEntry | null, words: string[]): void {
  const { mounts, bootc, ostreeBooted, kargs } = told;
  if (mounts === null) return;
  const { root, etc } = mounts;
  const shown = [
    ['the mount of /', root.checksum],
    ['the mount of /etc', etc?.checksum ?? null],
  ] as const;
  for (const [who, checksum] of shown)
    if (checksum !== null && booted !== null && booted.checksum !== null && booted.checksum !== checksum)
      words.push(`the booted deployment is said to be ${booted.checksum}, but ${who} shows ${checksum}`);
  const disagree = (what: string, who: string, says: boolean | null | undefined, shows: boolean | null): void => {
    if (typeof says === 'boolean' && shows !== null && says !== shows)
      words.push(`${who} says that / ${says ? 'has' : 'does not have'} ${what}, its mount says otherwise`);
  };
  disagree('verity=require', '/run/ostree-booted', ostreeBooted?.verity, root.verity);
  disagree('a transient upper layer', '/run/ostree-booted', ostreeBooted?.transientRoot, root.transient);
  if (bootc?.booted?.composefs?.missingVerityAllowed === false) disagree('verity=require', 'bootc', true, root.verity);
  const karg = kargValue(kargs, 'composefs')?.replace(/^\?/, '');
  if (root.backend === 'composefs' && karg !== undefined && root.checksum !== null && karg !== root.checksum)
    words.push(
      `the kernel argument composefs= names ${karg}, the mount of / shows ${root.checksum}, as after a soft reboot`,
    );
}

/** Who says that /usr is unlocked, against what lies at /usr. */
function compareOverlays({ mounts, bootc, rpmOstree, found }: Told, words: string[]): void {
  if (mounts === null) return;
  const atUsr = mounts.over.filter(({ path }) => path === '/usr');
  const unlocked = atUsr.some(({ kind }) => kind === 'usr-overlay' || kind === 'hotfix');
  const says = (who: string, told: boolean): void => {
    if (told && atUsr.length === 0) words.push(`${who} says that /usr is unlocked, but no mount lies over it`);
    if (!told && unlocked) words.push(`${who} does not know of the unlocked /usr that the mounts show`);
  };
  // Undefined before bootc 1.14: it could not tell.
  if (bootc?.booted && bootc.usrOverlay !== undefined) says('bootc', bootc.usrOverlay !== null);
  const tool = rpmOstree?.deployments.find(({ booted }) => booted === true)?.unlocked;
  if (typeof tool === 'string') says('rpm-ostree', tool !== 'none');
  const origin = found.find(({ role }) => role === 'booted')?.origin;
  if (origin?.unlocked === 'hotfix' && !atUsr.some(({ kind }) => kind === 'hotfix'))
    words.push('the origin file says that /usr has a hotfix, but no mount shows one');
}
