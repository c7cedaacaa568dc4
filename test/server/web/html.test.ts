/** Escaping on pages: the hostile table first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { html, pathHtml } from '#server/web/html.ts';

const escaped = [
  ['markup in text', '<script>alert(1)</script>', '&lt;script&gt;alert(1)&lt;/script&gt;'],
  ['both quotes', `" onload='x'`, '&quot; onload=&#39;x&#39;'],
  ['an entity', '&lt;', '&amp;lt;'],
  ['a terminal escape', 'a\u001b[31mb', 'a\\x1b[31mb'],
  ['a bidirectional override', 'exe.\u202etxt', 'exe.\\u{202e}txt'],
  ['a zero-width space', 'a\u200bb', 'a\\u{200b}b'],
  ['a NUL', 'a\u0000b', 'a\\x00b'],
  ['a lone surrogate', 'a\ud800b', 'a\\u{d800}b'],
  ['text that is no trouble', 'Zürich 東京\n', 'Zürich 東京\n'],
] as const;
for (const [name, text, expected] of escaped)
  test(`${name} is shown, not obeyed`, () =>
    assert.equal(html`<p title="${text}">${text}</p>`.text, `<p title="${expected}">${expected}</p>`));

test('lists, nested markup and nothing at all', () => {
  assert.equal(html`<b>${['<', html`<i>${'>'}</i>`, null, undefined, false, 3]}</b>`.text, '<b>&lt;<i>&gt;</i>3</b>');
});

test('an unquoted attribute is our own mistake', () => {
  assert.throws(() => html`<p title=${'x'}>`, assert.AssertionError);
});

for (const address of ['javascript:alert(1)', '//elsewhere.example/', 'https://elsewhere.example/', ' /x', ''])
  test(`the address ${JSON.stringify(address)} is refused`, () => {
    assert.throws(() => html`<a href="${address}">x</a>`, assert.AssertionError);
  });

test('a path keeps its name apart from its folders, whatever its bytes', () => {
  assert.equal(
    pathHtml('/usr/bin/a<b>').text,
    '<span class="path" title="/usr/bin/a&lt;b&gt;"><i>/usr/bin/</i><b>a&lt;b&gt;</b></span>',
  );
  assert.match(pathHtml('/etc/\xff\x1b[2J').text, /<b>\\xff\\x1b\[2J<\/b>/);
});
