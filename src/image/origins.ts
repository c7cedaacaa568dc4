/**
 * Where each path of an image comes from, small enough to be kept beside its manifests: of every rule and tree, by line of the main text, the
 * layer that wrote the path last and the packages that own it, as runs. Nothing of it is in a canonical text or a header (docs/origin.md).
 */
import { z } from 'zod';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import { treeOf, type TreeName } from '#src/manifest/entry.ts';
import { printable, shownText } from '#src/terminal.ts';
import type { Deployed } from './backend.ts';
import type { LayerHistory } from './history.ts';
import type { Owners } from './owners.ts';
import type { Package } from './packages.ts';

export const ORIGINS_FORMAT = 'bootproof-origins/1';

const Count = z.int().min(0);
const DigestText = z.string().refine(isDigest);
/** `layers`, `owners`: which runs; `text`: digest of the main text whose lines are meant. */
const TreeJson = z.strictObject({ text: DigestText, layers: Count, owners: Count.nullable() });
const OriginsJson = z.strictObject({
  format: z.literal(ORIGINS_FORMAT),
  layers: z.array(
    z.strictObject({
      digest: DigestText,
      size: Count,
      createdBy: z.string().nullable(),
      comment: z.string().nullable(),
      components: z.array(z.string()),
    }),
  ),
  databases: z.array(
    z.strictObject({
      kind: z.enum(['rpm', 'dpkg']),
      path: z.string(),
      packages: z.array(z.tuple([z.string(), z.string(), z.string()])),
      owners: z.array(z.strictObject({ packages: z.array(Count), altered: z.boolean() })),
    }),
  ),
  runs: z.array(z.string()),
  rules: z.array(
    z.strictObject({
      rule: z.string(),
      database: Count.nullable(),
      trees: z.strictObject({ usr: TreeJson, etc: TreeJson }),
    }),
  ),
  /** What could not be told, and why. */
  notes: z.array(z.strictObject({ code: z.string(), text: z.string() })),
});
export type OriginsJson = z.infer<typeof OriginsJson>;

/** A layer as the image tells it. */
export type LayerOrigin = LayerHistory & {
  /** From 1, the base first. */
  readonly number: number;
  readonly digest: Digest;
  /** Compressed bytes. */
  readonly size: number;
  readonly components: readonly string[];
};

export type PathOrigin = {
  readonly layer: LayerOrigin;
  /** Of how many. */
  readonly layers: number;
  /** That own the path, at most PATH_OWNERS_MAX. */
  readonly packages: readonly Package[];
  /** The image has other content there than its packages brought. */
  readonly altered: boolean;
  /** Null where the image has none that was read. */
  readonly database: { readonly kind: 'rpm' | 'dpkg'; readonly path: string } | null;
};

export type RuledOrigins = {
  readonly rule: string;
  readonly deployed: Pick<Deployed, 'entries' | 'layers' | 'owners'>;
  /** Digests of the full main texts. */
  readonly texts: Readonly<Record<TreeName, Digest>>;
  readonly database: { readonly kind: 'rpm' | 'dpkg'; readonly path: string; readonly owners: Owners } | undefined;
};

/** Gathers what is kept of an image, rule by rule, so that no tree has to wait for another. */
export class OriginsWriter {
  readonly #layers: OriginsJson['layers'];
  readonly #runs: string[] = [];
  readonly #rules: OriginsJson['rules'] = [];
  readonly #databases: NonNullable<RuledOrigins['database']>[] = [];

