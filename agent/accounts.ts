/**
 * What policy needs to know of accounts, worked out on the host so that /etc/passwd and /etc/shadow need not leave it
 * (PROTOCOL 3.10): the deployed passwd held against the image's own in /usr/etc.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { compareBytes, toUtf8, type ByteString } from '#src/bytes.ts';
import { ACCOUNT_FILE_BYTES_MAX, ACCOUNT_NAME_MAX, PATH_BYTES_MAX, REPORT_LIST_MAX } from '#src/limits.ts';
import type { Account, Accounts } from '#src/report/report.ts';
import { printable } from '#src/terminal.ts';

/**
 * Accounts of the root that differ from its image's. Null where that cannot be told: no passwd on either side, or a file
 * that is there and cannot be read.
 */
export function readAccounts(root: ByteString): Accounts | null {
  const now = accountsIn(`${root}/etc`);
  const image = accountsIn(`${root}/usr/etc`);
  return now === null || image === null ? null : compareAccounts(image, now);
}

export function compareAccounts(image: ReadonlyMap<string, Account>, now: ReadonlyMap<string, Account>): Accounts {
  const cut = (accounts: Account[]) => accounts.sort((a, b) => compareBytes(a.name, b.name)).slice(0, REPORT_LIST_MAX);
  const differs = (a: Account, b: Account) =>
    a.uid !== b.uid || a.gid !== b.gid || a.shell !== b.shell || a.hasPassword !== b.hasPassword;
  return {
    added: cut([...now.values()].filter(({ name }) => !image.has(name))),
    removed: cut([...image.values()].filter(({ name }) => !now.has(name))),
    changed: cut(
      [...now.values()].filter((account) => image.has(account.name) && differs(account, image.get(account.name)!)),
    ),
  };
}

function accountsIn(folder: ByteString): Map<string, Account> | null {
  const passwd = readSmall(`${folder}/passwd`);
  const shadow = readSmall(`${folder}/shadow`);
  // Without shadow no account of passwd's `x` has a password; a shadow that cannot be read is not known.
  return passwd === null || passwd === undefined || shadow === null ? null : parseAccounts(passwd, shadow ?? '');
}

/** passwd(5) and shadow(5). Lines that are no account are passed over, as getpwent does; of two by one name the first counts. */
export function parseAccounts(passwd: ByteString, shadow: ByteString): Map<string, Account> {
  const hashes = new Map<string, string>();
  for (const line of shadow.split('\n')) {
    const [name = '', hash] = line.split(':');
    if (hash !== undefined && !hashes.has(name)) hashes.set(name, hash);
  }
  const out = new Map<string, Account>();
  for (const line of passwd.split('\n')) {
    const [name = '', field = '', uid = '', gid = '', , , shell = ''] = line.split(':');
    if (name === '' || !/^[0-9]{1,10}$/.test(uid) || !/^[0-9]{1,10}$/.test(gid)) continue;
    const key = text(name).slice(0, ACCOUNT_NAME_MAX);
    const hash = field === 'x' ? (hashes.get(name) ?? '!') : field;
    const shown = text(shell).slice(0, PATH_BYTES_MAX);
    if (!out.has(key))
      out.set(key, { name: key, uid: Number(uid), gid: Number(gid), shell: shown, hasPassword: !/^[!*]/.test(hash) });
  }
  return out;
}

const text = (bytes: ByteString): string => toUtf8(bytes) ?? printable(bytes);

/** A file's bytes; undefined where there is none, null where it cannot be read, is no regular file or too large. */
function readSmall(path: ByteString): ByteString | undefined | null {
  let fd: number;
  try {
    fd = openSync(Buffer.from(path, 'latin1'), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : null;
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size > ACCOUNT_FILE_BYTES_MAX) return null;
    const bytes = Buffer.alloc(stat.size);
    let length = 0;
    for (let n = -1; n !== 0 && length < bytes.length; length += n)
      n = readSync(fd, bytes, length, bytes.length - length, null);
    return bytes.toString('latin1', 0, length);
  } catch {
    return null; // an I/O error: what the file says is not known, and the scan has named it as a hole
  } finally {
    closeSync(fd);
  }
}
