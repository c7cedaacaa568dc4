/** `bootproof manifest …`: what an image says that each path of its hosts must be. */
import { deploy, lint, type Deployed, type Verdict } from '#src/image/backend.ts';
import { ImageError } from '#src/image/layer.ts';
import { formatPlatform } from '#src/image/ocimanifest.ts';
import { parseReference } from '#src/image/reference.ts';
import { BackendError } from '#src/image/refusal.ts';
import { comparePathBytes, treeOf, TREES, type Entry, type TreeName } from '#src/manifest/entry.ts';
import { dumpLines } from '#src/manifest/dump.ts';
import type { ManifestHeader, ManifestWarning } from '#src/manifest/header.ts';
import { entryLine, factsJson, nameJson } from '#src/manifest/json.ts';
import { extraLine, mainLine, MTREE_HEAD } from '#src/manifest/mtree.ts';
import { fromUtf8 } from '#src/bytes.ts';
import { manifestOf, type Image } from '#src/source/build.ts';
import { argument, EXIT, printable, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { VerityKeep } from '#src/image/verity.ts';
import { printVerity } from '#src/manifest/verity.ts';
import { program, runProgram } from './commander.ts';
import {
  backendNamed,
  BUILDER,
  expectedOf,
  imageOptions,
  limitsOf,
  list,
  loadImage,
  ruleOf,
  ruleOptions,
  type ImageOptions,
  type RuleOptions,
} from './image.ts';
import { diffImages } from './manifestdiff.ts';
import { sizeText } from '#agent/present.ts';
import { checkFile, warningLine, writeJson, writeOut } from './output.ts';

type Json = { readonly json?: boolean };
type Loading = ImageOptions & RuleOptions & Json;

const REFERENCE = 'docker://HOST/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG]';
const JSON_OPTION = ['--json', 'one JSON document on standard output'] as const;

const FORMATS_HELP = `
Formats:
  mtree           the canonical main text of /etc and /usr (docs/manifest.md); sha256sum of a tree's part is its tree
                  digest. The second text, of capabilities and device numbers, goes to --extra FILE.
  jsonl           one JSON object a line, sorted by the bytes of the whole path; of xattrs security.capability only
  composefs-dump  composefs-dump(5). A manifest says nothing of times (0.0), of names that share an inode (files of their
                  own) and of fs-verity (DIGEST and PAYLOAD of files are -, small contents are not inline); the SHA-256
                  of a file's content stands in the pseudo attribute user.bootproof.sha256. / repeats /usr.

Exit codes: 0 written, 2 the image cannot be had or this backend cannot deploy it (the reason ends in its [CODE]).
`;

export async function main(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const act =
    <T extends Json>(action: (options: T, operands: string[]) => Promise<Exit>) =>
    async (...given: unknown[]): Promise<void> => {
      exit = await action(given.at(-2) as T, given.slice(0, -2).flat() as string[]);
    };

  const manifest = program(
    'bootproof manifest',
    'File manifests: what each path of /usr and /etc must be on a host that booted an image.',
  );
  manifest.addHelpText('after', `\nAn image is ${REFERENCE}.`);

  const add = (usage: string, about: string) => imageOptions(manifest.command(usage).description(about));

  ruleOptions(add('build <image>', 'write the manifest of an image'))
    .option('--format <name>', 'mtree, jsonl or composefs-dump', 'mtree')
    .option('-o, --output <file>', 'write to FILE instead of standard output')
    .option('--extra <file>', 'write the second canonical text (capabilities, device numbers) to FILE')
    .option('--verity <file>', 'write the fs-verity digests of all contents to FILE; doubles the hashing')
    .option('--warnings <file>', 'write the warnings to FILE as a JSON list, or the refusal as the only one')
    .option('--json', 'a refusal, or with --output what was written, as a JSON document on standard output')
    .addHelpText('after', FORMATS_HELP)
    .action(act<BuildOptions>(async (options, [image = '']) => build(image, options, io)));

  ruleOptions(
    add('show <image> [paths...]', 'show what a manifest is made of, or what it says of paths and what is below them'),
  )
    .option(...JSON_OPTION)
    .action(act<Loading>(async (options, [image = '', ...paths]) => show(image, paths, options, io)));

  ruleOptions(
    add('digest <image>', 'print the tree digests: full, and with secrets hidden (comparison), as reports carry them'),
  )
    .option(...JSON_OPTION)
    .action(act<Loading>(async (options, [image = '']) => digest(image, options, io)));

  add(
    'lint <image>',
    'say what each backend refuses of an image, or loses and changes silently; for CI of image builders',
  )
    .option('--backend <name>', 'look at this backend only (repeatable)', list)
    .option(...JSON_OPTION)
    .addHelpText('after', '\nExit codes: 0 nothing to say, 1 warnings or refusals, 2 the image cannot be had.\n')
    .action(act<LintOptions>(async (options, [image = '']) => lintImage(image, options, io)));

  ruleOptions(add('diff <old> <new>', 'list what an update from one image to another changes on a host'))
    .option('--all', 'list every path below an added or removed folder, too')
    .option(...JSON_OPTION)
    .addHelpText('after', '\nExit codes: 0 nothing differs, 1 something does, 2 an image cannot be had or deployed.\n')
    .action(
      act<Loading & { all?: boolean }>(async (options, [before = '', after = '']) =>
        diffImages(
          { name: before, ...(await loadDeployed(before, options, io)) },
          { name: after, ...(await loadDeployed(after, options, io)) },
          { ...options, rule: ruleOf(options) },
          io,
        ),
      ),
    );

  ruleOptions(add('check <image>', 'compare a root folder on this machine with an image'))
    .requiredOption('--root <dir>', 'the folder that holds usr and etc')
    .option('--all', 'list every path below an added or removed folder, too')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      '\nExit codes: 0 the same, 1 a difference was seen, 2 none was seen but something could not be told.\n',
    )
    .action(
      act<Loading & { root: string; all?: boolean }>(async (options, [name = '']) => {
        const rule = ruleOf(options);
        const { image, deployed } = await loadDeployed(name, options, io);
        const { realRoot, scanRoot } = await import('#agent/scancommand.ts');
        const manifest = manifestOf(image, rule, deployed, { builder: BUILDER });
        await tellWarnings(deployed.warnings, undefined, io);
        return scanRoot(realRoot(options.root), expectedOf(manifest), options, io);
      }),
    );

  return runProgram(manifest, args, io, () => exit);
}

