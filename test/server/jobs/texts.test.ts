/** The image's own /etc texts: kept where they are texts and no secret, whether layers are plain or an encapsulated ostree commit. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { deploy, type Rule } from '#src/image/backend.ts';
import type { Keep } from '#src/image/keep.ts';
import { readLayer } from '#src/image/layer.ts';
import { CONTENT_BYTES_MAX, IMAGE_LIMITS } from '#src/limits.ts';
import { bothKeep, TextGatherer, TextSpool } from '#server/jobs/texts.ts';
import { digestOf, dir, file, hardlink, pieces, plain, PLAIN, tar, type Member } from '#test/src/image/archive.ts';

const sha = (text: string | Uint8Array) => createHash('sha256').update(text).digest('hex');

/** Layers read as the build thread reads them, under each rule; what was kept as text by content. */
async function kept(
  layers: readonly (readonly Member[])[],
  rules: readonly Rule[],
  labels?: (first: string) => object,
) {
  using spool = new TextSpool();
  let others = 0;
  const other: Keep = { open: () => ({ write: (data) => void (others += data.length), end: () => {} }) };
  const read = await Promise.all(
    layers.map((members, index) => {
      const { bytes, diffId } = plain(tar(members));
      const of = { index, digest: digestOf(bytes), mediaType: PLAIN, diffId };
      return readLayer(of, pieces(bytes, 701), IMAGE_LIMITS, bothKeep(other, spool));
    }),
  );
  const facts = {
    labels: new Map(Object.entries(labels?.(read[0]!.diffId) ?? {}) as [string, string][]),
    diffIds: read.map(({ diffId }) => diffId),
    dockerInLayout: false,
  };
  const gatherer = new TextGatherer(spool);
  for (const rule of rules) gatherer.add(deploy(read, facts, rule, IMAGE_LIMITS).entries);
  const { texts, omitted } = gatherer.done();
  assert.ok(others > 0, 'whoever else wants contents gets them, too');
  return {
    texts: texts.map(({ sha256, bytes }) => {
      const text = zstdDecompressSync(bytes).toString('utf8');
      assert.equal(sha(text), sha256);
      return text;
    }),
    why: new Map(omitted),
  };
}

const USR: readonly Member[] = [dir('usr'), dir('usr/bin'), dir('usr/lib'), file('usr/bin/tool', 'tool\n')];

test('texts of /etc are kept, each content once; programs, secrets and copies of secrets are not', async () => {
  const long = 'x'.repeat(CONTENT_BYTES_MAX + 1);
  const { texts, why } = await kept(
    [
      [
        ...USR,
        dir('etc'),
        dir('etc/ssh'),
        dir('etc/site'),
        file('etc/motd', 'old\n'),
        file('etc/ssh/sshd_config', 'PermitRootLogin no\n'),
        file('etc/ssh/copy', 'PermitRootLogin no\n'),
        file('etc/shadow', 'root:CANARY:1\n'),
        file('etc/not-shadow', 'root:CANARY:1\n'),
        file('etc/site/a.token', 'CANARY-site\n'),
        file('etc/app.conf', 'password = CANARY\n'),
        file('etc/empty', ''),
        file('etc/long', long),
        file('etc/cache', 'a\0b'),
        dir('usr/lib/bootproof'),
        file('usr/lib/bootproof/agent.json', '{"url":"https://x.example","secretPaths":["/etc/site/*.token"]}'),
      ],
      [dir('etc'), file('etc/motd', '', { data: Buffer.from('Grüße\n') })],
    ],
    ['ostree/1', 'composefs/1'],
  );
  assert.deepEqual(texts.sort(), ['Grüße\n', 'PermitRootLogin no\n']);
  assert.deepEqual(
    [
      sha('root:CANARY:1\n'),
      sha('password = CANARY\n'),
      sha(long),
      sha('a\0b'),
      sha('CANARY-site\n'),
      sha('tool\n'),
    ].map((content) => why.get(content)),
    ['secret', 'secret', 'too-large', 'not-text', undefined, undefined],
  );
});

test('in an encapsulated commit a text is found though its content comes before its name', async () => {
  const objects = 'sysroot/ostree/repo/objects';
  const { texts } = await kept(
    [
      [
        file(`${objects}/aa/commit.commit`, 'x'),
        file(`${objects}/cc/conf.file`, '[composefs]\nenabled=yes\n'),
        file(`${objects}/dd/motd.file`, 'From a commit.\n'),
        file(`${objects}/ee/tool.file`, 'text of /usr\n'),
        ...USR.slice(0, 3),
        dir('usr/lib/ostree'),
        hardlink('usr/lib/ostree/prepare-root.conf', `${objects}/cc/conf.file`),
        dir('usr/etc'),
        hardlink('usr/etc/motd', `${objects}/dd/motd.file`),
        hardlink('usr/bin/tool', `${objects}/ee/tool.file`),
      ],
      [dir('etc'), file('etc/more.conf', 'derived\n')],
    ],
    ['ostree/1'],
    (first) => ({ 'ostree.final-diffid': first }),
  );
  assert.deepEqual(texts.sort(), ['From a commit.\n', 'derived\n']);
});
