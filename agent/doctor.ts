/**
 * What of the agent works on this host: each check says one thing in words, and what to do where it is wrong. Nothing is written, and nothing of
 * the agent's state is locked: it may be at work meanwhile.
 */
import { accessSync, constants, lstatSync, readFileSync, realpathSync, statfsSync } from 'node:fs';
import { isSea } from 'node:sea';
import { parseInstant, type Clock } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { CLOCK_SKEW_MS, STATE_FILE_BYTES_MAX } from '#src/limits.ts';
import { parseServerUrl, type Server } from './post.ts';
import { fingerprintOf, parsePublicKey } from '#src/signing/ed25519.ts';
import { AgentChain } from './chain.ts';
import { AGENT_VERSION, ETC_CONFIG, IMAGE_CONFIG, type AgentConfig } from './config.ts';
import { DiskError, nodeDisk } from './disk.ts';
import { readIdentity, readKey, type Identity } from './identity.ts';
import { KEPT_LOG_FILE, KeptLog } from './keptlog.ts';
import { CommandError, type Exec, type Observed } from './observe.ts';
import { CHAIN_FILE } from './outbox.ts';
import { sizeText } from './present.ts';
import { programDigest } from './program.ts';
import { SPOOL_LIMITS } from './spool.ts';

/** `unknown`: it could not be looked at, or nothing can be said of it here. */
export type Check = {
  readonly name: string;
  readonly state: 'ok' | 'wrong' | 'unknown';
  readonly says: string;
  /** What to do about it; null where nothing is to be done. */
  readonly todo: string | null;
};

type Said = Omit<Check, 'name'>;
const ok = (says: string): Said => ({ state: 'ok', says, todo: null });
const wrong = (says: string, todo: string): Said => ({ state: 'wrong', says, todo });
const unknown = (says: string, todo: string | null = null): Said => ({ state: 'unknown', says, todo });

const errno = (error: unknown): string => {
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string') throw error;
  return code;
};
/** A refusal in its own words; our own mistakes go on. */
const words = (error: unknown): string => {
  if (error instanceof BootproofError) return error.message;
  return `${(error as NodeJS.ErrnoException).path ?? 'a file'}: ${errno(error)}`;
};

/** The bit of CAP_DAC_OVERRIDE and that of CAP_DAC_READ_SEARCH (linux/capability.h). */
const READS_ALL = 0b110n;

/** The program itself: which one it is, and whether somebody would see it changed. */
export function programCheck(): Said {
  if (!isSea())
    return ok(`bootproof agent ${AGENT_VERSION}, from a checkout on Node ${process.versions.node}; ${programDigest()}`);
  const digest = programDigest();
  const path = realpathSync(process.execPath);
  const says = `bootproof agent ${AGENT_VERSION}, ${path}, ${digest}`;
  return path.startsWith('/usr/')
    ? ok(says)
    : wrong(
        `${says}: it lies outside of the image, so nobody sees it changed`,
        'put it into the image (docs/agent.md)',
      );
}

/** `status`: /proc/self/status of this process. */
export function rightsCheck(status = readFileSync('/proc/self/status', 'latin1')): Said {
  const effective = /^CapEff:\s*([0-9a-f]{16})$/m.exec(status)?.[1];
  if (effective === undefined) return unknown('the kernel does not tell what this process may do');
  return (BigInt(`0x${effective}`) & READS_ALL) === 0n
    ? unknown(
        'this user may not read every file, as the service may: what is told below may be less than the service sees',
        'run this command as root',
      )
    : ok('every file can be read, whoever owns it');
}

/** What the hash workers need of node:ffi: without it capabilities of files are not seen. */
export async function libraryCheck(): Promise<Said> {
  try {
    const { dlopen } = await import('node:ffi');
    dlopen('libc.so.6', { lgetxattr: { arguments: ['buffer', 'buffer', 'buffer', 'uint64'], return: 'int64' } });
    return ok('capabilities of files can be read');
  } catch (error) {
    return wrong(
      `capabilities of files cannot be read, and are not compared: ${error instanceof Error ? error.message : String(error)}`,
      'the image needs glibc (libc.so.6)',
    );
  }
}

