/** Looks at the folder named by its argument and prints what it saw: run in a mount namespace of its own. */
import { observe } from '#agent/observe.ts';

process.stdout.write(JSON.stringify(await observe({ root: process.argv[2]! })));
