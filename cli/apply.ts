/** `bootproof apply`: makes a server what documents in files say, and says of each what came of it (docs/apply.md). */
import { chmod, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { BootproofError } from '#src/error.ts';
import { EXIT, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { readDocuments, type Document, type Where, type Wrong } from './applydocuments.ts';
import {
  applyChannel,
  applyPolicy,
  applySource,
  applyToken,
  applyWaiver,
  type Difference,
  type How,
  type Outcome,
} from './applykinds.ts';
import { applyAccess, applyApiToken, applyDenial, applySetting, applyView } from './applyaccess.ts';
import { extras, PRUNED, type Extra, type Pruned } from './applyprune.ts';
import { client, wordsOption, type Action } from './client.ts';
import { list } from './image.ts';
import { writeJson } from './output.ts';

const HELP = `
A document is YAML with kind, name and spec: Source, Denial, Channel, Token, Access, ApiToken, View, Setting or Waiver; a policy is its own
document. What is so already is left alone, and nothing is removed but what --prune names. Exit code 1 says that one was refused, and with --dry-run also that something would change.
`;

type ApplyOptions = {
  readonly file: readonly string[];
  readonly dryRun?: boolean;
  readonly approve: boolean;
  readonly note: string;
  readonly secrets?: string;
  readonly prune?: string;
};

export function main(args: readonly string[], io: Io): Promise<Exit> {
  return client('apply', 'Make a server what files say (GitOps).', args, io, (command: Command, add) => {
    add<ApplyOptions>(command, apply)
      .requiredOption('-f, --file <place>', 'a file, or a folder with *.yaml (repeatable)', list)
      .option('--dry-run', 'change nothing; tell what would be changed, and how')
      .option('--secrets <folder>', 'where texts are written that a server tells once: tokens, signing keys')
      .option('--prune <kinds>', `remove what no document names, of these kinds: ${PRUNED.join(',')}`)
      .option('--no-approve', 'leave each waiver a request, even where this token may approve it')
      .option('--note <sentence>', 'why, for those who look later', 'bootproof apply')
      .addHelpText('after', HELP);
  });
}

type Told = Where & { readonly kind: string; readonly name: string } & (Outcome | Skipped);
type Skipped = { readonly outcome: 'skipped'; readonly detail: string };

const apply: Action<ApplyOptions> = async (connection, options, _operands, io) => {
  const { file, dryRun = false, approve, note, secrets } = options;
  wordsOption('--prune', options.prune, PRUNED);
  const kinds = (options.prune?.split(',') ?? []) as readonly Pruned[];
  const { documents, wrong } = await readDocuments(file, io.env);
  if (secrets !== undefined && !dryRun) await secretsFolder(secrets);
  const how: How = { connection, dryRun, approve, note, keepsSecrets: secrets !== undefined };
  const told: Told[] = [];
  const say = async (one: Told): Promise<void> => {
    told.push(one);
    // At once: where the server goes away in between, it stands there what was done until then.
    if (options.json !== true) await tell(one, dryRun, io);
  };
  for (const one of wrong) await say(wrongTold(one));
  // One that is wrong may be what another leans on: all or nothing of what can be known beforehand, by the server too.
  const refused = wrong.length > 0 ? NONE : await refusedBefore(documents, how);
  for (const document of documents) {
    const { where, kind, name } = document;
    const outcome: Outcome | Skipped =
      refused.get(document) ??
      (wrong.length + refused.size > 0
        ? { outcome: 'skipped', detail: 'nothing is sent while a document is wrong' }
        : await outcomeOf(document, how));
    if ('secret' in outcome && outcome.secret !== undefined) await keep(secrets!, outcome.secret);
    await say({ ...where, kind, name, ...outcome });
  }
  // Nothing goes while something did not come: a document that was refused may be the one that names it anew.
  const isRefused = told.some(({ outcome }) => outcome === 'refused');
  if (kinds.length > 0 && !isRefused)
    for (const extra of await extras(kinds, documents, how)) await say(await removed(extra, how));
  if (options.json === true) await writeJson({ dryRun, documents: told.map(withoutSecret) }, io);
  const is = (word: Told['outcome']) => told.some(({ outcome }) => outcome === word);
  const would = is('created') || is('changed') || is('removed');
  return is('refused') || (dryRun && would) ? EXIT.different : EXIT.ok;
};

const NONE: ReadonlyMap<Document, Outcome> = new Map();

/** Of a refusal that is about the text alone: wrong whatever stands on the server, which others need not wait for. */
const OF_TEXT = /_(?:SYNTAX|INVALID)$|^(?:SECRET_PLACE|TOKEN_LABEL)$/;

/**
 * What the server would take of no document as it stands, asked before the first is applied. What somebody decided meanwhile (a waiver that was
 * revoked, a policy that is changed elsewhere) is refused for itself, and holds up no other.
 */
async function refusedBefore(documents: readonly Document[], how: How): Promise<ReadonlyMap<Document, Outcome>> {
  if (how.dryRun) return NONE;
  const out = new Map<Document, Outcome>();
  for (const document of documents) {
    const outcome = await outcomeOf(document, { ...how, dryRun: true, isCheck: true });
    if (outcome.outcome === 'refused' && OF_TEXT.test(outcome.code ?? '')) out.set(document, outcome);
  }
  return out;
}

function wrongTold({ file, line, column, message }: Wrong): Told {
  const detail = `${message} (column ${column})`;
  return { file, line, kind: 'document', name: '', outcome: 'refused', code: 'DOCUMENT_INVALID', detail };
}

async function removed({ kind, name, detail, remove, refused }: Extra, { dryRun }: How): Promise<Told> {
  const one = { file: '', line: 0, kind, name };
  if (refused !== undefined) return { ...one, outcome: 'refused', code: 'FORBIDDEN', detail: refused };
  if (dryRun) return { ...one, outcome: 'removed', detail };
  try {
    await remove();
    return { ...one, outcome: 'removed', detail };
  } catch (error) {
    if (!(error instanceof BootproofError) || ENDS.has(error.code)) throw error;
    return { ...one, outcome: 'refused', code: error.code, detail: error.message };
  }
}

/** A refusal is about its document; a server that is gone ends the whole. */
async function outcomeOf(document: Document, how: How): Promise<Outcome> {
  try {
    switch (document.kind) {
      case 'Source':
        return await applySource(document, how);
      case 'Policy':
        return await applyPolicy(document, how);
      case 'Channel':
        return await applyChannel(document, how);
      case 'Token':
        return await applyToken(document, how);
      case 'Denial':
        return await applyDenial(document, how);
      case 'Access':
        return await applyAccess(document, how);
      case 'ApiToken':
        return await applyApiToken(document, how);
      case 'View':
        return await applyView(document, how);
      case 'Setting':
        return await applySetting(document, how);
      case 'Waiver':
        return await applyWaiver(document, how);
    }
  } catch (error) {
    if (!(error instanceof BootproofError) || ENDS.has(error.code)) throw error;
    return { outcome: 'refused', code: error.code, detail: error.message };
  }
}

const ENDS = new Set([
  'SERVER_UNREACHABLE',
  'SERVER_ANSWER',
  'UNAUTHENTICATED',
  'TOO_MANY_FAILURES',
  'FAULT',
  'OVERLOADED',
]);

const MODE = 0o700;

async function secretsFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: MODE });
    const { mode } = await stat(folder);
    if ((mode & 0o077) !== 0) await chmod(folder, MODE);
  } catch (error) {
    throw new UsageError(`--secrets ${folder}: cannot be used: ${(error as NodeJS.ErrnoException).code}`);
  }
}

