/** A page as a reader and a browser see it: text, links, and every tag with its attributes. Refuses markup that a browser would have to mend. */
import assert from 'node:assert/strict';

export type Tag = { readonly name: string; readonly attributes: ReadonlyMap<string, string> };
export type Seen = { readonly text: string; readonly tags: readonly Tag[]; readonly links: readonly string[] };

const VOID = new Set(['meta', 'link', 'input', 'br']);
/** Of SVG: ended by `/>` or by an end tag, as XML has it. */
const SHAPES = new Set(['path', 'circle', 'rect', 'use', 'line', 'polyline']);
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };
const decode = (text: string): string =>
  text.replace(/&([a-z#0-9]+);/g, (_, name: string) => ENTITIES[name] ?? assert.fail(`entity &${name};`));

export function read(html: string): Seen {
  assert.ok(html.startsWith('<!doctype html>'));
  const tags: Tag[] = [];
  const open: string[] = [];
  let text = '';
  // Text, a tag with quoted attributes, or an end tag: anything else would be our own broken markup, or someone's injected one.
  const pattern = /([^<]+)|<([a-z][a-z0-9]*)((?:\s+[a-z-:A-Z0-9]+(?:="[^"<]*")?)*)\s*(\/?)>|<\/([a-z][a-z0-9]*)\s*>/gy;
  pattern.lastIndex = '<!doctype html>'.length;
  while (pattern.lastIndex < html.length) {
    const at = pattern.lastIndex;
    const match = pattern.exec(html);
    assert.ok(match !== null, `broken markup at: ${html.slice(at, at + 120)}`);
    const [, words, name, attributes = '', slash, end] = match;
    if (words !== undefined) text += decode(words);
    else if (name !== undefined) {
      const all = new Map(
        [...attributes.matchAll(/([a-z-:A-Z0-9]+)(?:="([^"]*)")?/g)].map(
          ([, key, value]) => [key!, decode(value ?? '')] as const,
        ),
      );
      tags.push({ name, attributes: all });
      if (!VOID.has(name) && !(slash === '/' && SHAPES.has(name))) open.push(name);
    } else assert.equal(open.pop(), end, `</${end}> closes something else`);
  }
  assert.deepEqual(open, []);
  const links = tags.filter(({ name }) => name === 'a').map(({ attributes }) => attributes.get('href') ?? '');
  return { text: text.replaceAll(/\s+/g, ' '), tags, links };
}

/** Nothing on the page can act, come from elsewhere, or hide and reorder what is read. */
export function assertTame({ tags, text }: Seen): void {
  for (const { name, attributes } of tags) {
    assert.ok(!['style', 'iframe', 'object', 'img', 'base'].includes(name), `<${name}>`);
    // One script of ours, from this server, with nothing inside.
    if (name === 'script')
      assert.deepEqual(
        [...attributes],
        [
          ['src', '/static/bootproof.js'],
          ['defer', ''],
        ],
      );
    for (const [key, value] of attributes) {
      assert.ok(!key.startsWith('on') && key !== 'style', `${key} on <${name}>`);
      if (['href', 'src', 'action'].includes(key)) assert.match(value, /^(?:\/(?!\/)|#|\?)/);
      assert.doesNotMatch(value, /[^\P{C}\n\t]/u, `hidden characters in ${key}`);
    }
  }
  assert.doesNotMatch(text, /[^\P{C}\n\t]/u, 'hidden characters in text');
  const ids = tags.flatMap(({ attributes }) => attributes.get('id') ?? []);
  assert.equal(new Set(ids).size, ids.length, 'ids are unique');
  assert.equal(tags.filter(({ name }) => name === 'h1').length, 1, 'one h1');
}
