/** `bootproof agent …`: the agent, and what it cannot do alone: make the manifest for a scan from an image. */
import { main as agentMain } from '#agent/main.ts';
import type { Expected } from '#agent/manifestfile.ts';
import { scanCommand, type ImageOption } from '#agent/scancommand.ts';
import { UsageError, type Exit, type Io } from '#src/terminal.ts';

export function main(args: readonly string[], io: Io): Promise<Exit> {
  return agentMain(args, io, { scan: (rest) => scanCommand(rest, io, imageOption(io)) });
}

const HELP = `  --image REF            hold it against this image: docker://HOST/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or
                         oci-archive:FILE[:TAG]
  --backend NAME         how hosts import the image: ostree (default), composefs, oci; --rule for an older rule
  --platform, --authfile, --ca, --insecure-http, --limit    as in 'bootproof manifest build --help'
`;

const IMAGE_OPTIONS = {
  image: { type: 'string' },
  backend: { type: 'string' },
  rule: { type: 'string' },
  platform: { type: 'string' },
  authfile: { type: 'string' },
  ca: { type: 'string', multiple: true },
  'insecure-http': { type: 'boolean' },
  limit: { type: 'string', multiple: true },
} as const satisfies ImageOption['options'];

const imageOption = (io: Io): ImageOption => ({
  options: IMAGE_OPTIONS,
  help: HELP,
  load: (values) => load(values, io),
});

type Values = {
  readonly image?: string;
  readonly backend?: string;
  readonly rule?: string;
  readonly platform?: string;
  readonly authfile?: string;
  readonly ca?: string[];
  readonly 'insecure-http'?: boolean;
  readonly limit?: string[];
};

async function load({ image, ...values }: Values, io: Io): Promise<Expected | undefined> {
  if (image === undefined) {
    const [stray] = Object.keys(values).filter((name) => Object.hasOwn(IMAGE_OPTIONS, name));
    if (stray !== undefined) throw new UsageError(`--${stray} needs --image`);
    return undefined;
  }
  // Reading images is most of the program; a scan without one does not need it.
  const { BUILDER, expectedOf, limitsOf, loadImage, ruleOf } = await import('./image.ts');
  const rule = ruleOf(values);
  const { buildManifest } = await import('#src/source/build.ts');
  const { warningLine } = await import('./output.ts');
  const options = { ...values, insecureHttp: values['insecure-http'] ?? false };
  const found = await loadImage(image, options, io);
  const manifest = buildManifest(found, rule, { builder: BUILDER, limits: limitsOf(options).limits });
  for (const warning of manifest.header.warnings) await io.stderr.write(warningLine(warning));
  return expectedOf(manifest);
}
