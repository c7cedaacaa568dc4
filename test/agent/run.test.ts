/** One cycle of the agent, against a server on loopback that judges by the checks of docs/report.md. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { formatInstant } from '#src/clock.ts';
import { digestOf, type Digest } from '#src/digest.ts';
import { compareTexts } from '#src/drift/compare.ts';
import { comparisonText } from '#src/drift/redact.ts';
import { TREES, type TreeName } from '#src/manifest/entry.ts';
import { printVerity } from '#src/manifest/verity.ts';
import { MANIFEST_HEADER_TYPE, type ManifestHeader, type TreeTexts } from '#src/manifest/header.ts';
import type { KnownManifest } from '#src/report/contradict.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { envelopeJson, signEnvelope } from '#src/signing/dsse.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { EXIT } from '#src/terminal.ts';
import { readBearer, VERITY_TYPE, type VerityHeader } from '#src/wire/manifests.ts';
import { ruleInPath } from '#src/wire/paths.ts';
import { problem } from '#src/wire/problem.ts';
import { AgentChain, NEW_CHAIN } from '#agent/chain.ts';
import { marked, ScanStopped } from '#agent/brokenscan.ts';
import { GENTLE, type AgentConfig } from '#agent/config.ts';
import type { Disk } from '#agent/disk.ts';
import type { Identity } from '#agent/identity.ts';
import type { Observed } from '#agent/observe.ts';
import { Server } from '#agent/post.ts';
import { programDigest } from '#agent/program.ts';
import { cycle, type Cycle, type RunAbout } from '#agent/run.ts';
import type { Scan, ScanOptions } from '#agent/scan.ts';
import { manifest as vector, serverSigner, someDigest, tokenSigner } from '../src/report/vectors.ts';
import { FOLDER, full, HOST, INTERVAL, keys, MINUTE, ModelServer, seeded, signer, T0, ticketKeys } from './fixture.ts';
import { json, serve, type Reply, type Seen } from './httpserver.ts';
import { diskWith } from './memorydisk.ts';

type Trees = Record<TreeName, TreeTexts>;
const IMAGE = vector.header.image;

/** The manifest of some trees, as a server builds it. */
function known(trees: Trees, rule = 'ostree/1', image: Digest = IMAGE): KnownManifest {
  const tree = ({ main, extra }: TreeTexts) => ({
    main: { full: digestOf(main), comparison: digestOf(comparisonText(main)) },
    extra: digestOf(extra),
    entries: main.split('\n').length - 1,
  });
  const header: ManifestHeader = {
    ...vector.header,
    image,
    rule,
    trees: { usr: tree(trees.usr), etc: tree(trees.etc) },
  };
  return { header, texts: (name) => Promise.resolve(trees[name]) };
}

/** A host that holds these trees, scanned as the real scan scans. */
const scanOf =
  (actual: () => Trees, scans: ScanOptions[]) =>
  (options: ScanOptions): Promise<Scan> => {
    scans.push(options);
    const found = TREES.map((name) => {
      const given = options.expected?.trees[name];
      const expected = given && { main: Array.from(given.main).join(''), extra: given.extra! };
      const { drift, secrets } =
        expected === undefined ? { drift: [], secrets: [] } : compareTexts(expected, actual()[name]);
      const { main, extra } = actual()[name];
      const digests = { main: digestOf(comparisonText(main)), extra: digestOf(extra) };
      return {
        drift,
        secrets,
        scan: { ...digests, entries: main.split('\n').length - 1, holes: [], holesCapped: false },
      };
    });
    const [usr, etc] = found as [(typeof found)[0], (typeof found)[0]];
    return Promise.resolve({
      trees: { usr: usr.scan, etc: etc.scan },
      drift: [...etc.drift, ...usr.drift],
      truncated: null,
      secrets: etc.secrets,
      accounts: null,
      contents: [],
      notes: [],
      stats: { files: 1, bytes: 1, seconds: 1, peakRssBytes: 1, cached: null, measured: 0, read: 1 },
    });
  };

