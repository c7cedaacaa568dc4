/** Where the single executable begins (single.ts): all of the agent in one script, within a Node. */
import { start } from '#agent/main.ts';

void start();
