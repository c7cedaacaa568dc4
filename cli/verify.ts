/** `bootproof image verify`: who signed an image, without a server: the gate for CI. */
import type { Command } from 'commander';
import { BootproofError } from '#src/error.ts';
import type { Digest } from '#src/digest.ts';
import { formatReference, ImageReferenceError, parseReference, type Reference } from '#src/image/reference.ts';
import { TRUST_ROOT_BYTES_MAX, YAML_BYTES_MAX } from '#src/limits.ts';
import { nodeSha256, verifiedDigest } from '#src/source/verified.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { PUBLIC_GOOD } from '#src/trust/clusterimagepolicy.ts';
import type { DenyEntry } from '#src/trust/deny.ts';
import { parseImagePolicy, policyOfAuthority } from '#src/trust/imagepolicy.ts';
import { readKey } from '#src/trust/keys.ts';
import { HASH_ALGORITHMS, type Authority } from '#src/trust/requirement.ts';
import { readTrustRoot, type TrustRoot } from '#src/trust/trustroot.ts';
import { parseMirrors, parseSignatureRepositories } from '#server/mirrors.ts';
import { openSource } from '#server/sources.ts';
import { assess, byLooking, type Assessed, type Subject } from '#server/trust/assess.ts';
import type { LookResult, RegistryTerms } from '#server/trust/look.ts';
import { placesOf } from '#server/trust/places.ts';
import { recordCase, type RecordedCase } from '#server/trust/recorded.ts';
import { readNamed, readTrustFiles, trustSetup, type TrustSetup } from '#server/trust/setup.ts';
import { program, runProgram } from './commander.ts';
import { list } from './image.ts';
import { writeJson, writeOut } from './output.ts';

/** By what an image is judged, and how it is looked for: what `verifyOptions` adds, as commander hands it on. */
export type VerifyOptions = {
  readonly as?: string;
  readonly key?: string;
  readonly policy?: readonly string[];
  readonly trustedRoot?: readonly string[];
  readonly trustRoot?: readonly string[];
  readonly certificateIdentity?: string;
  readonly certificateOidcIssuer?: string;
  readonly requireLog?: boolean;
  readonly requireTimestamp?: boolean;
  readonly attestation?: readonly string[];
  readonly signatureDigest: string;
  readonly deny?: string;
  readonly record?: string;
  readonly mirror?: readonly string[];
  readonly signatureRepository?: readonly string[];
  readonly authfile?: string;
  readonly ca?: readonly string[];
  readonly insecureHttp?: boolean;
  readonly json?: boolean;
};

const REFERENCE = 'docker://HOST/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG][@DIGEST] or oci-archive:FILE';

const VERIFY_HELP = `
What it is held against, one of three:
  --key FILE                                                        a public key in PEM
  --certificate-identity I --certificate-oidc-issuer U --trusted-root FILE   an identity in a certificate
  --policy FILE|DIR                                                 ClusterImagePolicy documents (docs/image-policy.md)

Exit codes: 0 trusted, 1 unsigned or rejected, 2 it could not be told (docs/errors.md, "Signatures").
`;

export async function image(args: readonly string[], io: Io): Promise<Exit> {
  // A subcommand of a subcommand: a program of its own.
  if (args[0] === 'policy') return (await import('./imagepolicy.ts')).imagePolicy(args.slice(1), io);
  if (args[0] === 'preview') return (await import('./preview.ts')).preview(args.slice(1), io);
  let exit: Exit = EXIT.ok;
  const command = program('bootproof image', 'Who signed an image, and what it would meet on hosts.');
  command.command('preview').description('what a newer image would meet on the hosts of an older one: --help');
  command.command('policy').description('check, test and explain image policies: bootproof image policy --help');
  verifyOptions(
    command
      .command('verify <reference>')
      .description(`verify who signed an image: ${REFERENCE}`)
      .option('--record <file>', 'also write what was found to FILE, for tests of policies'),
  ).action(async (reference: string, options: VerifyOptions) => {
    exit = await verify(reference, options, io);
  });
  return runProgram(command, args, io, () => exit);
}