/** An image, and its tree under the rule that the options name. The options are looked at before anything is fetched. */
async function loadDeployed(
  name: string,
  options: Loading,
  io: Io,
  keep?: VerityKeep,
): Promise<{ image: Image; deployed: Deployed }> {
  const rule = ruleOf(options);
  const image = await loadImage(name, options, io, keep);
  return { image, deployed: deploy(image.layers, image.facts, rule, limitsOf(options).limits) };
}

type BuildOptions = Loading & {
  readonly format: string;
  readonly output?: string;
  readonly extra?: string;
  readonly verity?: string;
  readonly warnings?: string;
};

function* mtree(entries: readonly Entry[]): Generator<string> {
  yield MTREE_HEAD;
  for (const entry of entries) yield mainLine(entry);
}
function* jsonl(entries: readonly Entry[]): Generator<string> {
  for (const entry of entries.toSorted(comparePathBytes)) yield entryLine(entry);
}
const FORMATS = new Map<string, (entries: readonly Entry[]) => Iterable<string>>([
  ['mtree', mtree],
  ['jsonl', jsonl],
  ['composefs-dump', dumpLines],
]);

async function build(name: string, options: BuildOptions, io: Io): Promise<Exit> {
  const format = FORMATS.get(options.format);
  if (format === undefined)
    throw new UsageError(`no format ${JSON.stringify(options.format)}; there are ${[...FORMATS.keys()].join(', ')}`);
  for (const file of [options.output, options.extra, options.verity, options.warnings]) checkFile(file);
  const keep = options.verity === undefined ? undefined : new VerityKeep();
  const { image, deployed } = await loadDeployed(name, options, io, keep).catch(async (error: unknown) => {
    if (options.warnings !== undefined && (error instanceof BackendError || error instanceof ImageError))
      await writeOut([`${JSON.stringify([refusalWarning(error)])}\n`], options.warnings, io);
    throw error;
  });
  const { entries, warnings } = deployed;
  await writeOut(format(entries), options.output, io);
  if (options.extra !== undefined) await writeOut(entries.map(extraLine), options.extra, io);
  if (keep !== undefined) await writeOut(printVerity(keep.found), options.verity, io);
  if (options.extra === undefined && options.format === 'mtree' && entries.some((entry) => extraLine(entry) !== ''))
    await io.stderr.write('note: capabilities and device numbers are not in the main text; --extra FILE writes them\n');
  await tellWarnings(warnings, options.warnings, io);
  if (options.json && options.output !== undefined && options.output !== '-')
    await writeJson({ image: image.digest, rule: ruleOf(options), entries: entries.length, warnings }, io);
  return EXIT.ok;
}