  /** `layers` in their order. */
  constructor(layers: readonly Omit<LayerOrigin, 'number'>[]) {
    this.#layers = layers.map(({ digest, size, createdBy, comment, components }) => ({
      digest,
      size,
      createdBy,
      comment,
      components: [...components],
    }));
  }

  add({ rule, deployed: { entries, layers, owners }, texts, database }: RuledOrigins): void {
    // /etc comes first, then /usr.
    const first = entries.findIndex(({ path }) => treeOf(path) === 'usr');
    const usr = first < 0 ? entries.length : first;
    const treeJson = (tree: TreeName): OriginsJson['rules'][number]['trees']['usr'] => {
      const [from, to] = tree === 'etc' ? [0, usr] : [usr, entries.length];
      return {
        text: texts[tree],
        layers: this.#index(layers.slice(from, to)),
        owners: owners === undefined ? null : this.#index(owners.slice(from, to)),
      };
    };
    this.#rules.push({
      rule,
      database: database === undefined ? null : this.#database(database),
      trees: { usr: treeJson('usr'), etc: treeJson('etc') },
    });
  }

  /** The whole as a JSON value. */
  done(notes: OriginsJson['notes']): OriginsJson {
    return {
      format: ORIGINS_FORMAT,
      layers: this.#layers,
      databases: this.#databases.map(({ kind, path, owners }) => ({ kind, path, ...namedOwners(owners) })),
      runs: this.#runs,
      rules: this.#rules,
      notes,
    };
  }

  #index(values: readonly number[]): number {
    const text = toBase64(printRuns(values));
    const known = this.#runs.indexOf(text);
    return known >= 0 ? known : this.#runs.push(text) - 1;
  }

  #database(database: NonNullable<RuledOrigins['database']>): number {
    const known = this.#databases.findIndex(({ owners }) => owners === database.owners);
    return known >= 0 ? known : this.#databases.push(database) - 1;
  }
}

/** Packages that own a path, and no others, with their places as they are then. */
function namedOwners({ packages, sets }: Owners): Pick<OriginsJson['databases'][number], 'packages' | 'owners'> {
  const places = new Map<number, number>();
  const place = (index: number): number => {
    let at = places.get(index);
    if (at === undefined) places.set(index, (at = places.size));
    return at;
  };
  const owners = sets.map(({ packages: owning, altered }) => ({ packages: owning.map(place), altered }));
  return {
    packages: [...places.keys()].map((index) => {
      const { name, version, arch } = packages[index]!;
      return [name, version, arch];
    }),
    owners,
  };
}

/** Numbers as runs: value and length in turn, each as LEB128. */
export function printRuns(values: readonly number[]): Uint8Array {
  const out: number[] = [];
  const put = (n: number): void => {
    for (; n >= 0x80; n = Math.floor(n / 0x80)) out.push((n % 0x80) | 0x80);
    out.push(n);
  };
  for (let at = 0; at < values.length;) {
    const value = values[at]!;
    let end = at + 1;
    while (end < values.length && values[end] === value) end++;
    put(value);
    put(end - at);
    at = end;
  }
  return Uint8Array.from(out);
}

/** Runs, to be asked by place. */
export class Runs {
  readonly #ends: Uint32Array;
  readonly #values: Uint32Array;

  constructor(bytes: Uint8Array) {
    const numbers: number[] = [];
    for (let at = 0; at < bytes.length;) {
      let n = 0;
      for (let factor = 1; ; factor *= 0x80) {
        const byte = bytes[at++]!;
        n += (byte & 0x7f) * factor;
        if (byte < 0x80) break;
      }
      numbers.push(n);
    }
    const count = numbers.length >> 1;
    this.#ends = new Uint32Array(count);
    this.#values = new Uint32Array(count);
    let end = 0;
    for (let i = 0; i < count; i++) {
      end += numbers[2 * i + 1]!;
      this.#values[i] = numbers[2 * i]!;
      this.#ends[i] = end;
    }
  }

  /** Bytes of memory, about. */
  get weight(): number {
    return 8 * this.#ends.length;
  }

  /** The value at a place from 0; undefined behind the last. */
  at(place: number): number | undefined {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle]! <= place) low = middle + 1;
      else high = middle;
    }
    return this.#values[low];
  }
}

/** What is kept of an image, to be asked path by path. */
export class Origins {
  readonly #json: OriginsJson;
  readonly #runs: readonly Runs[];

  /** @throws {z.ZodError} for anything that `OriginsWriter` did not make. */
  constructor(json: unknown) {
    this.#json = OriginsJson.parse(json);
    this.#runs = this.#json.runs.map((text) => new Runs(fromBase64(text)));
  }