/** Adds the options of `VerifyOptions`, but for `--record`. */
export function verifyOptions(command: Command): Command {
  return command
    .option('--as <reference>', 'the reference under which an image of a layout or archive is known')
    .option('--key <file>', 'signed with the private half of this key')
    .option('--policy <file|dir>', 'as these image policies demand (repeatable)', list)
    .option(
      '--trusted-root <[name=]file>',
      `a trusted_root.json; policies call it by its name, without one it is ${PUBLIC_GOOD} (repeatable)`,
      list,
    )
    .option('--trust-root <name=file>', 'the same', list)
    .option('--certificate-identity <text>', 'signed by this subject')
    .option('--certificate-oidc-issuer <url>', 'for whom this issuer vouches')
    .option('--require-log', 'with --key: an entry in a transparency log of the trusted root')
    .option('--require-timestamp', 'an RFC 3161 timestamp by an authority of the trusted root')
    .option('--attestation <type>', 'an attestation of this predicate type instead of a signature (repeatable)', list)
    .option('--signature-digest <name>', `with --key: ${HASH_ALGORITHMS.join(', ')}`, 'sha256')
    .option('--deny <file>', 'what is denied whoever signed it (docs/image-policy.md 8)')
    .option('--authfile <file>', 'registry credentials, instead of where podman and docker keep them')
    .option('--ca <file>', 'trust the certificates in FILE besides those of this machine (repeatable)', list)
    .option('--mirror <from=to>', 'ask for what lies under FROM in TO; its own name is what counts (repeatable)', list)
    .option('--signature-repository <repository>', 'look for signatures there as well (repeatable)', list)
    .option('--insecure-http', 'speak plain http with a registry that is not on loopback')
    .option('--json', 'one JSON document on standard output')
    .addHelpText('after', VERIFY_HELP);
}

async function verify(text: string, options: VerifyOptions, io: Io): Promise<Exit> {
  let sought: Sought;
  try {
    const setup = await setupOf(options);
    const deny = options.deny === undefined ? [] : await denyOf(options.deny);
    sought = await seek(text, options, { setup, deny }, io);
  } catch (error) {
    if (!(error instanceof BootproofError) || error instanceof UsageError) throw error;
    if (options.json !== true) throw error;
    const { code, message } = error;
    await writeJson(
      {
        image: digestIn(text),
        status: 'unverifiable',
        code,
        reason: message,
        identities: [],
        hostPolicyReadable: false,
        checked: [],
      },
      io,
    );
    return EXIT.unknown;
  }
  const { assessed } = sought;
  if (options.record !== undefined) await writeOut([recordCase(sought.recorded)], options.record, io);
  await (options.json === true ? writeJson(documentOf(assessed), io) : print(assessed, io));
  return exitOf(assessed.state);
}

/** 0 trusted, 1 unsigned or rejected, 2 it could not be told. */
export function exitOf(state: Assessed['state']): Exit {
  switch (state) {
    case 'trusted':
      return EXIT.ok;
    case 'unsigned':
    case 'rejected':
      return EXIT.different;
    case 'unverifiable':
    case 'not-assessed':
      return EXIT.unknown;
  }
}

/** The digest that a reference names, where it names one. */
function digestIn(text: string): Digest | null {
  try {
    return parseReference(text).digest ?? null;
  } catch (error) {
    if (error instanceof ImageReferenceError) return null;
    throw error;
  }
}

/** An image that was looked for, what was found, and what came of it. */
export type Sought = { readonly assessed: Assessed; readonly recorded: RecordedCase };

/**
 * Looks for an image's signatures and judges it.
 * @throws {UsageError | BootproofError} for an image that cannot be had
 */
export async function seek(
  text: string,
  options: VerifyOptions,
  { setup, deny }: { readonly setup: TrustSetup; readonly deny: readonly DenyEntry[] },
  io: Io,
): Promise<Sought> {
  const plainHttp = options.insecureHttp ?? false;
  const signatureRepositories = parseSignatureRepositories(options.signatureRepository ?? [], () => plainHttp);
  const terms: RegistryTerms = {
    env: io.env,
    caFiles: options.ca ?? [],
    authFile: options.authfile,
    mirrors: parseMirrors(options.mirror ?? [], () => plainHttp),
  };
  const as = options.as === undefined ? undefined : nameOf(options.as);
  const reference = parseReference(text);
  const digest = reference.digest ?? (await resolve(reference, terms, plainHttp));
  const { tag: _tag, digest: _digest, ...repository } = reference;
  const pattern = formatReference(repository);
  const own = placesOf(
    { repositories: [pattern], claims: options.as === undefined ? [] : [options.as] },
    digest,
    [{ pattern, options: { plainHttp }, createdAt: 0, createdBy: '' }],
    setup,
    signatureRepositories,
    as === undefined ? undefined : [as],
  );
  const { references } = own;
  // Who types a registry's name vouches for where it lies.
  const places = own.places.map((place) => ({ ...place, reach: 'any' as const }));
  const now = Date.now();
  let found: LookResult | undefined;
  const assessed = await assess(
    {
      image: digest,
      references,
      places,
      closed: [],
      pulledAs: [],
      kept: [],
      indexes: [],
      before: { looked: [], hostPolicy: null, complete: false },
    },
    { setup, deny, now, terms },
    new AbortController().signal,
    async (...asked) => (found = orNowhere(await byLooking(...asked), asked[0])),
  );
  return { assessed, recorded: { image: digest, recordedAt: now, references, places, found: found! } };
}

