/** What a thread of the server is given of the environment. */
import { getCompileCacheDir } from 'node:module';
import { dirname } from 'node:path';

/**
 * Only where compiled code is kept, for what a thread needs otherwise is in its request: without it, a thread takes the types off all of its
 * modules and compiles them anew, which is most of what a small image costs.
 */
export function threadEnv(): Record<string, string> {
  // Node makes a folder for its own version inside the one that it was given.
  const own = getCompileCacheDir();
  return own === undefined ? {} : { NODE_COMPILE_CACHE: dirname(own) };
}
