/** The agent's settings: who may set what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError, ETC_CONFIG, IMAGE_CONFIG, parseDuration, readConfig } from '#agent/config.ts';
import { throwsCode } from '#test/throws.ts';
import { diskWith } from './memorydisk.ts';

const image = {
  url: 'https://image.example',
  ca: '/usr/lib/ca.pem',
  interval: '30m',
  secretPaths: ['/etc/app/*.token'],
};
const disk = (etc?: object, root = '') =>
  diskWith({
    [root + IMAGE_CONFIG]: JSON.stringify(image),
    ...(etc === undefined ? {} : { [root + ETC_CONFIG]: JSON.stringify(etc) }),
  });

test('without any settings there is an interval, and no server', () => {
  const { digest, ...rest } = readConfig(diskWith({}), {}, {});
  assert.deepEqual(rest, {
    url: null,
    ca: null,
    intervalMs: 900_000,
    secretPaths: [],
    secretPathsId: 'secret-paths/1',
    contents: [],
    rereadMs: 86_400_000,
    gentle: { limits: { cpu: null, io: 60, memory: 20 }, waitMs: 300_000, batteryMs: null },
    root: '/',
    stateFolder: '/var/lib/bootproof',
  });
  assert.match(digest, /^sha256:[0-9a-f]{64}$/);
});

test('the command line goes before the environment, that before /etc, that before the image', () => {
  const etc = { url: 'https://etc.example', interval: '1h' };
  const env = { BOOTPROOF_AGENT_URL: 'https://env.example', HOME: '/root', BOOTPROOF_NODE: 'x' };
  const url = (...args: Parameters<typeof readConfig>) => readConfig(...args).url;
  assert.equal(url(disk(), {}, {}), 'https://image.example');
  assert.equal(url(disk(etc), {}, {}), 'https://etc.example');
  assert.equal(url(disk(etc), env, {}), 'https://env.example');
  assert.equal(url(disk(etc), env, { url: 'https://flag.example' }), 'https://flag.example');
  assert.equal(readConfig(disk(etc), env, { url: undefined }).url, 'https://env.example');
  assert.equal(readConfig(disk(etc), {}, {}).intervalMs, 3_600_000);
  assert.equal(readConfig(disk(etc), {}, {}).ca, '/usr/lib/ca.pem');
});

test('another root has its own settings; the state stays where it is', () => {
  const config = readConfig(disk({ interval: '5m' }, '/srv/host'), {}, { root: '/srv/host/', state: '/srv/state' });
  assert.deepEqual(
    [config.root, config.url, config.intervalMs, config.stateFolder],
    ['/srv/host', image.url, 300_000, '/srv/state'],
  );
});

test('the digest tells settings apart that make other reports, wherever they come from', () => {
  const digest = (...args: Parameters<typeof readConfig>) => readConfig(...args).digest;
  const base = digest(disk(), {}, {});
  assert.equal(digest(disk({ interval: '30m' }), {}, {}), base);
  assert.equal(digest(disk(), {}, { state: '/elsewhere' }), base);
  const others = [
    digest(disk({ interval: '31m' }), {}, {}),
    digest(disk({ url: 'https://other.example' }), {}, {}),
    digest(disk({ ca: '/etc/ca.pem' }), {}, {}),
    digest(diskWith({ [IMAGE_CONFIG]: JSON.stringify({ ...image, secretPaths: [] }) }), {}, {}),
    digest(diskWith({ [IMAGE_CONFIG]: JSON.stringify({ ...image, contents: ['/etc/motd'] }) }), {}, {}),
    digest(disk(undefined, '/srv/host'), {}, { root: '/srv/host' }),
  ];
  assert.equal(new Set([base, ...others]).size, 7);
});

const refused: [string, () => unknown, string, RegExp][] = [
  [
    'a secret path outside the image',
    () => readConfig(disk({ secretPaths: [] }), {}, {}),
    'SETTING_UNKNOWN',
    /secretPaths can be set only inside the image/,
  ],
  [
    'a file whose content may leave, outside the image',
    () => readConfig(disk({ contents: ['/etc/motd'] }), {}, {}),
    'SETTING_UNKNOWN',
    /contents can be set only inside the image/,
  ],
  [
    'content outside /etc',
    () => readConfig(diskWith({ [IMAGE_CONFIG]: '{"contents":["/etc/../root/*"]}' }), {}, {}),
    'SETTINGS_SYNTAX',
    /contents: expected a glob below \/etc/,
  ],
  [
    'an unknown setting in /etc',
    () => readConfig(disk({ exclude: ['/usr'] }), {}, {}),
    'SETTING_UNKNOWN',
    /exclude: no such setting/,
  ],
  [
    'an unknown setting in the image',
    () => readConfig(diskWith({ [IMAGE_CONFIG]: '{"exclude":[]}' }), {}, {}),
    'SETTING_UNKNOWN',
    /exclude/,
  ],
  [
    'an unknown variable',
    () => readConfig(disk(), { BOOTPROOF_AGENT_EXCLUDE: '/usr' }, {}),
    'SETTING_UNKNOWN',
    /BOOTPROOF_AGENT_EXCLUDE/,
  ],
  [
    'what is no JSON',
    () => readConfig(diskWith({ [ETC_CONFIG]: '{' }), {}, {}),
    'SETTINGS_SYNTAX',
    /agent\.json is not JSON/,
  ],
  ['what is no object', () => readConfig(diskWith({ [ETC_CONFIG]: '[]' }), {}, {}), 'SETTINGS_SYNTAX', /agent\.json/],
  ['a number as address', () => readConfig(disk({ url: 1 }), {}, {}), 'SETTINGS_SYNTAX', /url/],
  ['an authority by relative path', () => readConfig(disk({ ca: 'ca.pem' }), {}, {}), 'SETTINGS_SYNTAX', /ca/],
  [
    'a secret path outside /etc',
    () => readConfig(diskWith({ [IMAGE_CONFIG]: '{"secretPaths":["/usr/bin/*"]}' }), {}, {}),
    'SETTINGS_SYNTAX',
    /secretPaths/,
  ],
  ['an interval without unit', () => readConfig(disk({ interval: '15' }), {}, {}), 'SETTING_TIME', /15m/],
];
for (const [name, act, code, words] of refused)
  test(`refuses ${name}, by name`, () => {
    throwsCode(act, ConfigError, code);
    assert.throws(act, words);
  });

const durations: [string, number | null][] = [
  ['1s', 1000],
  ['90s', 90_000],
  ['15m', 900_000],
  ['6h', 21_600_000],
  ['7d', 604_800_000],
  ['8d', null],
  ['0s', null],
  ['', null],
  ['m', null],
  ['1.5h', null],
  ['-1m', null],
  ['15 m', null],
  ['15M', null],
  ['9999999d', null],
];
for (const [text, ms] of durations)
  test(`the time ${JSON.stringify(text)} is ${ms ?? 'refused'}`, () => {
    if (ms === null) throwsCode(() => parseDuration(text), ConfigError, 'SETTING_TIME');
    else assert.equal(parseDuration(text), ms);
  });

test('how gentle a scan is, and how long a digest is kept, is said in the image alone', () => {
  const of = (gentle: object, more: object = {}) =>
    readConfig(diskWith({ [IMAGE_CONFIG]: JSON.stringify({ gentle, ...more }) }), {}, {});
  assert.deepEqual(of({ cpu: 80, io: null, wait: '1m', battery: '30m' }, { reread: '6h' }).gentle, {
    limits: { cpu: 80, io: null, memory: 20 },
    waitMs: 60_000,
    batteryMs: 1_800_000,
  });
  assert.equal(of({}, { reread: '6h' }).rereadMs, 21_600_000);
  assert.equal(of({}, { reread: 'always' }).rereadMs, null);
  for (const [gentle, more, code] of [
    [{ io: 0 }, {}, 'SETTINGS_SYNTAX'],
    [{ io: 100 }, {}, 'SETTINGS_SYNTAX'],
    [{ disk: 5 }, {}, 'SETTING_UNKNOWN'],
    [{ wait: '8d' }, {}, 'SETTING_TIME'],
    [{}, { reread: '8d' }, 'SETTING_TIME'],
    [{}, { reread: 'never' }, 'SETTING_TIME'],
  ] as const)
    throwsCode(() => of(gentle, more), ConfigError, code);
  for (const setting of ['gentle', 'reread'])
    throwsCode(() => readConfig(disk({ [setting]: '1d' }), {}, {}), ConfigError, 'SETTING_UNKNOWN');
});