/** An image that is in none of its places, with nothing that signs it: a name misspelt, and not the absence of a signature. */
function orNowhere(result: LookResult | undefined, { image: digest, places }: Subject): LookResult | undefined {
  if (result === undefined || !result.complete || result.manifest !== undefined || result.found.length > 0)
    return result;
  const where = places?.find(({ own }) => own)?.pattern ?? 'its place';
  const reason = `no image ${digest} there`;
  const nowhere = { where, of: digest, outcome: 'unreadable', count: 0, code: 'SOURCE_NOT_FOUND', reason } as const;
  return { ...result, looked: [nowhere, ...result.looked], complete: false };
}

/** What a tag stands for now; from here on the digest decides. */
async function resolve(reference: Reference, terms: RegistryTerms, insecureHttp: boolean): Promise<Digest> {
  const { source, close } = await openSource(reference, { ...terms, insecureHttp, reach: 'any' });
  try {
    const { bytes, claimed } = await source.manifest(reference.tag);
    return verifiedDigest(bytes, claimed?.digest, source.name);
  } finally {
    await close();
  }
}

/** `host/path[:tag]`, whatever transport was written before it. @throws {ImageReferenceError} */
export function nameOf(text: string): string {
  const reference = parseReference(/^(?:docker:\/\/|oci:|oci-archive:)/.test(text) ? text : `docker://${text}`);
  if (reference.transport !== 'docker') throw new UsageError(`--as ${text}: expected HOST/REPOSITORY[:TAG]`);
  return formatReference(reference).slice('docker://'.length);
}

/** @throws {UsageError | BootproofError} */
export async function setupOf(options: VerifyOptions): Promise<TrustSetup> {
  const { key, policy = [], certificateIdentity: subject, certificateOidcIssuer: issuer } = options;
  const isKeyless = subject !== undefined || issuer !== undefined;
  for (const [name, value] of [
    ['--certificate-identity', subject],
    ['--certificate-oidc-issuer', issuer],
    ...(options.attestation ?? []).map((type) => ['--attestation', type] as const),
  ] as const)
    if (value === '') throw new UsageError(`image verify: ${name} is empty`);
  const ways = [key !== undefined, isKeyless, policy.length > 0].filter(Boolean).length;
  if (ways !== 1)
    throw new UsageError(
      `image verify: by whom must it be signed? One of --key, --certificate-identity with --certificate-oidc-issuer, --policy${ways === 0 ? '' : ', not several'}`,
    );
  const roots = rootsNamed(options);
  if (policy.length > 0) {
    const beside = (['attestation', 'requireLog', 'requireTimestamp'] as const).filter(
      (name) => options[name] !== undefined,
    );
    if (beside.length > 0)
      throw new UsageError('image verify: with --policy it is the policy that says what is demanded');
    return trustSetup(await readTrustFiles({ policies: policy, roots }));
  }
  const files = await readTrustFiles({ policies: [], roots });
  const imported = files.roots.map(({ name, bytes }): TrustRoot => readTrustRoot(name, bytes, nodeSha256));
  const root = imported[0]?.name ?? PUBLIC_GOOD;
  if (imported.length > 1)
    throw new UsageError('image verify: one --trusted-root; several need a --policy that tells them apart');
  const imagePolicy = policyOfAuthority(await authorityOf(options, root), options.attestation ?? []);
  return {
    files,
    policy: imagePolicy,
    roots: new Map(imported.map((each) => [each.name, each])),
    digests: { policy: imagePolicy.digest, roots: imagePolicy.digest },
  };
}