/** The settings, once they were read; where the server is, is the identity's word too. */
export function settingsCheck(config: AgentConfig, identity: Identity | undefined): Said {
  const url = config.url ?? identity?.url ?? null;
  if (url === null)
    return wrong(
      'no server is set',
      `put { "url": "https://…" } into ${IMAGE_CONFIG} in the image, or ${ETC_CONFIG} on this host; a host without a network uses 'bootproof agent report --out FILE'`,
    );
  try {
    parseServerUrl(url);
  } catch (error) {
    return wrong(words(error), `correct "url" in ${IMAGE_CONFIG} in the image, or in ${ETC_CONFIG} on this host`);
  }
  const minutes = config.intervalMs / 60_000;
  return ok(`the server is ${url}; a report is expected every ${Number(minutes.toFixed(2))} minutes`);
}

/** The folder that the agent writes to. */
export function stateCheck(folder: string, free = freeBytes): Said {
  const owner = 'systemd-tmpfiles --create makes it, with its owner and rights';
  try {
    const stat = lstatSync(folder);
    if (!stat.isDirectory()) return wrong(`${folder} is no folder`, `remove it; ${owner}`);
    if ((stat.mode & 0o077) !== 0)
      return wrong(`${folder} is open to others than its owner, and holds this host's key`, `chmod 0700 ${folder}`);
    accessSync(folder, constants.W_OK | constants.X_OK);
    const bytes = free(folder);
    if (bytes < SPOOL_LIMITS.bytes)
      return wrong(
        `${folder} has ${sizeText(bytes)} left, and reports that wait may need ${sizeText(SPOOL_LIMITS.bytes)}`,
        'make room on that file system',
      );
    return ok(`${folder} can be written; ${sizeText(bytes)} are free`);
  } catch (error) {
    const code = errno(error);
    if (code === 'ENOENT') return wrong(`${folder} is not there`, `${owner}; enrolment makes it as well`);
    if (code === 'EROFS')
      return wrong(`${folder} lies on a read-only file system`, 'mount /var so that it can be written');
    if (code === 'EACCES') return unknown(`${folder} belongs to another user`, 'run this command as root');
    return wrong(`${folder} cannot be looked at: ${code}`, 'see the kernel log: the disk may fail');
  }
}

