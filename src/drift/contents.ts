/**
 * Content of /etc text files as it may leave a host (docs/report.md 1.12), and as a server keeps it of images: which bytes are a text, and
 * which betray a secret whatever their file is called.
 */
import { CONTENT_BYTES_MAX } from '#src/limits.ts';

/**
 * Why the content of a file that the agent's configuration names did not leave the host. `secret`: it holds what looks like one, or is a copy of
 * one; `linked`: the file has other names, and one of them may be a secret; `unsteady`: it changed, or could not be read again, after
 * the scan; `limit`: the report carries as much as it may.
 */
export const OMISSIONS = ['secret', 'too-large', 'not-text', 'linked', 'unsteady', 'limit'] as const;
export type Omission = (typeof OMISSIONS)[number];

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A file's text, or why it is none that may leave. */
export function textOf(
  bytes: Uint8Array,
): { readonly text: string } | { readonly omitted: Extract<Omission, 'too-large' | 'not-text' | 'secret'> } {
  if (bytes.length > CONTENT_BYTES_MAX) return { omitted: 'too-large' };
  if (bytes.includes(0)) return { omitted: 'not-text' };
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    return { omitted: 'not-text' };
  }
  return betraysSecret(text) ? { omitted: 'secret' } : { text };
}

/** Each run is bounded, so that the time is linear in the text. */
const SECRETS = [
  /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY/,
  /PuTTY-User-Key-File-[0-9]/,
  /AGE-SECRET-KEY-1/,
  // crypt(5), GRUB, LDAP.
  /\$(?:1|2[abxy]?|5|6|7|8|y|gy|sm3|md5|sha1|scrypt|argon2(?:i|d|id)|pbkdf2[a-z0-9-]{0,10})\$[./A-Za-z0-9$=,+-]{8}/,
  /grub\.pbkdf2\./,
  /\{(?:S?SHA[0-9]{0,3}|S?MD5|CRYPT|PBKDF2[A-Z0-9-]{0,10})\}[./A-Za-z0-9+$=]{8}/i,
  // An address with its password.
  /[a-z][a-z0-9+.-]{0,20}:\/\/[^\s/:@]{0,100}:[^\s/@]{1,200}@/i,
  /\b(?:basic|bearer)[ \t]{1,8}[A-Za-z0-9._~+/=-]{16}/i,
  // Tokens that say of themselves what they are: AWS, GitHub, GitLab, Slack, JSON Web Tokens.
  /\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[opsur]_[A-Za-z0-9]{30}|github_pat_|glpat-|xox[abprs]-)/,
  /\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]/,
  // Addresses that are all that is asked for: Slack and Mattermost, Discord, Teams, Telegram, Google Chat, signed ones.
  /https?:\/\/[^\s/]{1,200}\/(?:[^\s/]{1,100}\/){0,5}(?:web)?hooks?\d?\/[^\s/]{1,200}/i,
  /\bhooks\.slack\.com\/(?:services|workflows|triggers)\/[^\s/]/i,
  /\bapi\.telegram\.org\/bot[0-9]/i,
  /https?:\/\/[^\s?]{1,500}\?[^\s]{0,500}?\b(?:key|sig|signature)=[A-Za-z0-9%_.~+/-]{12}/i,
  // SNMP: a community is a password; users are made with theirs.
  /^[ \t]{0,40}(?:(?:snmp-server[ \t]{1,20})?community|(?:r[ow]|trap)community6?|com2sec6?|createUser|usmUser)[ \t]{1,20}\S/im,
  /^[ \t]{0,40}(?:trap2?|inform)sink[ \t]{1,20}[^\s#]{1,300}[ \t]{1,20}[^\s#]/im,
] as const;

/**
 * Words after which a secret stands. `pass` and `pw` are parts of many others: whole, or behind what they are usually written with; what nginx
 * passes on to is none.
 */
const KEY = String.raw`(?:api|access|auth|private|secret|encryption|shared|preshared)[ _-]?key`;
const OF = 'require|master|auth|user|bind|root|admin|manager|ldap|db|store';
const PASS = String.raw`(?<!(?:proxy|fastcgi|uwsgi|scgi|grpc|memcached)_)(?:(?<![a-z])|${OF})pass`;
const WORDS = String.raw`password|passphrase|passcode|psk|secret|credential|token|${KEY}`;
const PW = String.raw`(?:(?<![a-z])|${OF})pw`;
/** `secret_id`, `token-value`. */
const MORE = String.raw`(?:[_-]?(?:id|value|hash))?`;

/** `password = …`, `"apiKey": …`; a word that only says yes or no is none. After `passwd`, a colon is nsswitch's and sudo's. */
const NAMED = new RegExp(
  String.raw`(?:pass(?:wd(?=["']?[ \t]{0,20}=))|pwd(?=["']?[ \t]{0,20}=)|${WORDS}|${PASS}|${PW})s?${MORE}["']?[ \t]{0,20}(?:=>|:=|=|:)[ \t]{0,20}["']?([^\s"']{1,64})`,
  'gi',
);
/** The last word of a line, behind the kind of a router's password perhaps: `password 7 08314D5D1A`. */
const LAST = String.raw`[ \t]{1,20}(?:[0-9]{1,2}[ \t]{1,20})?["']?([^\s"']{1,200})["']?;?[ \t]{0,20}\r?$`;
/** `bindpw …`, `requirepass …`, `api-key …`: a word of these begins the line, and one more ends it. Prose in remarks has more of them. */
const BEGINS = new RegExp(
  String.raw`^[ \t]{0,40}[\w.-]{0,40}?(?:${WORDS}|${PASS}|masterauth|${PW})s?${MORE}${LAST}`,
  'gim',
);
/** `neighbor 192.0.2.1 password …`, `--token …`: in small letters, on a line that is no remark. */
const WITHIN = new RegExp(
  String.raw`^(?![ \t]{0,40}(?:[#;!]|//))[^\n]{1,300}?(?<=[ \t'"-])(?:${WORDS}|${PW})${LAST}`,
  'gm',
);
const NO_VALUE =
  /^(?:yes|no|true|false|on|off|none|null|nil|required|requisite|optional|sufficient|files|sss|compat|db|nis|ldap|systemd|include|substack|prompt|ask|[;,#()[{}\]].*)$/i;

/**
 * Whether a text holds what looks like a secret. A net under the list of paths, not a promise: a password without a word before it looks like any
 * other word. Rather too often than too seldom.
 */
export function betraysSecret(text: string): boolean {
  if (SECRETS.some((pattern) => pattern.test(text))) return true;
  for (const pattern of [NAMED, BEGINS, WITHIN])
    for (const [, value] of text.matchAll(pattern)) if (!NO_VALUE.test(value!)) return true;
  return false;
}
