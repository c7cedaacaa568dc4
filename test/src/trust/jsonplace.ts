/** Where a byte of a JSON text stands: which value it belongs to, for tests that change bytes one by one. */

/** `a.b.0`, and whether the byte is of that value, of the name under which it stands, or of neither. */
export type JsonPlace = { readonly path: string; readonly part: 'value' | 'name' | 'between' };

/** Of each byte of a text that `JSON.parse` takes; ASCII outside of strings. */
export function jsonPlaces(bytes: Uint8Array): readonly JsonPlace[] {
  const places: JsonPlace[] = [];
  const text = new TextDecoder('latin1').decode(bytes);
  let at = 0;
  const mark = (to: number, place: JsonPlace) => {
    for (; at < to; at++) places[at] = place;
  };
  const between = (path: string) => {
    const from = at;
    while (/[\s,:]/.test(text[at] ?? '')) at++;
    const to = at;
    at = from;
    mark(to, { path, part: 'between' });
  };
  const stringEnd = (from: number): number => {
    let end = from + 1;
    while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
    return end + 1;
  };
  const value = (path: string) => {
    const inner = (key: string | number) => (path === '' ? String(key) : `${path}.${key}`);
    const open = text[at];
    if (open === '{' || open === '[') {
      mark(at + 1, { path, part: 'between' });
      for (let index = 0; ; index++) {
        between(path);
        if (text[at] === '}' || text[at] === ']') return mark(at + 1, { path, part: 'between' });
        let key: string | number = index;
        if (open === '{') {
          const end = stringEnd(at);
          key = JSON.parse(text.slice(at, end)) as string;
          mark(end, { path: inner(key), part: 'name' });
          between(inner(key));
        }
        value(inner(key));
      }
    }
    const end = open === '"' ? stringEnd(at) : at + /^[^\s,\]}]+/.exec(text.slice(at))![0].length;
    mark(end, { path, part: 'value' });
  };
  between('');
  value('');
  between('');
  return places;
}