function freeBytes(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

export type Known = { readonly said: Said; readonly identity?: Identity | undefined };

/** Whether this host is known to its server, and can sign. */
export function identityCheck(folder: string): Known {
  const enrol = `make a token on the server (Settings, Enrolment tokens), and run 'bootproof agent enroll --token-file FILE' (docs/agent.md)`;
  try {
    const identity = readIdentity(nodeDisk, folder);
    const signer = readKey(nodeDisk, folder);
    if (identity === undefined)
      return {
        said: wrong(
          signer === undefined
            ? 'this host is not enrolled'
            : 'this host has a key, and its enrolment was not finished',
          enrol,
        ),
      };
    if (signer === undefined)
      return { identity, said: wrong(`the key of this host is gone (${folder}/host.key)`, `${enrol}, with --again`) };
    if (signer.publicKey !== identity.publicKey)
      return {
        identity,
        said: wrong('the key of this host is not the one that was enrolled', `${enrol}, with --again`),
      };
    if (identity.serverKey === null)
      return {
        identity,
        said: wrong(
          `${identity.host} waits for its server's answer to the enrolment by file`,
          "bring it here: 'bootproof agent import FILE'",
        ),
      };
    const fingerprint = fingerprintOf(parsePublicKey(identity.publicKey));
    return { identity, said: ok(`${identity.host}, enrolled at ${identity.enrolledAt}, key ${fingerprint}`) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES')
      return { said: unknown(`${folder} belongs to another user`, 'run this command as root') };
    return { said: wrong(words(error), enrol) };
  }
}

/** Which image the host runs, and whether it can be seen. */
export function deploymentCheck({ state, mounts, machineId }: Observed): Said {
  const { booted, backend, via, verity, contradictions } = state;
  const digest = booted?.image?.digest ?? null;
  if (digest === null)
    return wrong(
      `nothing tells which image this host booted, so there is nothing to compare with${contradictions.map((text) => `; ${text}`).join('')}`,
      "is it a bootc or OSTree host? 'systemctl start bootproof-status.service' asks bootc; then run this command again",
    );
  if (mounts.length > 0) {
    const hides = state.overlays
      .filter(({ masks }) => masks)
      .map(({ path, kind, detail }) => `${path} (${kind}: ${detail})`);
    return wrong(
      `the image cannot be seen beneath ${(hides.length > 0 ? hides : mounts).slice(0, 5).join(', ')}`,
      'find out who mounted it; a reboot takes away what is not made anew at each boot',
    );
  }
  if (machineId === null)
    return wrong(
      'the machine id is not set yet: two hosts could be taken for one',
      'systemd-machine-id-setup, or a reboot',
    );
  const says = `booted ${digest} (${backend}, says ${via})${verity === true ? ', the kernel checks every file it serves' : ''}`;
  return contradictions.length === 0 ? ok(says) : unknown(`${says}; but ${contradictions.join('; ')}`);
}

/** What was reported, and what became of it. `now` is this host's clock. */
export function reportsCheck(folder: string, intervalMs: number, now: number): Said {
  const start =
    "'systemctl start bootproof-agent.service' makes one now, 'journalctl -u bootproof-agent.service' says what happened";
  let chain: AgentChain | undefined;
  try {
    chain = parsed(`${folder}/${CHAIN_FILE}`, AgentChain);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES')
      return unknown(`${folder} belongs to another user`, 'run this command as root');
    return wrong(words(error), `the next run puts it aside and begins anew; ${start}`);
  }
  const count = (name: string) =>
    nodeDisk.list(`${folder}/spool${name}`).filter((file) => /^[0-9]{16}\./.test(file)).length;
  const waiting = count('');
  const [refused, damaged] = [count('/refused'), count('/corrupt')];
  if (chain === undefined || chain.seq === 0) return wrong('no report was made yet', start);
  const answeredAt = chain.answer === null ? undefined : parseInstant(chain.answer.receivedAt);
  const waits = waiting === 0 ? '' : `; ${waiting} ${waiting === 1 ? 'report waits' : 'reports wait'}`;
  if (refused > 0)
    return wrong(
      `the server refused ${refused} of this host's reports${waits}`,
      `the host's page on the server says why; they lie in ${folder}/spool/refused, and go when you remove them`,
    );
  if (answeredAt === undefined) return wrong(`the server never answered a report of this host${waits}`, start);
  const lateMs = now - answeredAt;
  if (lateMs < -CLOCK_SKEW_MS)
    return wrong(
      `the server's last answer came at ${chain.answer!.receivedAt}, which is in the future: this host's clock went back`,
      'set the clock (chronyc tracking, timedatectl)',
    );
  if (lateMs > 2 * intervalMs)
    return wrong(`the server last answered ${span(lateMs)} ago, at ${chain.answer!.receivedAt}${waits}`, start);
  const lost = damaged === 0 ? '' : `; ${damaged} damaged files were put aside in ${folder}/spool/corrupt`;
  return ok(`${chain.seq} made, the last answer came ${span(Math.max(0, lateMs))} ago${waits}${lost}`);
}

/** What the host keeps of the server's evidence log. */
export function logCheck(folder: string): Said {
  try {
    const kept = parsed(`${folder}/${KEPT_LOG_FILE}`, KeptLog);
    if (kept?.refused)
      return wrong(
        `the server showed this host another log than it knew: ${kept.refused.why}, at ${kept.refused.at}`,
        "somebody changed what was logged, or shows hosts different logs: 'bootproof agent checkpoint --out FILE' keeps the proof for an auditor, --dismiss ends this warning",
      );
    return ok(
      kept?.current ? `its newest checkpoint came at ${kept.current.receivedAt}` : 'no checkpoint was told yet',
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES')
      return unknown(`${folder} belongs to another user`, 'run this command as root');
    return wrong(words(error), 'the next run puts it aside and begins anew');
  }
}

/** @throws {DiskError}; what is not of that form is a refusal too. */
function parsed<T>(file: string, schema: { parse(value: unknown): T }): T | undefined {
  const bytes = nodeDisk.read(file, STATE_FILE_BYTES_MAX);
  if (bytes === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new DiskError('STATE_UNREADABLE', `${file} is damaged`, { cause });
  }
}

/** Whether the server answers, and how far the two clocks are apart. */
export async function serverCheck(server: Server, clock: Clock): Promise<Said> {
  try {
    const { status, headers } = await server.request({ method: 'GET', path: '/livez', limit: 4096 });
    if (status !== 200)
      return unknown(
        `${server.name} answers ${status} to the question whether it lives`,
        'is that the address of a Bootproof server? A proxy before it may let only /api/v1 through',
      );
    const date = Date.parse(headers['date'] ?? '');
    const skewMs = clock() - date;
    if (Math.abs(skewMs) > CLOCK_SKEW_MS)
      return wrong(
        `${server.name} answers, and this host's clock is ${span(Math.abs(skewMs))} ${skewMs > 0 ? 'ahead of' : 'behind'} it`,
        'set the clock (chronyc tracking, timedatectl)',
      );
    return ok(`${server.name} answers${Number.isNaN(date) ? '' : ', and the clocks agree'}`);
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    return wrong(error.message, hint(error.cause));
  }
}

function hint(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? '';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return 'its name cannot be resolved: is there a network, and is the name right?';
  if (code === 'ECONNREFUSED') return 'nothing listens there: does the server run, and is the port right?';
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return 'its certificate is not valid at this time: renew it, or set the clock of this host';
  if (/CERT|SIGNATURE|ISSUER|ALTNAME/.test(code))
    return 'its certificate is not trusted here: name its authority in the setting "ca"';
  return 'is there a way to it (route, firewall, HTTPS_PROXY)? Reports wait on this host meanwhile';
}

const TIMER = 'bootproof-agent.timer';
const SERVICE = 'bootproof-agent.service';

/** The units, as systemd knows them. */
export async function unitsCheck(exec: Exec): Promise<Said> {
  let text: string;
  try {
    const properties = '--property=Id,LoadState,ActiveState,Result';
    text = Buffer.from(await exec('/usr/bin/systemctl', ['show', properties, TIMER, SERVICE])).toString('utf8');
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return unknown(`systemctl ${error.message}: who starts the agent is not known`);
  }
  const units = text
    .split('\n\n')
    .map((block) => new Map(block.split('\n').map((line) => line.split(/=(.*)/s, 2) as [string, string])));
  const timer = units.find((unit) => unit.get('Id') === TIMER);
  const service = units.find((unit) => unit.get('Id') === SERVICE);
  if (timer === undefined || service === undefined) return unknown('systemctl tells nothing of the units of the agent');
  for (const unit of [timer, service]) {
    const [id, state] = [unit.get('Id')!, unit.get('LoadState')];
    if (state === 'masked') return wrong(`${id} is masked: nobody starts the agent`, `systemctl unmask ${id}`);
    if (state !== 'loaded')
      return wrong(`${id} is not in this image (${state})`, 'put it into the image (docs/agent.md)');
  }
  if (timer.get('ActiveState') !== 'active')
    return wrong(`${TIMER} does not run: nobody starts the agent`, `systemctl start ${TIMER}`);
  const result = service.get('Result');
  if (result !== 'success')
    return wrong(
      `the last run ended badly (${result})`,
      `journalctl -u ${SERVICE} says why; systemctl start ${SERVICE} tries again`,
    );
  return ok(`${TIMER} runs, and the last run of the service ended well`);
}

/** `90 seconds`, `14 minutes`, `3 days`: whole, of the largest unit of which there are two. */
export function span(ms: number): string {
  const units: readonly (readonly [string, number])[] = [
    ['days', 86_400_000],
    ['hours', 3_600_000],
    ['minutes', 60_000],
  ];
  const [name, length] = units.find(([, unit]) => ms >= 2 * unit) ?? ['seconds', 1000];
  return `${Math.round(ms / length)} ${name}`;
}
