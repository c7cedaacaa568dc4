import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCredentials } from '#src/source/credentials.ts';
import { SourceError } from '#src/source/source.ts';
import { throwsCode } from '#test/throws.ts';

const auth = (text: string) => ({ auth: btoa(text) });
const file = (json: object) => parseCredentials(JSON.stringify(json), 'auth.json');
const find = (auths: object, registry: string, repository = 'a/b/c') => {
  const found = file({ auths }).find(registry, repository);
  return found?.kind === 'password' ? `${found.username}:${found.password}` : found?.token;
};

const found: [string, object, string, string | undefined][] = [
  ['by host', { 'quay.io': auth('u:p') }, 'quay.io', 'u:p'],
  [
    'by the longest namespace',
    { 'quay.io': auth('u:1'), 'quay.io/a/b': auth('u:2'), 'quay.io/a': auth('u:3') },
    'quay.io',
    'u:2',
  ],
  ['by the repository itself', { 'quay.io/a/b/c': auth('u:p') }, 'quay.io', 'u:p'],
  ['with a colon in the password', { 'quay.io': auth('u:p:q') }, 'quay.io', 'u:p:q'],
  ["by docker's URL", { 'https://quay.io/v1/': auth('u:p') }, 'quay.io', 'u:p'],
  ["by docker's name of the Hub", { 'https://index.docker.io/v1/': auth('u:p') }, 'docker.io', 'u:p'],
  ['with the port', { 'localhost:5000': auth('u:p') }, 'localhost:5000', 'u:p'],
  ['as a refresh token', { 'quay.io': { ...auth('u:p'), identitytoken: 'tok' } }, 'quay.io', 'tok'],
  ['as plain fields', { 'quay.io': { username: 'u', password: 'p' } }, 'quay.io', 'u:p'],
  ['with the NUL bytes that docker pads with', { 'quay.io': auth('u:p\0\0') }, 'quay.io', 'u:p'],
  ['not for a longer host', { 'quay.io': auth('u:p') }, 'quay.io.evil.example', undefined],
  ['not for a subdomain', { 'quay.io': auth('u:p') }, 'x.quay.io', undefined],
  ['not for a host inside another', { 'x.quay.io': auth('u:p') }, 'quay.io', undefined],
  ['not for another port', { 'quay.io': auth('u:p') }, 'quay.io:8443', undefined],
  ['not for half a namespace', { 'quay.io/a/bb': auth('u:p') }, 'quay.io', undefined],
  ['not where a helper holds it', { 'quay.io': {} }, 'quay.io', undefined],
];
for (const [name, auths, registry, expected] of found)
  test(`credentials are found ${name}`, () => assert.equal(find(auths, registry), expected));

test('a helper is named, not run', () => {
  assert.equal(file({ credHelpers: { 'quay.io': 'pass' } }).helper('quay.io'), 'pass');
  assert.equal(file({ credsStore: 'desktop' }).helper('quay.io'), 'desktop');
  assert.equal(file({ credsStore: '' }).helper('quay.io'), undefined);
});

test('a malformed file is refused without a word of what it holds', () => {
  for (const text of ['hunter2', '{"auths":{"quay.io":{"auth":7}}}', '{"auths":["hunter2"]}'])
    assert.throws(
      () => parseCredentials(text, 'auth.json'),
      (error) =>
        error instanceof SourceError && error.code === 'CREDENTIALS_SYNTAX' && !error.message.includes('hunter2'),
    );
  throwsCode(() => find({ 'quay.io': { auth: 'aHVudGVyMg==' } }, 'quay.io'), SourceError, 'CREDENTIALS_SYNTAX');
  throwsCode(() => find({ 'quay.io': { auth: '***' } }, 'quay.io'), SourceError, 'CREDENTIALS_SYNTAX');
});