/** A host with its agent, and the server that it reports to. */
class World {
  readonly model = new ModelServer();
  readonly disk = diskWith({ [`${FOLDER}/chain.json`]: JSON.stringify(NEW_CHAIN) });
  readonly said: string[] = [];
  readonly scans: ScanOptions[] = [];
  readonly asked: string[] = [];
  now = T0 + MINUTE;
  trees: Trees = vector.trees;
  booted: string | null = IMAGE;
  down = false;
  /** What the server does with a request for a manifest instead of answering it. */
  manifestReply: ((seen: Seen) => Reply | Promise<Reply> | undefined) | undefined;
  answerReply: ((reply: Reply) => Reply) | undefined;
  headerSigner = serverSigner;
  /** The fs-verity digests that the server tells, what its header says of them, and who signs it. */
  verity: { readonly text: string; readonly says?: Partial<VerityHeader>; readonly signer?: Signer } | undefined;
  verityRequired = false;

  constructor() {
    this.model.manifests = [known(vector.trees)];
  }

  readonly handle = async (seen: Seen): Promise<Reply | undefined> => {
    this.model.now = this.now;
    this.asked.push(seen.path);
    if (seen.path === '/api/v1/reports') {
      const posted = await this.model.post(seen.body);
      if (posted.kind === 'accepted') return (this.answerReply ?? ((reply) => reply))(json(posted.answer));
      assert.ok(posted.kind === 'refused');
      return json(posted.problem, posted.problem.status);
    }
    const bearer = /^Bearer (.*)$/.exec(seen.headers.authorization ?? '')?.[1] ?? '';
    if (readBearer(bearer, this.now, ticketKeys) !== HOST) return json(problem('BEARER_INVALID', 'no bearer'), 401);
    return (await this.manifestReply?.(seen)) ?? this.#manifest(seen.path);
  };