/** A refusal in the form of a warning; its message begins with the layer where it is of one. */
function refusalWarning({ code, message }: BackendError | ImageError): ManifestWarning {
  const layer = /^layer ([0-9]+)\b/.exec(message)?.[1];
  return { code, layer: layer === undefined ? null : Number(layer), message: message.slice(0, 2000) };
}

async function tellWarnings(warnings: readonly ManifestWarning[], file: string | undefined, io: Io): Promise<void> {
  for (const warning of warnings) await io.stderr.write(warningLine(warning));
  if (file !== undefined) await writeOut([`${JSON.stringify(warnings)}\n`], file, io);
}

async function show(name: string, paths: readonly string[], options: Loading, io: Io): Promise<Exit> {
  const rule = ruleOf(options);
  const wanted = paths.map((path) => {
    const bytes = fromUtf8(path.replace(/(?<=.)\/+$/, ''));
    if (treeOf(bytes) === undefined) throw new UsageError(`${JSON.stringify(path)} is not at or below /usr or /etc`);
    return bytes;
  });
  const { image, deployed } = await loadDeployed(name, options, io);
  if (wanted.length > 0) {
    const entries = deployed.entries.filter(({ path }) =>
      wanted.some((top) => path === top || path.startsWith(`${top}/`)),
    );
    if (options.json)
      await writeJson(
        {
          image: image.digest,
          rule,
          entries: entries.map((entry) => ({ ...nameJson('path', entry.path), ...factsJson(entry) })),
        },
        io,
      );
    else await writeOut(lines(entries), undefined, io);
    return entries.length > 0 ? EXIT.ok : EXIT.different;
  }
  const { header } = manifestOf(image, rule, deployed, { builder: BUILDER });
  if (options.json) await writeJson(header, io);
  else await io.stdout.write(summary(header, image));
  return EXIT.ok;
}

function* lines(entries: readonly Entry[]): Generator<string> {
  for (const entry of entries) {
    const { type, mode, uid, gid, size, sha256, link, capability, device, path } = entry;
    const facts = [
      type.padEnd(7),
      type === 'symlink' ? '    ' : mode.toString(8).padStart(4, '0'),
      `${uid}:${gid}`,
      ...(size === undefined ? [] : [`${size} ${sha256}`]),
      ...(device === undefined ? [] : [device]),
      ...(capability === undefined ? [] : [`security.capability=${capability}`]),
    ];
    yield `${facts.join(' ')} ${printable(path)}${link === undefined ? '' : ` -> ${printable(link)}`}\n`;
  }
}