/** NAME=FILE of each root; without a name it is the public instance's. */
export function rootsNamed({ trustedRoot = [], trustRoot = [] }: VerifyOptions): string[] {
  return [...trustedRoot, ...trustRoot].map((text) =>
    /^[a-z0-9][a-z0-9.-]*=/.test(text) ? text : `${PUBLIC_GOOD}=${text}`,
  );
}

async function authorityOf(options: VerifyOptions, root: string): Promise<Authority> {
  const { key, certificateIdentity: subject, certificateOidcIssuer: issuer, signatureDigest } = options;
  const hashAlgorithm = HASH_ALGORITHMS.find((name) => name === signatureDigest);
  if (hashAlgorithm === undefined)
    throw new UsageError(`--signature-digest ${signatureDigest}: expected one of ${HASH_ALGORITHMS.join(', ')}`);
  if (key !== undefined) {
    const pem = (await readNamed(key, TRUST_ROOT_BYTES_MAX, 'KEY_FILE', 'key')).toString('utf8');
    readKey(pem);
    return {
      kind: 'key',
      keys: [pem],
      hashAlgorithm,
      tlog: options.requireLog === true ? root : undefined,
      tsa: options.requireTimestamp === true ? root : undefined,
    };
  }
  if (subject === undefined || issuer === undefined)
    throw new UsageError('an identity has two sides: --certificate-identity and --certificate-oidc-issuer');
  return {
    kind: 'keyless',
    identities: [{ subject: { exact: subject }, issuer: { exact: issuer } }],
    trustRoot: root,
    tlog: true,
    tsa: options.requireTimestamp === true,
    sct: true,
  };
}

export async function denyOf(file: string): Promise<readonly DenyEntry[]> {
  const text = (await readNamed(file, YAML_BYTES_MAX, 'IMAGE_POLICY_FILE', 'deny list')).toString('utf8');
  return parseImagePolicy([{ file, text }]).deny;
}

function documentOf({ image: digest, state, told, complete }: Assessed): object {
  const proofs = told.policies.flatMap(({ authorities }) => authorities.flatMap((each) => each.proofs));
  return {
    image: digest,
    status: state === 'not-assessed' ? 'unverifiable' : state,
    code: told.code,
    reason: told.why,
    policy: told.policy,
    identities: proofs.map(({ kind, subject, issuer, fingerprint, algorithm, signs, entries, times, where }) => ({
      kind,
      subject,
      issuer,
      fingerprint,
      algorithm,
      signs,
      entries,
      times,
      where,
    })),
    hostPolicyReadable: told.hostPolicy?.readable ?? false,
    hostPolicy: told.hostPolicy,
    checked: told.checked,
    policies: told.policies.map(({ name, mode, state: result, code, reason, authorities }) => ({
      name,
      mode,
      state: result,
      code,
      reason,
      authorities: authorities.map(({ proofs: _proofs, ...authority }) => authority),
    })),
    warnings: told.warnings,
    looked: told.looked,
    complete,
  };
}

async function print({ image: digest, state, told }: Assessed, io: Io): Promise<void> {
  const line = (text: string) => io.stdout.write(`${printableText(text)}\n`);
  await line(state === 'trusted' ? `trusted: ${digest}` : `${state}: ${told.why} [${told.code}]`);
  if (state === 'trusted') await line(`  by ${told.by}, as ${told.policy} demands`);
  for (const policy of told.policies)
    for (const { name, state: its, code, reason } of policy.authorities)
      await line(`  ${policy.name}, authority ${name}: ${its}${code === null ? '' : `: ${reason} [${code}]`}`);
  for (const { where, format, outcome, code, reason } of told.checked)
    await line(`  ${where} (${format}): ${outcome}${code === null ? '' : `: ${reason} [${code}]`}`);
  for (const { where, outcome, reason } of told.looked)
    if (outcome !== 'found' && outcome !== 'nothing')
      await line(`  ${where}: ${outcome}${reason === undefined ? '' : `: ${reason}`}`);
  for (const { policy, reason, code } of told.warnings)
    await line(`  ${policy} would refuse it (warns): ${reason} [${code}]`);
  if (told.hostPolicy !== null && state === 'trusted')
    await line(`  hosts that enforce signatures: ${told.hostPolicy.reason}`);
}
