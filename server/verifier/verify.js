// The page /verify: what was chosen → verifyBundle → a list. All that a bundle says is put in as text, never as markup.
import { sha256 } from '@noble/hashes/sha2.js';
import { config } from 'zod';
import { fromHex } from '#src/bytes.ts';
import { readTrustedRoot, readFingerprint } from '#src/evidence/trustedroot.ts';
import { summaryOf } from '#src/evidence/summary.ts';
import { verifyBundle } from '#src/evidence/verify.ts';
import { treeHash } from '#src/log/proof.ts';
import { oidOf, readDer, sequenceOf } from '#src/signing/der.ts';

// Compiling checks would need 'unsafe-eval'.
config({ jitless: true });

const at = (id) => document.getElementById(id);

/** Imported keys: a fleet has as many as hosts, and each signs many times. */
const keys = new Map();
async function verify(publicKey, message, signature) {
  let key = keys.get(publicKey);
  if (key === undefined) {
    try {
      key = await crypto.subtle.importKey('raw', fromHex(publicKey), 'Ed25519', false, ['verify']);
    } catch (error) {
      if (error instanceof DOMException && error.name === 'NotSupportedError') throw error;
      return false; // 32 bytes that are no point of the curve: nothing can be signed by them
    }
    if (keys.size >= 20_000) keys.clear();
    keys.set(publicKey, key);
  }
  return crypto.subtle.verify('Ed25519', key, signature, message);
}

const CURVES = { '1.2.840.10045.3.1.7': ['P-256', 32], '1.3.132.0.34': ['P-384', 48], '1.3.132.0.35': ['P-521', 66] };

/** r and s, each as long as the curve's numbers: DER has them as short as they are. */
function rawSignature(der, length) {
  const out = new Uint8Array(2 * length);
  for (const [i, part] of sequenceOf(readDer(der), 'a signature').entries()) {
    const bytes = part.value[0] === 0 ? part.value.subarray(1) : part.value;
    out.set(bytes, (i + 1) * length - bytes.length);
  }
  return out;
}

/** Signatures of timestamps and their certificates. What this browser does not know is not by that key. */
async function verifyBy(spki, { kind, hash }, message, signature) {
  const name = { sha256: 'SHA-256', sha384: 'SHA-384', sha512: 'SHA-512' }[hash];
  try {
    const [type, curve] = sequenceOf(sequenceOf(readDer(spki), 'a key')[0], 'its algorithm');
    const own = { rsa: '1.2.840.113549.1.1.1', ecdsa: '1.2.840.10045.2.1', ed25519: '1.3.101.112' }[kind];
    if (oidOf(type, 'its algorithm') !== own) return false;
    const by = (format) => crypto.subtle.importKey('spki', spki, format, false, ['verify']);
    if (kind === 'ed25519') return await crypto.subtle.verify('Ed25519', await by('Ed25519'), signature, message);
    if (kind === 'rsa') {
      const key = await by({ name: 'RSASSA-PKCS1-v1_5', hash: name });
      return (
        key.algorithm.modulusLength >= 2048 && (await crypto.subtle.verify(key.algorithm, key, signature, message))
      );
    }
    const [namedCurve, length] = CURVES[oidOf(curve, 'its curve')] ?? [];
    if (namedCurve === undefined) return false;
    const key = await by({ name: 'ECDSA', namedCurve });
    return await crypto.subtle.verify({ name: 'ECDSA', hash: name }, key, rawSignature(signature, length), message);
  } catch (error) {
    // Bytes that are no key or no signature.
    if (error instanceof DOMException || error instanceof RangeError || error.code === 'DER_SYNTAX') return false;
    throw error;
  }
}

const sourceOf = (file) => ({
  size: file.size,
  read: async (from, length) => new Uint8Array(await file.slice(from, from + length).arrayBuffer()),
});
const textsOf = (files) =>
  Promise.all(Array.from(files, async (file) => ({ name: file.name, text: await file.text() })));
const timeOf = (input) => (input.value === '' ? undefined : Date.parse(`${input.value}T00:00:00.000Z`));

async function brought() {
  const file = at('root').files[0];
  const root =
    file === undefined ? { keys: [], logs: [], witnesses: [], tsas: [] } : readTrustedRoot(await file.text());
  const key = at('key').value.trim();
  return {
    ...root,
    keys: [...root.keys, ...(key === '' ? [] : [readFingerprint(key)])],
    known: await textsOf(at('known').files),
    consistency: await textsOf(at('consistency').files),
    from: timeOf(at('from')),
    to: timeOf(at('to')),
  };
}

function row(list, mark, text, name) {
  const item = document.createElement('li');
  const strong = document.createElement('strong');
  strong.textContent = mark;
  strong.className = name;
  item.append(strong, ` ${text}`);
  list.append(item);
}

function show(title, text, name) {
  at('outcome').hidden = false;
  at('sum').textContent = title;
  at('sum').className = name;
  at('what').textContent = text;
}

async function check() {
  for (const id of ['steps', 'not']) at(id).replaceChildren();
  at('not-title').hidden = true;
  show('Checking …', 'Large bundles take minutes: every signature in them is checked.', 'open');
  const tell = ({ check: name, ok, detail }) =>
    row(at('steps'), ok ? 'ok' : 'WRONG', `${name}: ${detail}`, ok ? 'right' : 'wrong');
  const result = await verifyBundle(sourceOf(at('bundle').files[0]), await brought(), {
    verify,
    verifyBy,
    sha256: () => sha256.create(),
    tree: treeHash(sha256),
    tell,
  });
  for (const text of result.notChecked) row(at('not'), 'open', text, 'open');
  at('not-title').hidden = result.notChecked.length === 0;
  const { kind, title, text } = summaryOf(result);
  show(title, text, kind === 'holds' ? 'right' : kind === 'fails' ? 'wrong' : 'open');
}

at('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const button = event.submitter;
  button.disabled = true;
  check()
    .catch((error) => {
      const old = error instanceof DOMException && error.name === 'NotSupportedError';
      show(
        'It was not checked',
        old
          ? 'This browser cannot check Ed25519 signatures: a newer one can, and the command bootproof evidence verify.'
          : String(error.message ?? error),
        'wrong',
      );
    })
    .finally(() => {
      button.disabled = false;
      at('sum').scrollIntoView({ block: 'nearest' });
    });
});
