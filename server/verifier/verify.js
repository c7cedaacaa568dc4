// The page /verify: what was chosen → verifyBundle → a list. All that a bundle says is put in as text, never as markup.
import { sha256 } from '@noble/hashes/sha2.js';
import { config } from 'zod';
import { fromHex } from '#src/bytes.ts';
import { readTrustedRoot, readFingerprint } from '#src/evidence/trustedroot.ts';
import { summaryOf } from '#src/evidence/summary.ts';
import { verifyBundle } from '#src/evidence/verify.ts';
import { treeHash } from '#src/log/proof.ts';

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

const sourceOf = (file) => ({
  size: file.size,
  read: async (from, length) => new Uint8Array(await file.slice(from, from + length).arrayBuffer()),
});
const textsOf = (files) =>
  Promise.all(Array.from(files, async (file) => ({ name: file.name, text: await file.text() })));
const timeOf = (input) => (input.value === '' ? undefined : Date.parse(`${input.value}T00:00:00.000Z`));

async function brought() {
  const file = at('root').files[0];
  const root = file === undefined ? { keys: [], logs: [], witnesses: [] } : readTrustedRoot(await file.text());
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
