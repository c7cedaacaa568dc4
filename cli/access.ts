/** `bootproof access`: who may do what on a server: oneself, accounts, roles, API tokens, browsers that are signed in (docs/access.md). */
import { EXIT, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { client, limitOf, limitOption, tellList, timeText, type Action, type Shown } from './client.ts';
import { list } from './image.ts';
import { writeJson } from './output.ts';
import { printFacts } from './table.ts';

type Grant = { readonly role: string; readonly groups: readonly string[] | null };
type Me = { readonly id: string; readonly name: string; readonly grants: readonly Grant[]; readonly oneAdmin: boolean };
type User = {
  readonly id: string;
  readonly kind: 'person' | 'service';
  readonly name: string;
  readonly email: string | null;
  readonly issuer: string | null;
  readonly claims: readonly string[];
  readonly roles: readonly {
    role: string;
    group: string | null;
    by: string;
    claim: string | null;
    binding: string | null;
  }[];
  readonly createdAt: string;
  readonly signedInAt: string | null;
  readonly disabledAt: string | null;
};
type Binding = {
  readonly id: string | null;
  readonly holder: { readonly kind: 'account' | 'claim'; readonly id: string };
  readonly role: string;
  readonly group: string | null;
  readonly createdBy: string;
};
type Token = {
  readonly id: string;
  readonly name: string;
  readonly owner: string;
  readonly grants: readonly Grant[];
  readonly expiresAt: string;
  readonly usedAt: string | null;
  readonly usable: boolean;
};
type Session = {
  readonly id: string;
  readonly user: string;
  readonly seenAt: string;
  readonly endsAt: string;
  readonly address: string;
};

const where = (groups: readonly string[] | null): string => (groups === null ? 'every host' : groups.join(', '));
const grantText = ({ role, groups }: Grant): string => (groups === null ? role : `${role}@${groups.join(',')}`);
const at = (kind: string, id: string): string => `/api/v1/access/${kind}/${encodeURIComponent(id)}`;

/** `bootproof access …`. */
export function access(args: readonly string[], io: Io): Promise<Exit> {
  return client(
    'access',
    'Who may do what on the server; alone it says who you are there.',
    args,
    io,
    (command, add) => {
      add(command, showMe);
      const users = command.command('users').description('people who signed in, and services');
      limitOption(add<{ limit?: string }>(users, listUsers));
      add(users.command('show <id>').description('one account, and what it holds through what'), showUser);
      add(
        users.command('create <service>').description('an account for a program, which comes with API tokens alone'),
        createService,
      );
      add(users.command('disable <id>').description('out at once, tokens too, until it is enabled'), disabling(true));
      add(users.command('enable <id>').description('as it was before it was disabled'), disabling(false));
      add(command.command('bindings').description('roles, and who holds them where'), listBindings);
      add<BindOptions>(
        command.command('bind <holder> <role>').description('give an account a role; whoever it is signs in again'),
        bind,
      )
        .option('--group <group>', 'in this host group and all below it; every host without it')
        .option('--claim', 'the holder is a group of the provider: everybody in it');
      add(command.command('unbind <id>').description('take a binding away; sessions of whoever held it end'), unbind);
      const tokens = command.command('tokens').description('API tokens: your own, or all for admins');
      limitOption(add<{ limit?: string; owner?: string }>(tokens, listTokens)).option(
        '--owner <id>',
        'of this account',
      );
      add<TokenOptions>(
        tokens.command('create <name>').description('make one; its text is shown this once'),
        createToken,
      )
        .option('--role <role>', 'what it may, at most what its owner may (repeatable)', list)
        .option('--group <group>', 'where; wherever the owner may without it (repeatable)', list)
        .option('--owner <id>', 'a service, for admins; yourself without it')
        .option('--life <time>', 'such as 12h, 30d; at most 366d', '90d');
      add(tokens.command('revoke <id>').description('it counts for nothing from now on'), revokeToken);
      const sessions = command.command('sessions').description('browsers in which you are signed in');
      add<{ user?: string }>(sessions, listSessions).option('--user <id>', 'of another account, for admins');
      add(sessions.command('end <id>').description('sign out there'), endSession);
    },
  );
}

const showMe: Action<unknown> = async (connection, options, _operands, io) => {
  const me = await connection.ask<Me>('GET', '/api/v1/access/me');
  if (options.json === true) await writeJson(me, io);
  else
    await printFacts(
      [
        ['you are', me.id],
        ['name', me.name],
        ...me.grants.map(({ role, groups }, n) => [n === 0 ? 'roles' : '', `${role}, ${where(groups)}`] as const),
        ['', me.oneAdmin && me.id === 'admin' ? 'one-admin mode: nobody else may review yet' : undefined],
      ],
      io,
    );
  return EXIT.ok;
};

const USERS: Shown<User> = {
  name: 'users',
  empty: 'nobody has signed in yet, and there is no service',
  head: ['ACCOUNT', 'KIND', 'SIGNED IN', 'STATE', 'ROLES'],
  row: ({ id, kind, signedInAt, disabledAt, roles }) => [
    id,
    kind,
    timeText(signedInAt),
    disabledAt === null ? 'enabled' : 'disabled',
    roles.map(({ role, group }) => (group === null ? role : `${role}@${group}`)).join(' ') || '-',
  ],
};

const listUsers: Action<{ readonly limit?: string }> = async (connection, options, _operands, io) => {
  await tellList(await connection.list<User>('/api/v1/access/users', {}, limitOf(options)), USERS, options, io);
  return EXIT.ok;
};

const showUser: Action<unknown> = async (connection, options, [id = ''], io) => {
  const user = await connection.ask<User>('GET', at('users', id));
  if (options.json === true) await writeJson(user, io);
  else
    await printFacts(
      [
        ['account', user.id],
        ['kind', user.kind],
        ['name', user.name],
        ['address', user.email ?? undefined],
        ['vouched for', user.issuer ?? undefined],
        ['groups there', user.claims.join(', ') || undefined],
        ['signed in', user.kind === 'person' ? timeText(user.signedInAt) : undefined],
        ['disabled', user.disabledAt === null ? undefined : timeText(user.disabledAt)],
        ...user.roles.map(
          ({ role, group, claim, binding }, n) =>
            [
              n === 0 ? 'roles' : '',
              `${role}, ${group ?? 'every host'}${claim === null ? '' : `, through ${claim}`}, ${binding ?? 'by the settings'}`,
            ] as const,
        ),
      ],
      io,
    );
  return EXIT.ok;
};

const createService: Action<unknown> = async (connection, options, [service = ''], io) => {
  const user = await connection.ask<User>('POST', '/api/v1/access/users', { service });
  if (options.json === true) await writeJson(user, io);
  else await io.stdout.write(`${user.id}\n`);
  return EXIT.ok;
};

const disabling =
  (disabled: boolean): Action<unknown> =>
  async (connection, options, [id = ''], io) => {
    const user = await connection.ask<User>('PATCH', at('users', id), { disabled });
    if (options.json === true) await writeJson(user, io);
    else await io.stdout.write(disabled ? 'disabled\n' : 'enabled\n');
    return EXIT.ok;
  };

const BINDINGS: Shown<Binding> = {
  name: 'bindings',
  empty: 'no role is bound: the admin token alone may anything',
  head: ['BINDING', 'ROLE', 'WHERE', 'HOLDER', 'BY'],
  row: ({ id, role, group, holder, createdBy }) => [
    id ?? '-',
    role,
    group ?? 'every host',
    holder.kind === 'claim' ? `everybody in ${holder.id}` : holder.id,
    createdBy,
  ],
};

const listBindings: Action<unknown> = async (connection, options, _operands, io) => {
  const { items } = await connection.ask<{ items: Binding[] }>('GET', '/api/v1/access/bindings');
  await tellList({ items, more: false }, BINDINGS, options, io);
  return EXIT.ok;
};

type BindOptions = { readonly group?: string; readonly claim?: boolean };

const bind: Action<BindOptions> = async (connection, options, [holder = '', role = ''], io) => {
  const binding = await connection.ask<Binding>('POST', '/api/v1/access/bindings', {
    holder: { kind: options.claim === true ? 'claim' : 'account', id: holder },
    role,
    group: options.group ?? null,
  });
  if (options.json === true) await writeJson(binding, io);
  else await io.stdout.write(`${binding.id}\n`);
  return EXIT.ok;
};

const unbind: Action<unknown> = async (connection, options, [id = ''], io) => {
  const answer = await connection.ask('DELETE', at('bindings', id));
  if (options.json === true) await writeJson(answer, io);
  else await io.stdout.write('unbound\n');
  return EXIT.ok;
};

const TOKENS: Shown<Token> = {
  name: 'tokens',
  empty: 'no API token',
  head: ['TOKEN', 'OWNER', 'USABLE', 'EXPIRES', 'LAST USED', 'MAY', 'NAME'],
  row: ({ id, owner, usable, expiresAt, usedAt, grants, name }) => [
    id,
    owner,
    usable ? 'yes' : 'no',
    timeText(expiresAt),
    timeText(usedAt),
    grants.map(grantText).join(' '),
    name,
  ],
};

const listTokens: Action<{ readonly limit?: string; readonly owner?: string }> = async (
  connection,
  options,
  _operands,
  io,
) => {
  const listed = await connection.list<Token>('/api/v1/access/tokens', { owner: options.owner }, limitOf(options));
  await tellList(listed, TOKENS, options, io);
  return EXIT.ok;
};

type TokenOptions = {
  readonly role?: readonly string[];
  readonly group?: readonly string[];
  readonly owner?: string;
  readonly life: string;
};

const LIFE_UNITS: Readonly<Record<string, number>> = { m: 60, h: 3600, d: 86_400 };
const LIFE_DAYS_MAX = 366;

const createToken: Action<TokenOptions> = async (connection, options, [name = ''], io) => {
  const life = /^([1-9][0-9]{0,5})([mhd])$/.exec(options.life);
  if (life === null) throw new UsageError(`--life ${options.life}: expected a time such as 12h or 30d`);
  const lifeSeconds = Number(life[1]) * LIFE_UNITS[life[2]!]!;
  if (lifeSeconds > LIFE_DAYS_MAX * 86_400) throw new UsageError(`--life ${options.life}: at most ${LIFE_DAYS_MAX}d`);
  if (options.role === undefined)
    throw new UsageError('--role: name what the token may, such as viewer; repeat it for more');
  const made = await connection.ask<{ token: string; record: Token }>('POST', '/api/v1/access/tokens', {
    name,
    owner: options.owner ?? null,
    roles: options.role,
    groups: options.group ?? null,
    lifeSeconds,
  });
  if (options.json === true) await writeJson(made, io);
  else {
    await io.stdout.write(`${made.token}\n`);
    const { owner, grants, expiresAt } = made.record;
    await io.stderr.write(
      `of ${owner}, ${grants.map(grantText).join(' ')}, until ${timeText(expiresAt)}; shown this once\n`,
    );
  }
  return EXIT.ok;
};

const revokeToken: Action<unknown> = async (connection, options, [id = ''], io) => {
  const answer = await connection.ask<{ done: boolean }>('DELETE', at('tokens', id));
  if (options.json === true) await writeJson(answer, io);
  else await io.stdout.write(answer.done ? 'revoked\n' : 'it was revoked before\n');
  return EXIT.ok;
};

const SESSIONS: Shown<Session> = {
  name: 'sessions',
  empty: 'no browser is signed in',
  head: ['SESSION', 'LAST USED', 'ENDS', 'FROM'],
  row: ({ id, seenAt, endsAt, address }) => [id, timeText(seenAt), timeText(endsAt), address || '-'],
};

const listSessions: Action<{ readonly user?: string }> = async (connection, options, _operands, io) => {
  const query = options.user === undefined ? '' : `?user=${encodeURIComponent(options.user)}`;
  const { items } = await connection.ask<{ items: Session[] }>('GET', `/api/v1/access/sessions${query}`);
  await tellList({ items, more: false }, SESSIONS, options, io);
  return EXIT.ok;
};

const endSession: Action<unknown> = async (connection, options, [id = ''], io) => {
  const answer = await connection.ask('DELETE', at('sessions', id));
  if (options.json === true) await writeJson(answer, io);
  else await io.stdout.write('signed out there\n');
  return EXIT.ok;
};
