/** The contract of server/store/store.ts as tests: texts of /etc files as images have them. */
import assert from 'node:assert/strict';
import { opened, type Suite } from './contract.ts';
import { digest, sha, T0 } from './make.ts';

export function texts(suite: Suite): void {
  suite('a text is kept once for all images that have it, and why another is not is known by image', async (url, t) => {
    const { imageTexts } = await opened(t, url);
    const [a, b] = [digest('a'), digest('b')];
    const [one, two, three] = [sha('one'), sha('two'), sha('three')];
    assert.equal(await imageTexts.text(one), undefined);
    assert.equal(await imageTexts.why(a, one), 'unread');
    const text = (sha256: string, byte: number) => ({ sha256, bytes: Uint8Array.of(byte) });
    await imageTexts.put(a, { texts: [text(two, 2), text(one, 1)], omitted: [[three, 'not-text']] }, T0);
    await imageTexts.put(b, { texts: [text(one, 9)], omitted: [] }, T0);
    assert.deepEqual([...(await imageTexts.text(one))!], [1]);
    assert.deepEqual([...(await imageTexts.text(two))!], [2]);
    assert.deepEqual(
      [await imageTexts.why(a, three), await imageTexts.why(b, three), await imageTexts.why(digest('c'), three)],
      ['not-text', undefined, 'unread'],
    );
    // Read again: what is said of the image is replaced.
    await imageTexts.put(a, { texts: [text(three, 3)], omitted: [] }, T0 + 1);
    assert.deepEqual([await imageTexts.why(a, three), [...(await imageTexts.text(three))!]], [undefined, [3]]);
  });
}