  get notes(): OriginsJson['notes'] {
    return this.#json.notes;
  }

  /** Bytes of memory, about. */
  get weight(): number {
    const { databases, layers, notes } = this.#json;
    const packages = databases.reduce((sum, each) => sum + 200 * each.packages.length + 100 * each.owners.length, 0);
    const runs = this.#runs.reduce((sum, each) => sum + each.weight, 0);
    return 4096 + packages + runs + 2000 * layers.length + 500 * notes.length;
  }

  /** Of the path in a line (from 0) of a tree's main text under a rule; undefined where that text is not the one that was read. */
  at(rule: string, tree: TreeName, text: Digest, line: number): PathOrigin | undefined {
    const { rules, layers, databases } = this.#json;
    const ruled = rules.find((each) => each.rule === rule);
    const place = ruled?.trees[tree];
    if (ruled === undefined || place === undefined || place.text !== text) return undefined;
    const index = this.#runs[place.layers]?.at(line);
    const layer = index === undefined ? undefined : layers[index];
    if (index === undefined || layer === undefined) return undefined;
    const database = ruled.database === null ? undefined : databases[ruled.database];
    const set = place.owners === null ? 0 : (this.#runs[place.owners]?.at(line) ?? 0);
    const owners = database?.owners[set - 1];
    return {
      layer: { ...layer, number: index + 1 },
      layers: layers.length,
      packages: (owners?.packages ?? [])
        .map((at) => {
          const [name, version, arch] = database!.packages[at]!;
          return { name, version, arch };
        })
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
      altered: owners?.altered ?? false,
      database: database === undefined ? null : { kind: database.kind, path: database.path },
    };
  }
}

/** As its manager prints it: `openssh-server-9.6p1-1.el9.x86_64`, `openssh-server 1:9.2p1-2`. */
export function packageText({ name, version, arch }: Package, kind: 'rpm' | 'dpkg'): string {
  return printable(kind === 'rpm' ? `${name}-${version}.${arch}` : `${name} ${version}`);
}

const SHELL = /^(?:\/bin\/)?(?:sh|bash)\s+-[a-z]*c\s+/;

/** How a layer was made in a few words, as a Containerfile would have it: `RUN dnf install …`; undefined where the image does not say. */
export function layerText(layer: Pick<LayerOrigin, 'createdBy' | 'comment' | 'components'>): string | undefined {
  const text = wordsOf(layer);
  return text === undefined ? undefined : shownText(text);
}

function wordsOf({
  createdBy,
  comment,
  components,
}: Pick<LayerOrigin, 'createdBy' | 'comment' | 'components'>): string | undefined {
  if (components.length > 0) return components.join(', ');
  // BuildKit writes `RUN /bin/sh -c … # buildkit`, the old builder `/bin/sh -c #(nop) COPY …`, buildah what it was given.
  const said = (createdBy ?? comment)?.replace(/\s+/g, ' ').trim();
  if (said === undefined || said === '') return undefined;
  const text = said
    .replace(/ # buildkit$/, '')
    .replace(/^RUN /, '')
    .replace(/^\|\d+ (?:\S+=\S* )*(?=\/bin\/)/, '');
  if (!SHELL.test(text)) return said.replace(/ # buildkit$/, '');
  const command = text.replace(SHELL, '').trim();
  return command.startsWith('#(nop)') ? command.slice('#(nop)'.length).trim() : `RUN ${command}`;
}

/** Where a path comes from, in one line for people; what is in it came from the image. */
export function originText({ layer, layers, packages, altered, database }: PathOrigin): string {
  const made = layerText(layer);
  const short = made === undefined || made.length <= 120 ? made : `${made.slice(0, 119)}…`;
  const from = `from layer ${layer.number} of ${layers}${short === undefined ? '' : ` (${short})`}`;
  const [first, ...more] = packages;
  if (first === undefined || database === null) return database === null ? from : `${from}, of no package`;
  const named = `${packageText(first, database.kind)}${more.length > 0 ? ` and ${more.length} more` : ''}`;
  return altered ? `${from}, over what package ${named} brought` : `${from}, package ${named}`;
}