function summary(header: ManifestHeader, image: Image): string {
  const bytes = header.layers.reduce((sum, { size }) => sum + size, 0);
  const unpacked = image.layers.reduce((sum, layer) => sum + layer.bytes, 0);
  const rows: (readonly [string, string])[] = [
    ['image', `${header.image}  ${header.platform}`],
    ...(header.index === null ? [] : [['index', header.index] as [string, string]]),
    ['config', header.config],
    ['rule', header.rule],
    ['layers', `${header.layers.length}, ${sizeText(bytes)}, ${sizeText(unpacked)} unpacked`],
    ...header.layers.map(({ digest, diffId, size }, i): [string, string] => [
      `  ${i}`,
      `${digest}  diff ${diffId}  ${sizeText(size)}`,
    ]),
  ];
  for (const tree of TREES) {
    const { main, extra, entries } = header.trees[tree];
    rows.push(
      [`/${tree}`, `${entries} paths`],
      ['  full', main.full],
      ['  comparison', main.comparison],
      ['  extra', extra],
    );
  }
  rows.push(['secrets', header.secretPaths], ['builder', header.builder], ['warnings', String(header.warnings.length)]);
  const text = rows.map(([key, value]) => `${key.padEnd(14)}${value}\n`).join('');
  return text + header.warnings.map((warning) => `  ${warningLine(warning)}`).join('');
}

async function digest(name: string, options: Loading, io: Io): Promise<Exit> {
  const rule = ruleOf(options);
  const { image, deployed } = await loadDeployed(name, options, io);
  const { header } = manifestOf(image, rule, deployed, { builder: BUILDER });
  if (options.json) {
    const { index, config, platform, trees, secretPaths } = header;
    await writeJson({ image: header.image, index, config, platform, rule, secretPaths, trees }, io);
    return EXIT.ok;
  }
  const rows = (tree: TreeName) => {
    const { main, extra } = header.trees[tree];
    return `${main.full}  /${tree} main\n${main.comparison}  /${tree} main, secrets hidden\n${extra}  /${tree} extra\n`;
  };
  await io.stdout.write(TREES.map(rows).join(''));
  return EXIT.ok;
}

type LintOptions = ImageOptions & Json & { readonly backend?: readonly string[] };

/** Verdicts as `--json` shows them. */
type Found = {
  readonly image: string | null;
  readonly platform: string | null;
  readonly verdicts: readonly LintVerdict[];
};
type LintVerdict = Verdict | { backend: Verdict['backend']; deployable: false; code: string; message: string };

async function lintImage(name: string, options: LintOptions, io: Io): Promise<Exit> {
  const backends = (options.backend ?? ['ostree', 'composefs', 'oci']).map(backendNamed);
  argument(() => parseReference(name));
  const { image, platform, verdicts }: Found = await findVerdicts(name, options, io);
  const shown = verdicts.filter(({ backend }) => backends.includes(backend));
  const clean = shown.every((verdict) => verdict.deployable && verdict.warnings.length === 0);
  if (options.json) await writeJson({ image, platform, verdicts: shown }, io);
  else
    for (const verdict of shown) {
      const { backend } = verdict;
      if (!verdict.deployable)
        await io.stdout.write(`${backend}: cannot be deployed: ${shownText(verdict.message)} [${verdict.code}]\n`);
      else if (verdict.warnings.length === 0) await io.stdout.write(`${backend}: nothing to say\n`);
      else {
        await io.stdout.write(
          `${backend}: ${verdict.warnings.length} warning${verdict.warnings.length === 1 ? '' : 's'}\n`,
        );
        await writeOut(
          verdict.warnings.map((warning) => `  ${warningLine(warning)}`),
          undefined,
          io,
        );
      }
    }
  return clean ? EXIT.ok : EXIT.different;
}

/** A layer that no program reads is a verdict on the image; one beyond our bounds, or that cannot be had, is not. */
async function findVerdicts(name: string, options: ImageOptions, io: Io): Promise<Found> {
  try {
    const image = await loadImage(name, options, io);
    return {
      image: image.digest,
      platform: formatPlatform(image.config.platform),
      verdicts: lint(image.layers, image.facts, limitsOf(options).limits),
    };
  } catch (error) {
    if (!(error instanceof ImageError) || error.code.startsWith('LIMIT_')) throw error;
    const { code, message } = error;
    const verdicts = (['ostree', 'composefs', 'oci'] as const).map((backend): LintVerdict => ({
      backend,
      deployable: false,
      code,
      message,
    }));
    return { image: null, platform: null, verdicts };
  }
}
