/**
 * `bootproof evidence verify`: who signed each image of a bundle, judged again from the bytes that lie in it (docs/evidence.md 4, check `signatures`):
 * the recorded case of the image, the policy in force, the trust roots and denials that were used then. Nothing is asked over the network.
 */
import { DocumentError } from '#src/document/yaml.ts';
import { parseInstant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import type { ImageFact, PolicyFact } from '#src/evidence/facts.ts';
import { counted, Faults } from '#src/evidence/steps.ts';
import type { VerifyDeps } from '#src/evidence/verify.ts';
import { parseImagePolicy, type PolicyFile } from '#src/trust/imagepolicy.ts';
import { assessRecorded, readCase } from '#server/trust/recorded.ts';
import { trustSetup, type RootFile, type TrustSetup } from '#server/trust/setup.ts';

const ROOT = /^trust-roots\/([a-z0-9][a-z0-9.-]{0,252})\.json$/;
const DENIED = 'policies/denied.yaml';

type Read = Parameters<NonNullable<VerifyDeps['images']>>[2];

export const judgeImages: NonNullable<VerifyDeps['images']> = async (images, policies, read, names) => {
  const faults = new Faults();
  const counts = { judged: 0, bare: 0 };
  try {
    const court = await Court.open(policies, read, names);
    for await (const image of images) await judge(image, court, read, faults, counts);
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    faults.add(error instanceof DocumentError ? error.lines.join('; ') : `${error.message} [${error.code}]`);
  }
  const bare =
    counts.bare === 0 ? '' : `; ${counted(counts.bare, 'image')} without proofs, none of them said to be trusted`;
  return faults.step('signatures', `${counted(counts.judged, 'image')} judged again, each as the bundle says${bare}`);
};

async function judge(
  { image, trust, signatures }: ImageFact,
  court: Court,
  read: Read,
  faults: Faults,
  counts: { judged: number; bare: number },
): Promise<void> {
  const at = trust.verifiedAt === null ? undefined : parseInstant(trust.verifiedAt);
  const [member] = signatures;
  if (member === undefined || at === undefined) {
    counts.bare++;
    if (trust.state === 'trusted') faults.add(`${image} is said to be trusted, and there is no proof of it`);
    return;
  }
  const recorded = readCase(await read(member), member);
  if (recorded.image !== image) {
    faults.add(`${member} is about ${recorded.image}, not about ${image}`);
    return;
  }
  const { state, told } = await assessRecorded(recorded, { setup: court.at(at), deny: court.deny, now: at });
  counts.judged++;
  if (state !== trust.state || (state === 'trusted' && told.by !== trust.by))
    faults.add(
      `${image} is said to be ${trust.state}${trust.by === null ? '' : ` by ${trust.by}`}; by what lies in the bundle it is ${state}${told.by === null ? '' : ` by ${told.by}`}${told.why === null ? '' : `: ${told.why} [${told.code}]`}`,
    );
}

type InForce = { readonly from: number; readonly to: number; readonly files: readonly PolicyFile[] };

/** By what images were judged: policies as they were in force, roots, denials. */
class Court {
  readonly #policies: readonly InForce[];
  readonly #roots: readonly RootFile[];
  readonly #setups = new Map<number, TrustSetup>();
  readonly deny: ReturnType<typeof parseImagePolicy>['deny'];

  private constructor(policies: readonly InForce[], roots: readonly RootFile[], deny: Court['deny']) {
    this.#policies = policies;
    this.#roots = roots;
    this.deny = deny;
  }

  static async open(facts: AsyncIterable<PolicyFact>, read: Read, names: ReadonlySet<string>): Promise<Court> {
    const text = async (member: string) => new TextDecoder().decode(await read(member));
    const policies: InForce[] = [];
    for await (const { kind, documents, inForce } of facts) {
      if (kind !== 'image') continue;
      const files: PolicyFile[] = [];
      for (const { file, member } of documents) files.push({ file, text: await text(member) });
      const to = inForce.to === null ? Infinity : parseInstant(inForce.to)!;
      policies.push({ from: parseInstant(inForce.from)!, to, files });
    }
    const roots: RootFile[] = [];
    for (const member of names) {
      const name = ROOT.exec(member)?.[1];
      if (name !== undefined) roots.push({ name, bytes: await read(member) });
    }
    const deny = names.has(DENIED) ? parseImagePolicy([{ file: DENIED, text: await text(DENIED) }]).deny : [];
    return new Court(policies, roots, deny);
  }

  /** What was demanded at a time: no image policy in force demands nothing. */
  at(time: number): TrustSetup {
    const index = this.#policies.findLastIndex(({ from, to }) => from <= time && time < to);
    let setup = this.#setups.get(index);
    if (setup === undefined) {
      setup = trustSetup({ policies: this.#policies[index]?.files ?? [], roots: this.#roots });
      this.#setups.set(index, setup);
    }
    return setup;
  }
}
