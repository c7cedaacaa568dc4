/** PostgreSQL keeps the store's contract, and what is its own: a server that goes and comes back. */
import { after, before } from 'node:test';
import { startPostgres, type Postgres } from '#test/postgres.ts';
import { people, suiteOn } from './contract.ts';
import { intakes } from './contract-intake.ts';
import { lists } from './contract-lists.ts';

let server: Postgres | { skip: string };
before(async () => {
  server = await startPostgres();
});
after(async () => {
  if (!('skip' in server)) await server.stop();
});

const suite = suiteOn(
  {
    name: 'postgres',
    async fresh() {
      if ('skip' in server) throw new Error(server.skip);
      return server.database();
    },
  },
  () => ('skip' in server ? server.skip : undefined),
);
people(suite);
intakes(suite);
lists(suite);
