/** `bootproof controls …`: what the result of each control of a framework is computed from, and what it does not prove (docs/controls.md). */
import { DocumentError } from '#src/document/yaml.ts';
import { nearest } from '#src/document/spelling.ts';
import { CONTROL_DATA, CONTROL_RULES, controlMeant, type Control, type Framework } from '#src/policy/controls.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { readFrameworks, shippedFrameworks } from '#server/controlfiles.ts';
import { program, runProgram } from './commander.ts';
import { writeJson } from './output.ts';
import { printFacts, printTable } from './table.ts';

type Options = { readonly mappings?: string; readonly json?: boolean };

/** `bootproof controls`. */
export async function main(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program(
    'bootproof controls',
    'Which controls of which framework have a result, and from what it is computed.',
  );
  const withOptions = (name: string, about: string) =>
    command
      .command(name)
      .description(about)
      .option('--mappings <file|dir>', 'mappings of your own instead of those that ship')
      .option('--json', 'one JSON document on standard output');
  withOptions('list', 'the frameworks, or the controls of one')
    .argument('[framework]', 'nist-800-53, pci-dss-4, …')
    .action(async (name: string | undefined, options: Options) => {
      const frameworks = await frameworksAt(options.mappings);
      await (name === undefined
        ? listFrameworks(frameworks, options, io)
        : listControls(found(frameworks, name), options, io));
    });
  withOptions('show', 'one control: summary, rule, data, limits')
    .argument('<control>', 'framework:id, as in nist-800-53:SI-7')
    .action(async (name: string, options: Options) => {
      const { framework, control } = controlOf(await frameworksAt(options.mappings), name);
      if (options.json === true) await writeJson({ framework: framework.id, ...controlJson(control) }, io);
      else await showControl(framework, control, io);
    });
  withOptions('check', 'are they mappings, to the letter')
    .argument('[place]', 'file or folder; those that ship where none is given')
    .action(async (place: string | undefined, options: Options) => {
      exit = await check(place ?? options.mappings, options, io);
    });
  return runProgram(command, args, io, () => exit);
}

async function frameworksAt(place: string | undefined): Promise<readonly Framework[]> {
  const files = await (place === undefined ? shippedFrameworks() : readFrameworks(place));
  return files.map(({ framework }) => framework);
}

function found(frameworks: readonly Framework[], name: string): Framework {
  const framework = frameworks.find(({ id }) => id === name);
  if (framework !== undefined) return framework;
  const ids = frameworks.map(({ id }) => id);
  const meant = nearest(name, ids);
  throw new UsageError(
    `no mapping of ${printableText(name)}${meant === undefined ? `; there are ${ids.join(', ')}` : `, did you mean ${meant}?`}`,
  );
}

function controlOf(frameworks: readonly Framework[], name: string): { framework: Framework; control: Control } {
  const at = name.indexOf(':');
  if (at < 1) throw new UsageError(`${printableText(name)}: expected framework:id, as in nist-800-53:SI-7`);
  const framework = found(frameworks, name.slice(0, at));
  const id = name.slice(at + 1);
  const control = framework.controls.find((each) => each.id === id);
  if (control !== undefined) return { framework, control };
  const meant = controlMeant(framework, id);
  throw new UsageError(
    `${framework.id} maps no ${printableText(id)}${meant === undefined ? ';' : `, did you mean ${meant}?`} 'bootproof controls list ${framework.id}' lists what it maps`,
  );
}

async function listFrameworks(frameworks: readonly Framework[], { json }: Options, io: Io): Promise<void> {
  const count = ({ controls }: Framework) => ({
    controls: controls.length,
    computed: controls.filter(({ rules }) => rules.length > 0).length,
    reviewed: controls.filter(({ status }) => status === 'reviewed').length,
  });
  if (json === true) {
    await writeJson(
      frameworks.map((each) => ({
        id: each.id,
        title: each.title,
        version: each.version,
        about: each.about,
        ...count(each),
      })),
      io,
    );
    return;
  }
  await printTable(
    ['framework', 'controls', 'computed', 'reviewed', 'title'],
    frameworks.map((each) => {
      const { controls, computed, reviewed } = count(each);
      return [each.id, `${controls}`, `${computed}`, `${reviewed}`, `${each.title}, ${each.version}`];
    }),
    io,
  );
}

async function listControls({ id, controls }: Framework, { json }: Options, io: Io): Promise<void> {
  if (json === true) return writeJson({ framework: id, controls: controls.map(controlJson) }, io);
  await printTable(
    ['control', 'mapping', 'rule', 'in our words'],
    controls.map((each) => [each.id, each.status, each.rules.join(' ') || '–', each.title]),
    io,
  );
  if (controls.some(({ status }) => status === 'draft'))
    await io.stdout.write(
      'draft: nobody with the standard at hand has reviewed that row yet. –: nothing here computes it.\n',
    );
}

async function showControl(framework: Framework, control: Control, io: Io): Promise<void> {
  const { reviewed, interval, rules, data, doesNotProve, oscal } = control;
  const lines = (all: readonly string[]) => all.join('\n');
  await printFacts(
    [
      ['control', { text: `${control.id}  ${control.title}`, style: 'bold' }],
      ['framework', `${framework.title}, ${framework.version}`],
      ['summary', `${control.summary} (our words)`],
      [
        'mapping',
        reviewed === null
          ? 'draft: not reviewed by a person with the standard at hand'
          : `reviewed by ${reviewed.by} on ${reviewed.on}`,
      ],
    ],
    io,
  );
  const section = async (title: string, all: readonly string[]) => {
    if (all.length > 0) await io.stdout.write(`\n${title}\n${lines(all.map((text) => `  ${printableText(text)}`))}\n`);
  };
  await section(
    'computed from',
    control.notComputed === null ? rules.map((rule) => `${rule}  ${CONTROL_RULES[rule]}`) : [],
  );
  await section('at least', interval === null ? [] : [`every ${interval / 86_400_000} days`]);
  await section('not computed', control.notComputed === null ? [] : [control.notComputed]);
  await section(
    'rests on',
    data.map((each) => CONTROL_DATA[each]),
  );
  await section('does not prove', doesNotProve);
  await section('in OSCAL', oscal === null ? [] : [`${oscal.control}, target ${oscal.target}`]);
}

const controlJson = ({ place, ...control }: Control) => ({ ...control, line: place.line });

async function check(place: string | undefined, { json }: Options, io: Io): Promise<Exit> {
  const read = await (place === undefined ? shippedFrameworks() : readFrameworks(place)).catch((error: unknown) => {
    if (error instanceof DocumentError) return error;
    throw error;
  });
  if (read instanceof DocumentError) {
    const problems = read.problems.map((problem) => ({ file: read.file, ...problem }));
    if (json === true) await writeJson({ valid: false, problems }, io);
    else await io.stdout.write(read.lines.map((line) => `${printableText(line)}\n`).join(''));
    return EXIT.different;
  }
  const frameworks = read.map(({ framework: { id, controls } }) => ({
    id,
    controls: controls.length,
    draft: controls.filter(({ status }) => status === 'draft').length,
  }));
  if (json === true) await writeJson({ valid: true, problems: [], frameworks }, io);
  else
    for (const { id, controls, draft } of frameworks)
      await io.stdout.write(
        `${id}: ${controls} controls, ${draft === 0 ? 'all reviewed' : `${draft} of them draft`}\n`,
      );
  return EXIT.ok;
}
