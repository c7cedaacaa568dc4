/** A store that tells of each read an export asks of it, before it is done. */
import type { Store } from '#server/store/store.ts';

export function countedStore(store: Store, read: () => void): Store {
  const counted = <T extends object>(of: T): T =>
    new Proxy(of, {
      get(target, name) {
        const found = Reflect.get(target, name) as unknown;
        if (typeof found !== 'function') return found;
        return (...args: unknown[]) => {
          read();
          return Reflect.apply(found, target, args) as unknown;
        };
      },
    });
  const { evidence, blobs, postures, images, ...others } = store;
  return {
    ...others,
    evidence: counted(evidence),
    blobs: counted(blobs),
    postures: counted(postures),
    images: counted(images),
  };
}
