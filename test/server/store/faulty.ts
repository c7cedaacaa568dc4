/**
 * A store whose calls fail on demand, in both ways in which a real one does: before anything was persisted, and after all
 * of it was (the connection broke under the commit). Callers cannot tell the two apart, and must end up right in both.
 */
import { StoreError, type Store } from '#server/store/store.ts';

/** Where a call fails; undefined lets it pass. */
export type Fault = 'unpersisted' | 'persisted' | undefined;
export type Call = {
  /** `intake`, `jobs.take`, `read.hosts` … */
  readonly method: string;
  /** Counts the calls of that method, from 1. */
  readonly nth: number;
};

/** Wraps every method of a store, `close` apart. */
export function faulty(store: Store, plan: (call: Call) => Fault): Store {
  const counts = new Map<string, number>();
  const wrapped = (prefix: string, target: object): object =>
    new Proxy(target, {
      get(inner, name, receiver): unknown {
        const value: unknown = Reflect.get(inner, name, receiver);
        const method = prefix + String(name);
        if (typeof value === 'object' && value !== null) return wrapped(`${method}.`, value);
        if (typeof value !== 'function' || method === 'close') return value;
        return async (...args: unknown[]): Promise<unknown> => {
          const nth = (counts.get(method) ?? 0) + 1;
          counts.set(method, nth);
          const fault = plan({ method, nth });
          if (fault === 'unpersisted') throw failure(method);
          const answer: unknown = await Reflect.apply(value, inner, args);
          if (fault === 'persisted') throw failure(method);
          return answer;
        };
      },
    });
  return wrapped('', store) as Store;
}

const failure = (method: string) =>
  new StoreError('STORE_UNAVAILABLE', `${method} failed because this test says so; its outcome is not known`);
