/** Makes a bundle in a process of its own, which kills itself at a read of the store: `maker.ts STORE ORDER READ`. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { makeBundle, type BundleOrder } from '#server/evidence/bundle.ts';
import { serverKeys } from '#server/keys.ts';
import { openStoreAlone } from '#server/store/open.ts';
import { countedStore } from './counted.ts';

const [url, order, at] = process.argv.slice(2);
const store = await openStoreAlone(url!);
const { signer } = await serverKeys(store, randomBytes);
let reads = 0;
const counting = countedStore(store, () => {
  if (++reads === Number(at)) process.kill(process.pid, 'SIGKILL');
});
await makeBundle(JSON.parse(readFileSync(order!, 'utf8')) as BundleOrder, { store: counting, signer, tell: () => {} });
await store.close();
