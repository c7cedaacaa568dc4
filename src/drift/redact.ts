/**
 * Which files are secrets, and what may be said of them (PROTOCOL 1.4). A digest over a secret is an oracle for guessing
 * it, so secrets are compared on the host, and what leaves it shows neither their size nor their digest.
 */
import { fromUtf8, type ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { BACKUP_SUFFIXES_MAX, PATH_BYTES_MAX } from '#src/limits.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { unvis } from '#src/manifest/vis.ts';

export class SecretPathError extends BootproofError<'SECRET_PATH_SYNTAX'> {}

/** Names the list below to the byte: digests of two sides are comparable only under the same id. A change of the list is a new id. */
export const SECRET_PATHS_ID = 'secret-paths/1';

/**
 * Globs below /etc: `?` and `*` stay inside a name, `**` stands for any number of folders, and at the end for
 * everything below. Rather too many than too few: a change of a secret is still seen, only its size and digest stay at home.
 */
export const SECRET_PATHS = [
  // Password hashes, with the copies that passwd tools, PAM and editors leave beside them.
  '/etc/shadow*',
  '/etc/gshadow*',
  '/etc/nshadow*',
  '/etc/.shadow*',
  '/etc/.gshadow*',
  '/etc/tcb/**',
  '/etc/security/opasswd*',
  '/etc/security/pam_duo.conf',
  '/etc/duo/**',
  '/etc/oath/**',
  '/etc/users.oath',
  '/etc/samba/smbpasswd',
  '/etc/samba/*.tdb',
  '/etc/**/.htpasswd*',
  '/etc/**/htpasswd*',
  // Private keys by their usual names and places.
  '/etc/ssh/ssh_host_*',
  '/etc/ssh/*_key*',
  '/etc/ssh/*_ca',
  '/etc/dropbear/**',
  '/etc/**/id_rsa*',
  '/etc/**/id_dsa*',
  '/etc/**/id_ecdsa*',
  '/etc/**/id_ed25519*',
  '/etc/**/private/**',
  '/etc/**/private-keys-v1.d/**',
  '/etc/**/secring.gpg',
  '/etc/**/*.key',
  '/etc/**/*.priv',
  '/etc/**/*.pvk',
  '/etc/**/*.p8',
  '/etc/**/*.p12',
  '/etc/**/*.pfx',
  '/etc/**/*.jks',
  '/etc/**/*.keystore',
  '/etc/**/*.ppk',
  '/etc/**/key.pem',
  '/etc/**/key*.pem',
  '/etc/**/*-key.pem',
  '/etc/**/*_key.pem',
  '/etc/**/*.key.pem',
  '/etc/**/privkey*.pem',
  '/etc/**/key3.db',
  '/etc/**/key4.db',
  '/etc/pki/consumer/**',
  '/etc/pki/entitlement/**',
  '/etc/letsencrypt/accounts/**',
  '/etc/letsencrypt/keys/**',
  '/etc/kubernetes/pki/**',
  '/etc/kubernetes/*.conf',
  '/etc/cockpit/ws-certs.d/**',
  '/etc/cups/ssl/**',
  '/etc/keys/**',
  // Disk, machine and service credentials.
  '/etc/credstore/**',
  '/etc/credstore.encrypted/**',
  '/etc/cryptsetup-keys.d/**',
  '/etc/luks-keys/**',
  '/etc/**/*.keytab',
  '/etc/**/*.keyring',
  '/etc/**/*.secret',
  '/etc/**/*.secrets',
  '/etc/**/secrets/**',
  '/etc/**/*.cred',
  '/etc/**/*.credentials',
  '/etc/**/credentials',
  '/etc/**/*-credentials',
  '/etc/**/.netrc',
  '/etc/netrc',
  '/etc/**/.pgpass',
  '/etc/**/.git-credentials',
  '/etc/**/authkey',
  '/etc/**/pwdfile.txt',
  '/etc/containers/auth.json',
  '/etc/ostree/auth.json',
  '/etc/docker/config.json',
  '/etc/docker/key.json',
  '/etc/rancher/**',
  '/etc/**/*kubeconfig*',
  '/etc/sssd/**',
  '/etc/ldap.secret*',
  '/etc/*ldap.conf',
  '/etc/nslcd.conf',
  '/etc/raddb/**',
  '/etc/freeradius/**',
  '/etc/rndc.key*',
  '/etc/chrony.keys',
  '/etc/chrony/chrony.keys',
  '/etc/ntp.keys',
  '/etc/ntp/keys',
  '/etc/iscsi/**',
  '/etc/nvme/config.json',
  '/etc/snmp/snmpd.conf',
  '/etc/postfix/*passw*',
  '/etc/exim4/passwd.client',
  '/etc/mail/authinfo*',
  '/etc/msmtprc',
  '/etc/ssmtp/ssmtp.conf',
  '/etc/mysql/debian.cnf',
  '/etc/davfs2/secrets',
  '/etc/cups/printers.conf*',
  '/etc/bootproof/token*',
  // Networks: connection profiles hold passwords and keys in clear.
  '/etc/NetworkManager/system-connections/**',
  '/etc/sysconfig/network-scripts/keys-*',
  '/etc/sysconfig/network-scripts/ifcfg-*',
  '/etc/netplan/**',
  '/etc/wpa_supplicant.conf',
  '/etc/wpa_supplicant/**',
  '/etc/iwd/**',
  '/etc/hostapd/**',
  '/etc/wireguard/**',
  '/etc/amnezia/**',
  '/etc/systemd/network/*.netdev',
  '/etc/systemd/network/*.netdev.d/**',
  '/etc/ppp/*-secrets',
  '/etc/ppp/peers/**',
  '/etc/ipsec.d/**',
  '/etc/swanctl/**',
  '/etc/strongswan/**',
  '/etc/openvpn/**',
  '/etc/openfortivpn/**',
  '/etc/tinc/**',
  '/etc/nebula/**',
  '/etc/vpnc/**',
  '/etc/xl2tpd/**',
] as const;

/** Public by their nature, though a glob above takes them. A site's own additions are never excepted. */
const PUBLIC = ['/etc/**/*.pub', '/etc/pki/rpm-gpg/**', '/etc/**/README', '/etc/pki/**/*.crt'];

// A copy beside a secret is as secret: `X~`, `X-`, `X.bak`, `X.rpmsave`, `X.2026-01-01`, `.X.swp` …
const BACKUP_WORD =
  /^\.(?:bak|back|backup|old|orig|org|save|sav|new|tmp|temp|swp|swo|lock|copy|disabled|rpm[a-z]+|dpkg-[a-z]+|ucf-[a-z]+|pac[a-z]+|gz|xz|zst)$/;

/** Whether a path is a secret: on the constant list, or on the site's own (globs that passed `parseSecretPath`). */
export function isSecret(path: ByteString, added: readonly string[] = []): boolean {
  if (!path.startsWith('/etc/')) return false;
  const parts = path.split('/');
  const last = parts.at(-1)!;
  const within = (globs: readonly Glob[], name: ByteString) => {
    const names = name === last ? parts : parts.with(parts.length - 1, name);
    return globs.some((g) => matches(g, path, names));
  };
  if (added.length > 0 && within(added.map(compiled), last)) return true;
  // Globs over whole folders take every name alike, so they are asked once, not for each name without its suffixes.
  const secret = within(SECRET_FOLDERS, last) || namesOf(last).some((name) => within(SECRET_NAMES, name));
  return secret && !within(NOT_SECRET, last);
}

/** Whether one of the globs (`isEtcGlob`) names the path. */
export function isNamed(path: ByteString, globs: readonly string[]): boolean {
  const parts = path.split('/');
  return path.startsWith('/etc/') && globs.some((text) => matches(compiled(text), path, parts));
}

/** Whether a text is a glob below /etc in normal form, as the list above is written. */
export function isEtcGlob(text: string): boolean {
  return (
    text.startsWith('/etc/') &&
    text.length <= PATH_BYTES_MAX &&
    text.isWellFormed() &&
    text.split('/').every((part, i) => (i === 0 ? part === '' : part !== '' && part !== '.' && part !== '..')) &&
    // What other programs read as sets, alternatives or escapes would here be taken literally, and protect nothing.
    !/[\0[\]{}\\]/.test(text) &&
    !/\*\*(?!\/|$)|(?<!\/)\*\*/.test(text)
  );
}

/**
 * A site's own glob, as it may stand in the agent's configuration inside the image.
 * @throws {SecretPathError} unless it names something below /etc in normal form.
 */
export function parseSecretPath(text: string): string {
  if (!isEtcGlob(text))
    throw new SecretPathError(
      'SECRET_PATH_SYNTAX',
      `a secret path is a glob below /etc, such as /etc/app/*.token or /etc/app/keys/**, without [ ] { } and \\; got ${JSON.stringify(text.slice(0, 200))}`,
    );
  return text;
}

/** An entry as it may leave the host although it is a secret: neither size nor digest. */
export function comparisonEntry(entry: Entry): Entry {
  const { size: _size, sha256: _sha256, ...rest } = entry;
  return rest;
}

/** The comparison text of a tree's main text: the same lines, those of secrets without size and digest. */
export function comparisonText(main: string, added: readonly string[] = []): string {
  if (!main.startsWith('./etc')) return main;
  let out = '';
  let from = 0; // start of what was not yet copied
  for (let start = 0; start < main.length;) {
    const end = main.indexOf('\n', start) + 1 || main.length;
    const line = main.slice(start, end);
    const bare = line.replace(CONTENT, '');
    if (bare !== line && isSecret(unvis(line.slice(1, line.indexOf(' '))), added)) {
      out += main.slice(from, start) + bare;
      from = end;
    }
    start = end;
  }
  return out + main.slice(from);
}
const CONTENT = / size=[0-9]+ sha256digest=[0-9a-f]{64}(?=\n)/;

/**
 * A file's name, and what it would be called without the affixes of a backup: after each of the first
 * `BACKUP_SUFFIXES_MAX`, and after all of them. Takes time linear in the name.
 */
function namesOf(name: ByteString): ByteString[] {
  const names = [name];
  let end = name.length;
  let plain = Infinity; // no number begins between here and `end`
  for (let peeled = 0; ; peeled++) {
    const bare = withoutSuffix();
    if (bare === end) break;
    end = bare;
    if (peeled < BACKUP_SUFFIXES_MAX) names.push(name.slice(0, end));
  }
  const bare = name.slice(0, end);
  if (bare !== names.at(-1)) names.push(bare);
  if (bare !== name && bare[0] === '.') names.push(bare.slice(1));
  return names;

  /** Where the longest suffix before `end` begins; `end` if there is none. */
  function withoutSuffix(): number {
    const char = name[end - 1] ?? '';
    if (/[a-z]/.test(char)) {
      const dot = name.lastIndexOf('.', end - 1);
      return dot >= 0 && BACKUP_WORD.test(name.slice(dot, end)) ? dot : end;
    }
    // `.2026-01-01`, `.1.2~`: from the leftmost dot before a digit in the run that ends here. The run is looked through
    // once, however many `-` are then peeled off it.
    const runEnd = char === '~' ? end - 1 : end;
    if (runEnd <= plain) {
      let number = -1;
      let at = runEnd;
      for (; at > 0 && /[0-9.:T_-]/.test(name[at - 1]!); at--)
        if (name[at - 1] === '.' && at < runEnd && /[0-9]/.test(name[at]!)) number = at - 1;
      plain = at;
      if (number >= 0) return number;
    }
    return /[~+-]/.test(char) ? end - 1 : end;
  }
}

/** A glob, cut at slashes; `head` is the folders that every match begins with. */
type Glob = { readonly head: string; readonly parts: readonly Part[] };
/** `**`, a plain name, or a name with wildcards. */
type Part = typeof ANY | string | Wildcards;
/** Cut into characters; `begin` and `end` are what stands before the first and after the last wildcard. */
type Wildcards = { readonly begin: string; readonly end: string; readonly units: readonly string[] };
const ANY = Symbol('**');

function glob(pattern: string): Glob {
  const bytes = fromUtf8(pattern);
  const part = (text: string): Part => {
    if (text === '**') return ANY;
    const literals = text.split(/[*?]/);
    return literals.length === 1 ? text : { begin: literals[0]!, end: literals.at(-1)!, units: text.split('') };
  };
  // At the end, `**` is everything below: one name at least.
  return {
    head: /^[^*?]*\//.exec(bytes)![0],
    parts: bytes
      .replace(/\/\*\*$/, '$&/*')
      .split('/')
      .map(part),
  };
}

const cache = new Map<string, Glob>();
function compiled(pattern: string): Glob {
  let found = cache.get(pattern);
  if (found === undefined) {
    // A site's list is one constant; the bound keeps a server that judges many sites from growing.
    if (cache.size >= 1000) cache.clear();
    cache.set(pattern, (found = glob(pattern)));
  }
  return found;
}

// The last name tells nearly every path from nearly every glob, so it is looked at first.
const matches = ({ head, parts }: Glob, path: ByteString, names: readonly string[]): boolean =>
  path.startsWith(head) && matchName(parts.at(-1)!, names.at(-1)!) && wild(parts, names, ANY, matchName);
const matchName = (part: Part, name: string): boolean =>
  typeof part === 'string'
    ? part === name
    : part !== ANY &&
      name !== '' &&
      // Nearly every name ends here, and cheaply.
      name.startsWith(part.begin) &&
      name.endsWith(part.end) &&
      wild(part.units, name, '*', matchChar);
const matchChar = (unit: string, char: string): boolean => unit === '?' || unit === char;

/**
 * Wildcard matching over a sequence in time pattern × subject at most: after a mismatch only the last star is tried
 * again. Used twice: over the names of a path (the star is `**`) and over the characters of a name (the star is `*`).
 */
function wild<Unit>(
  pattern: readonly Unit[],
  subject: string | readonly string[],
  star: Unit,
  equal: (unit: Unit, item: string) => boolean,
): boolean {
  let p = 0;
  let s = 0;
  let last = -1; // the last star seen, and what it does not yet cover
  let mark = 0;
  while (s < subject.length) {
    const unit = pattern[p];
    if (unit !== undefined && unit === star) {
      last = p++;
      mark = s;
    } else if (unit !== undefined && equal(unit, subject[s]!)) {
      p++;
      s++;
    } else if (last >= 0) {
      p = last + 1;
      s = ++mark;
    } else return false;
  }
  while (pattern[p] === star) p++;
  return p === pattern.length;
}

const SECRET = SECRET_PATHS.map(glob);
const SECRET_FOLDERS = SECRET.filter((_, i) => SECRET_PATHS[i]!.endsWith('/**'));
const SECRET_NAMES = SECRET.filter((_, i) => !SECRET_PATHS[i]!.endsWith('/**'));
const NOT_SECRET = PUBLIC.map(glob);