/** Told once: it is on disk before anything else is asked. */
async function keep(folder: string, { name, text }: NonNullable<Outcome['secret']>): Promise<void> {
  await writeFile(join(folder, name), `${text}\n`, { mode: 0o600 });
}

function withoutSecret(told: Told): object {
  if (!('secret' in told) || told.secret === undefined) return told;
  const { secret, ...rest } = told;
  return { ...rest, secret: secret.name };
}

async function tell(told: Told, dryRun: boolean, io: Io): Promise<void> {
  const { file, line, kind, name, outcome, detail } = told;
  const what = name === '' ? '' : `  ${kind} ${name}`;
  const code = 'code' in told && told.code !== undefined ? ` [${told.code}]` : '';
  const isChange = outcome === 'created' || outcome === 'changed' || outcome === 'removed';
  const would = dryRun && isChange ? `would be ${outcome}` : outcome;
  const place = file === '' ? '--prune' : `${file}:${line}`;
  await io.stdout.write(`${shownText(`${place}: ${would}${what}: ${detail}${code}`)}\n`);
  const differences: readonly Difference[] = ('differences' in told ? told.differences : undefined) ?? [];
  if (!dryRun && outcome !== 'refused') return;
  for (const { at, before, after } of differences)
    await io.stdout.write(`${shownText(`    ${at}: ${valueText(before)} → ${valueText(after)}`)}\n`);
}

const valueText = (value: unknown): string => (value === null ? 'nothing' : JSON.stringify(value));