  async #manifest(path: string): Promise<Reply> {
    const [, , , , digest = '', rule, tree, part] = decodeURIComponent(path.split('?')[0]!).split('/');
    const all = this.model.manifests.filter(({ header }) => [header.image, header.config].includes(digest as Digest));
    if (rule === undefined) {
      if (all.length === 0) return json(problem('MANIFEST_UNKNOWN', 'no such image'), 404);
      const signed = all.map(({ header }) =>
        signEnvelope(MANIFEST_HEADER_TYPE, canonicalJson(header), this.headerSigner),
      );
      const headers = (await Promise.all(signed)).map(envelopeJson);
      return json({ headers, ...(this.verity && { verity: await this.#verityHeader(this.verity) }) });
    }
    if (rule === 'verity') return { body: Buffer.from(this.verity!.text) };
    const texts = await all.find(({ header }) => ruleInPath(header.rule) === rule)!.texts(tree as TreeName);
    const text = Buffer.from(texts[part as 'main' | 'extra'], 'latin1');
    return part === 'main'
      ? { headers: { 'content-encoding': 'zstd' }, body: zstdCompressSync(text) }
      : { headers: { 'content-encoding': 'gzip' }, body: gzipSync(text) };
  }

  async #verityHeader({ text, says = {}, signer = this.headerSigner }: NonNullable<World['verity']>) {
    const document = { format: 'bootproof.verity/1', image: IMAGE, text: digestOf(text), bytes: text.length, ...says };
    return envelopeJson(await signEnvelope(VERITY_TYPE, canonicalJson(document), signer));
  }

  async cycle(change: Partial<RunAbout> = {}): Promise<Cycle> {
    await using http = await serve(this.handle);
    const url = this.down ? 'http://127.0.0.1:1' : http.url;
    const server = change.out === undefined ? new Server({ url }) : null;
    const observed: Observed = {
      state: {
        ...full.document.deployment,
        verity: this.verityRequired,
        booted: {
          ...full.document.deployment.booted!,
          image: { ...full.document.deployment.booted!.image!, digest: this.booted },
        },
      },
      mounts: [],
      bootId: full.document.bootId,
      machineId: null,
      hostname: 'web-1',
    };
    const config: AgentConfig = {
      url,
      ca: null,
      intervalMs: INTERVAL,
      secretPaths: [],
      contents: [],
      rereadMs: null,
      gentle: GENTLE,
      root: '/',
      stateFolder: FOLDER,
      digest: someDigest(9),
    };
    const identity: Identity = {
      version: 1,
      host: HOST,
      url,
      serverKey: keys.server.publicKey,
      publicKey: keys.host.publicKey,
      enrolledAt: formatInstant(T0),
      challenge: full.document.challenge,
      manifestBearer: this.model.answer(1, 'advance').manifestBearer,
    };
    try {
      return await cycle(
        {
          disk: this.disk,
          clock: () => this.now,
          random: seeded(1),
          sleep: () => Promise.resolve(),
          verify: verifyInPool,
          say: (sentence) => Promise.resolve(void this.said.push(sentence)),
          observe: () => Promise.resolve(observed),
          scan: scanOf(() => this.trees, this.scans),
          server,
        },
        { config, identity, signer, ...change },
      );
    } finally {
      server?.close();
    }
  }

  get last() {
    const outcome = this.model.outcomes.at(-1);
    assert.ok(outcome?.kind === 'accepted', JSON.stringify(outcome));
    return outcome;
  }
}

const altered: Trees = {
  usr: {
    ...vector.trees.usr,
    main: vector.trees.usr.main.replace('true type=file mode=0755', 'true type=file mode=4755'),
  },
  etc: {
    ...vector.trees.etc,
    main: vector.trees.etc.main.replace(/\.\/etc\/hosts .*\n/, '').replace(/(shadow .*sha256digest=)../, '$1aa'),
  },
};

test('a host that is its image: a full report, then `same`; headers and texts are fetched once', async () => {
  const w = new World();
  const first = await w.cycle();
  assert.deepEqual([first.exit, first.report.kind, first.again], [EXIT.ok, 'full', false]);
  assert.deepEqual(first.comparedWith, { image: IMAGE, rule: 'ostree/1' });
  assert.deepEqual(
    [w.last.effect, w.last.fresh, w.last.flags, w.last.consistency],
    ['advance', true, [], 'consistent'],
  );
  assert.equal(first.next, w.now + INTERVAL);
  w.now += INTERVAL;
  const second = await w.cycle();
  assert.deepEqual([second.exit, second.report.kind], [EXIT.ok, 'same']);
  assert.deepEqual([w.last.effect, w.last.fresh, w.last.consistency], ['advance', true, 'same']);
  assert.deepEqual(
    w.asked.filter((path) => path.includes('manifests')).length,
    4,
    'headers and three texts: that of nothing needs no fetch',
  );
  assert.equal(w.scans.length, 2);
});

test('an altered host: its report follows from the manifest, and tells secrets only by their state', async () => {
  const w = new World();
  w.trees = altered;
  const done = await w.cycle();
  assert.equal(done.exit, EXIT.different);
  assert.equal(w.last.consistency, 'consistent');
  const [report] = w.model.reports;
  assert.ok(report?.kind === 'full');
  assert.equal(report.agent.executable, programDigest(), 'which program said so (PROTOCOL 4)');
  assert.deepEqual(
    report.drift.map(({ path, change, attributes }) => [path, change, attributes.join()]),
    [
      ['/etc/hosts', 'removed', ''],
      ['/usr/bin/true', 'modified', 'mode'],
    ],
  );
  assert.deepEqual(report.secrets, [{ path: '/etc/shadow', state: 'differs' }]);
});

test('what changes on the host ends `same`, and what changes back needs a full report again', async () => {
  const w = new World();
  for (const trees of [vector.trees, vector.trees, altered, altered, vector.trees]) {
    w.trees = trees;
    await w.cycle();
    w.now += INTERVAL;
  }
  assert.deepEqual(
    w.model.reports.map(({ kind }) => kind),
    ['full', 'same', 'full', 'same', 'full'],
  );
});

test('a host of another importer: its rule is found by a second scan, and remembered', async () => {
  const w = new World();
  const older: Trees = { ...vector.trees, usr: { ...vector.trees.usr, extra: '' } };
  w.model.manifests = [known(vector.trees), known(older, 'ostree/1-noxattr')];
  w.trees = older;
  const first = await w.cycle();
  assert.deepEqual(first.comparedWith, { image: IMAGE, rule: 'ostree/1-noxattr' });
  assert.deepEqual([first.exit, w.last.consistency, w.scans.length], [EXIT.ok, 'consistent', 2]);
  w.now += INTERVAL;
  await w.cycle();
  assert.equal(w.scans.length, 3);
  w.trees = { ...altered, usr: { ...altered.usr, extra: '' } };
  w.now += INTERVAL;
  const drifted = await w.cycle();
  assert.deepEqual(drifted.comparedWith, { image: IMAGE, rule: 'ostree/1-noxattr' }, 'the rule that once fitted stays');
});

test('while the manifest is being built the report goes out without one, and a full one follows when asked for', async () => {
  const w = new World();
  w.manifestReply = () => json({ retryAfter: 5 }, 202);
  w.answerReply = (reply) => ({ ...reply, body: String(reply.body).replace('"want":"same"', '"want":"full"') });
  const first = await w.cycle();
  assert.deepEqual([first.exit, w.last.consistency], [EXIT.unknown, 'unchecked']);
  assert.match(JSON.stringify(first.comparedWith), /still building/);
  w.manifestReply = undefined;
  w.now += INTERVAL;
  const second = await w.cycle();
  assert.deepEqual([second.exit, second.report.kind, w.last.consistency], [EXIT.ok, 'full', 'consistent']);
});

const substitutions: [string, (w: World) => void, RegExp][] = [
  ['headers signed by another key', (w) => void (w.headerSigner = tokenSigner), /not signed by its key/],
  [
    'the headers of another image',
    (w) =>
      void (w.manifestReply = async (seen) =>
        seen.path.includes('?') ? headersOf(known(vector.trees, 'ostree/1', someDigest(5))) : {}),
    /for another image/,
  ],
  [
    'another text',
    (w) => void (w.manifestReply = (seen) => (seen.path.endsWith('usr/main') ? { body: altered.usr.main } : undefined)),
    /not the one in the signed header/,
  ],
  [
    'a redirect',
    (w) => void (w.manifestReply = () => ({ status: 302, headers: { location: 'http://127.0.0.1:1/' } })),
    /sends elsewhere/,
  ],
  ['headers that are none', (w) => void (w.manifestReply = () => json({ headers: [] })), /no list of headers/],
  [
    'a refusal',
    (w) => void (w.manifestReply = () => json(problem('IMAGE_SOURCE_NOT_ALLOWED', 'not from there'), 403)),
    /IMAGE_SOURCE_NOT_ALLOWED/,
  ],
];
async function headersOf(...manifests: KnownManifest[]): Promise<Reply> {
  const signed = manifests.map(({ header }) => signEnvelope(MANIFEST_HEADER_TYPE, canonicalJson(header), serverSigner));
  return json({ headers: (await Promise.all(signed)).map(envelopeJson) });
}
for (const [name, prepare, words] of substitutions)
  test(`a server that sends ${name} passes nothing off: the report goes out without a comparison`, async () => {
    const w = new World();
    prepare(w);
    const done = await w.cycle();
    assert.ok('none' in done.comparedWith);
    assert.match(done.comparedWith.none, words);
    assert.deepEqual([done.exit, w.last.consistency], [EXIT.unknown, 'unchecked']);
    // What comes right afterwards is taken: nothing false was kept.
    w.manifestReply = undefined;
    w.headerSigner = serverSigner;
    w.now += INTERVAL;
    assert.equal((await w.cycle()).exit, EXIT.ok);
  });

test('kept manifests serve while the server is away, are proved again, and go when no image needs them', async () => {
  const w = new World();
  await w.cycle();
  w.down = true;
  w.now += 30 * 3600_000;
  const alone = await w.cycle();
  assert.deepEqual([alone.exit, alone.comparedWith], [EXIT.unknown, { image: IMAGE, rule: 'ostree/1' }]);
  assert.equal(alone.delivery?.waiting, 1);

  w.down = false;
  const texts = [...w.disk.files()].filter(([path]) => path.includes('/text-'));
  for (const [path, content] of texts) {
    w.disk.unlink(path);
    w.disk.create(
      path,
      content.map((byte) => byte ^ 1),
      0o600,
    );
  }
  w.asked.length = 0;
  w.now += INTERVAL;
  assert.equal((await w.cycle()).exit, EXIT.ok);
  assert.ok(
    w.asked.some((path) => path.endsWith('usr/main')),
    'a damaged text is fetched again',
  );

  const update = known(
    { ...vector.trees, etc: { main: './etc type=dir mode=0755 uid=0 gid=0\n', extra: '' } },
    'ostree/1',
    someDigest(6),
  );
  w.model.manifests.push(update);
  w.booted = someDigest(6);
  w.now += INTERVAL;
  const updated = await w.cycle();
  assert.deepEqual(updated.comparedWith, { image: someDigest(6), rule: 'ostree/1' });
  const kept = [...w.disk.files().keys()].filter((path) => path.includes('/manifests/'));
  assert.ok(!kept.some((path) => path.endsWith(vector.header.trees.etc.main.full.slice(7))));
  assert.equal(kept.filter((path) => path.includes('/headers-')).length, 1);
});

test('bare hex and a config digest are the image under another name', async () => {
  for (const booted of [IMAGE.slice('sha256:'.length), vector.header.config]) {
    const w = new World();
    w.booted = booted;
    w.manifestReply = (seen) => (seen.path.includes('?') ? headersOf(known(vector.trees)) : undefined);
    assert.deepEqual((await w.cycle()).comparedWith, { image: IMAGE, rule: 'ostree/1' });
  }
});

test('a host that does not tell its image reports its digests alone', async () => {
  const w = new World();
  w.booted = null;
  const done = await w.cycle();
  assert.equal(done.exit, EXIT.unknown);
  assert.deepEqual(w.asked, ['/api/v1/reports']);
});

test('the server was away: what waited goes first, and its answer makes the new report live', async () => {
  const w = new World();
  await w.cycle();
  w.down = true;
  w.now += 10 * 3600_000;
  assert.equal((await w.cycle()).delivery?.waiting, 1);
  w.down = false;
  w.now += 10 * 3600_000;
  const back = await w.cycle();
  assert.deepEqual([back.again, back.delivery?.waiting], [false, 0]);
  assert.deepEqual(
    w.model.outcomes.map((o) => o.kind === 'accepted' && [o.class, o.fresh]),
    [
      ['live', true],
      ['late', false],
      ['live', true],
    ],
  );
});

test('the host was off for a week: its first report is late, so it is to report again at once', async () => {
  const w = new World();
  await w.cycle();
  w.now += 7 * 24 * 3600_000;
  const late = await w.cycle();
  assert.deepEqual([late.again, w.last.class], [true, 'late']);
  const live = await w.cycle();
  assert.deepEqual([live.again, w.last.class, w.last.fresh], [false, 'live', true]);
});

test('a clock that jumps makes no fault, only a flag', async () => {
  const w = new World();
  await w.cycle();
  const real = w.handle;
  for (const jump of [-400 * 24 * 3600_000, 3 * 3600_000]) {
    const serverNow = (w.now += INTERVAL);
    Object.assign(w, {
      handle: (seen: Seen) => {
        const hostNow = w.now;
        w.now = serverNow;
        return real(seen).finally(() => (w.now = hostNow));
      },
    });
    w.now = serverNow + jump;
    await w.cycle();
    assert.deepEqual([w.last.effect, w.last.fresh, w.last.flags], ['advance', true, ['clock-skew']]);
    w.now = serverNow;
  }
});

const wishes: [string, number, (delta: number) => boolean][] = [
  ['in time', INTERVAL, (delta) => delta === INTERVAL],
  ['twice as late', 2 * INTERVAL, (delta) => delta === 2 * INTERVAL],
  ['at once', 1, (delta) => delta === INTERVAL / 2],
  ['in the past', -MINUTE, (delta) => delta >= 0.9 * INTERVAL && delta <= 1.1 * INTERVAL],
  ['in a hundred years', 100 * 365 * 24 * 3600_000, (delta) => delta === 24 * 3600_000],
];
for (const [name, wish, holds] of wishes)
  test(`a server that wants the next report ${name} gets it within what the agent grants`, async () => {
    const w = new World();
    w.answerReply = (reply) => ({
      ...reply,
      body: JSON.stringify({ ...(JSON.parse(String(reply.body)) as object), next: formatInstant(w.now + wish) }),
    });
    const { next } = await w.cycle();
    assert.ok(holds(next - w.now), String(next - w.now));
  });

test('a difference is told as one, though its report did not arrive: the run is not complete', async () => {
  const w = new World();
  w.trees = altered;
  const told = await w.cycle();
  assert.deepEqual([told.exit, told.complete], [EXIT.different, true]);
  w.down = true;
  w.now += INTERVAL;
  const untold = await w.cycle();
  assert.deepEqual([untold.exit, untold.complete], [EXIT.different, false]);
  // Without a difference it is that something could not be told.
  w.trees = vector.trees;
  const same = await w.cycle();
  assert.deepEqual([same.exit, same.complete], [EXIT.unknown, false]);
});

test('for hosts without a network: reports go to a file, one envelope a line, and more are added', async () => {
  const w = new World();
  for (let i = 0; i < 2; i++) {
    const done = await w.cycle({ out: '/mnt/reports.jsonl' });
    assert.deepEqual([done.delivery, done.again], [null, false]);
    w.now += INTERVAL;
  }
  assert.deepEqual(w.asked, []);
  // No answer will ever name them: what is remembered of them must not grow with each one.
  const chain = AgentChain.parse(JSON.parse(Buffer.from(w.disk.files().get(`${FOLDER}/chain.json`)!).toString()));
  assert.deepEqual([chain.seq, chain.unanswered, chain.accepted], [2, [], null]);
  w.model.now = w.now;
  const lines = new TextDecoder().decode(w.disk.files().get('/mnt/reports.jsonl')).split('\n').slice(0, -1);
  assert.equal(lines.length, 2);
  for (const line of lines) await w.model.post(new TextEncoder().encode(line));
  assert.deepEqual(
    w.model.outcomes.map((o) => o.kind === 'accepted' && o.flags),
    [[], []],
  );
});

test('a refused report is an outcome of its own, and stays to be looked at', async () => {
  const w = new World();
  w.model.manifests = [];
  w.manifestReply = (seen) => (seen.path.includes('?') ? headersOf(known(vector.trees)) : { body: textOf(seen.path) });
  await w.cycle();
  // The server comes to have another manifest under the same name than the one it signed.
  w.model.manifests = [known(altered)];
  w.trees = { ...vector.trees, etc: altered.etc };
  w.now += INTERVAL;
  const done = await w.cycle();
  assert.deepEqual([done.exit, done.complete], [EXIT.different, false]);
  assert.deepEqual(
    done.delivery?.refused.map(({ code }) => code),
    ['TREE_CONTRADICTS'],
  );
  assert.equal(w.disk.list(`${FOLDER}/spool/refused`).length, 1);
});
function textOf(path: string): Buffer {
  const [tree, part] = path.split('/').slice(-2) as ['usr' | 'etc', 'main' | 'extra'];
  return Buffer.from(vector.trees[tree][part], 'latin1');
}

test('a scan that fails seals nothing: the number is free for the next', async () => {
  const w = new World();
  Object.defineProperty(w, 'trees', { get: () => assert.fail('unreadable'), configurable: true });
  await assert.rejects(w.cycle(), /unreadable/);
  Object.defineProperty(w, 'trees', { value: vector.trees });
  assert.equal((await w.cycle()).report.seq, 1);
});

/** What a report of a scan that failed says of both trees. */
const failed = ({ reports }: ModelServer, seq: number) => {
  const report = reports.find((one) => one.seq === seq);
  assert.ok(report?.kind === 'full');
  assert.deepEqual([report.manifest?.image, report.drift], [IMAGE, []]);
  return TREES.map((name) => {
    const { main, extra, holes } = report.trees[name];
    assert.deepEqual([main, extra, holes.map(({ path }) => path)], [null, null, [`/${name}`]]);
    return holes[0]!.detail;
  });
};

test('a scan that is told to stop is reported, with why, and nothing counts as intact or mended; the next run is as ever', async () => {
  const w = new World();
  await w.cycle();
  Object.defineProperty(w, 'trees', {
    get: () => {
      throw new ScanStopped('it was told to stop after 3600 s');
    },
    configurable: true,
  });
  w.now += INTERVAL;
  const done = await w.cycle();
  assert.deepEqual([done.exit, done.complete, done.report.kind], [EXIT.unknown, false, 'full']);
  assert.equal(w.last.consistency, 'unchecked', 'without digests there is nothing to recompute');
  assert.deepEqual(failed(w.model, 2), Array(2).fill('scan failed: it was told to stop after 3600 s'));
  assert.match(w.said.at(-1)!, /^scan failed: it was told to stop/);
  Object.defineProperty(w, 'trees', { value: vector.trees });
  w.now += INTERVAL;
  assert.deepEqual([(await w.cycle()).exit, w.last.flags], [EXIT.ok, []]);
});

test('a scan whose process was killed is reported by the next run before it scans; what a reboot ended is only said', async () => {
  const w = new World();
  await w.cycle();
  const kill = async (bootId: string) => {
    w.now += INTERVAL;
    const mark = { startedAt: w.now, bootId, manifest: { image: IMAGE, rule: 'ostree/1' } };
    const at = { disk: w.disk, folder: FOLDER };
    // A process that is killed does not come to what stands behind it.
    const gone = marked({ ...at, disk: keepsAll(w.disk) }, mark, () => Promise.reject(new Error('killed')));
    await assert.rejects(gone);
    w.now += INTERVAL;
    return w.cycle();
  };
  const done = await kill(full.document.bootId);
  assert.deepEqual([done.exit, done.report.seq, w.model.reports.map(({ seq }) => seq)], [EXIT.ok, 3, [1, 2, 3]]);
  for (const why of failed(w.model, 2)) assert.match(why, /^scan failed: the scan that began at .*Z never ended/);
  assert.deepEqual(
    w.model.outcomes.map((outcome) => outcome.kind === 'accepted' && outcome.flags),
    [[], [], []],
  );
  const after = await kill('0'.repeat(36));
  assert.equal(after.report.seq, 4);
  assert.match(w.said.at(-1)!, /was ended by a reboot/);
  assert.ok(!w.disk.files().has(`${FOLDER}/scanning.json`));
});

/** A disk whose files nobody takes away. */
const keepsAll = (disk: World['disk']): Disk =>
  new Proxy<Disk>(disk, {
    get: (target, name) =>
      name === 'unlink' ? () => undefined : (target[name as keyof Disk] as () => void).bind(target),
  });

const digests = [...printVerity(new Map([['1'.repeat(64), '2'.repeat(64)]]))].join('');
const other = digests.replace('1', '3');
for (const [what, required, verity, used, asked] of [
  ['where the kernel serves nothing but what it measured', true, { text: digests }, 64, 1],
  ['and nowhere else', false, { text: digests }, undefined, 0],
  ['if the server tells any', true, undefined, undefined, 0],
  ['if its key signed which', true, { text: digests, signer: tokenSigner }, undefined, 0],
  ['if they are of this image', true, { text: digests, says: { image: someDigest(5) } }, undefined, 0],
  ['if they are those that were signed', true, { text: other, says: { text: digestOf(digests) } }, undefined, 1],
  [
    'if they are of a version that is known',
    true,
    { text: digests, says: { format: 'bootproof.verity/2' } },
    undefined,
    0,
  ],
  ['if they are such digests', true, { text: 'nothing' }, undefined, 1],
] as const)
  test(`fs-verity digests are fetched and used ${what}`, async () => {
    const w = new World();
    w.verityRequired = required;
    w.verity = verity as World['verity'];
    const { exit } = await w.cycle();
    assert.deepEqual([exit, w.scans[0]!.verity?.byteLength], [EXIT.ok, used]);
    assert.equal(w.asked.filter((path) => path.endsWith('/verity')).length, asked);
    if (used === undefined) return;
    await w.cycle();
    assert.deepEqual(
      [w.scans[1]!.verity?.byteLength, w.asked.filter((path) => path.endsWith('/verity')).length],
      [used, 1],
    );
  });
