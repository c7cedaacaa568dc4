/** Makes one bundle in a process of its own, as a server's thread does, so that its memory can be told: `evidencemaker.ts ORDER`. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { makeBundle, type BundleOrder } from '#server/evidence/bundle.ts';
import { serverKeys } from '#server/keys.ts';
import { openStoreAlone } from '#server/store/open.ts';

const { storeUrl, order } = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as {
  storeUrl: string;
  order: BundleOrder;
};
const store = await openStoreAlone(storeUrl);
try {
  const { signer } = await serverKeys(store, randomBytes);
  await makeBundle(order, { store, signer, tell: () => {} });
} finally {
  await store.close();
}
