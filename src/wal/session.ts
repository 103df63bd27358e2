/**
 * How every connection to Postgres is opened: settings that make one value have one text, read back after connecting, and no type parsers (all results
 * are text). Owns these settings. Must never hand out a connection whose settings were not taken: a pooler in between is recognised here.
 */
import pg from 'pg';
import { configError, TidemarkError } from '../runtime/errors.js';
import { explainTlsError } from '../runtime/tls.js';
import { hostOf, takeTls } from './tls.js';

/** Settings that decide how a value is printed. search_path holds pg_catalog only: every table is named with its schema. */
const PRINTING: Readonly<Record<string, string>> = {
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '3',
  bytea_output: 'hex',
  lc_monetary: 'C',
  search_path: '',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
};

const CONNECT_MS = 10_000;
const QUERY_MS = 60_000;
const CLOSE_MS = 2000;

/** A client that is gone without a word is noticed by the server within a minute, and its locks go: not after the two hours of most systems. */
const KEEPALIVE: Readonly<Record<string, string>> = { tcp_keepalives_idle: '30', tcp_keepalives_interval: '10', tcp_keepalives_count: '3' };

/** The `options` start-up parameter: it wins over ALTER ROLE and ALTER DATABASE. */
export function sessionOptions(statementTimeoutMs = 0): string {
  const limits = { statement_timeout: String(statementTimeoutMs), idle_session_timeout: '0' };
  const settings = Object.entries({ ...PRINTING, DateStyle: 'ISO,YMD', ...KEEPALIVE, ...limits });
  return settings.map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`).join(' ');
}

export type ClientOptions = {
  applicationName: string;
  replication?: boolean;
  statementTimeoutMs?: number;
  /** Client-side deadline of every query: a server that hangs, or a network that holds, cannot hold us. Default: a minute; 0: none, for COPY and what waits for others. */
  queryTimeoutMs?: number;
  /** Where the url was given, for messages. Default: source.url. */
  field?: string;
};

const DEFAULT_FIELD = 'source.url';
const SERVER = {
  name: 'the server',
  ca: '&sslrootcert=FILE in the address',
  identity: 'let the address name the host as its certificate does',
} as const;

/** The settings of a `pg` client for this url: also for the replication library, which makes its client itself. Throws `config` for a url that is none. */
export function clientConfig(url: string, options: ClientOptions): pg.ClientConfig {
  const field = options.field ?? DEFAULT_FIELD;
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw configError(`${field}: not an address`, 'write for instance postgres://user:password@host:5432/database');
  }
  if (!/^postgres(ql)?:$/.test(parsed.protocol))
    throw configError(`${field}: ${parsed.protocol}// is not Postgres`, 'write for instance postgres://user:password@host:5432/database');
  parsed.searchParams.delete('options');
  parsed.searchParams.delete('application_name');
  if (hostOf(parsed) === '') parsed.searchParams.set('host', 'localhost'); // else pg would look for one in the environment
  const ssl = takeTls(parsed, field);
  return {
    connectionString: parsed.toString(),
    ssl,
    application_name: options.applicationName,
    options: sessionOptions(options.statementTimeoutMs ?? 0),
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    ...(options.queryTimeoutMs ? { query_timeout: options.queryTimeoutMs } : {}),
    keepAliveInitialDelayMillis: 10_000,
    types: { getTypeParser: () => asText } as unknown as pg.CustomTypesConfig,
    ...(options.replication === true ? { replication: 'database' } : {}),
  } as pg.ClientConfig;
}

function asText(value: string): string {
  return value;
}

/** Connects and reads the settings back. Results are text. The caller ends it, and hears of its death by its `error` event. */
export async function connectClient(url: string, options: ClientOptions): Promise<pg.Client> {
  const client = new pg.Client(clientConfig(url, { ...options, queryTimeoutMs: options.queryTimeoutMs ?? QUERY_MS }));
  client.on('error', () => undefined); // a lost connection also fails the query that runs on it; without a listener it would end the process
  try {
    await client.connect();
    await checkSession(client, options.field);
    return client;
  } catch (error) {
    cutConnection(client); // end() waits for ever when the server ended the handshake at the same moment
    throw explainConnectError(error, options.field);
  }
}

/** Ends a connection without a word to the server. */
export function cutConnection(client: pg.Client): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}

/**
 * A session that holds a lock for its process, and asks something all the time, ends when nothing is heard of it: a network that holds its connections open would keep the lock from the next process for ever.
 * `seconds`: longer than it is ever silent.
 */
export async function endWhenSilent(client: pg.Client, seconds: number): Promise<void> {
  await client.query(`SET idle_session_timeout = '${seconds}s'`);
}

/** Ends it; what does not end within two seconds is cut: a server that hangs, or a network that holds, says no goodbye. */
export async function closeClient(client: pg.Client): Promise<void> {
  const cut = setTimeout(() => cutConnection(client), CLOSE_MS);
  await client.end().catch(() => undefined);
  clearTimeout(cut);
}

/** Reads the settings back. Throws `config` when they were not taken, which is what a connection pooler in between does. */
export async function checkSession(client: pg.Client, field = DEFAULT_FIELD): Promise<void> {
  const wrong: string[] = [];
  for (const [name, wanted] of Object.entries(PRINTING)) {
    const result = await client.query<Record<string, string>>(`SHOW ${name}`);
    const seen = Object.values(result.rows[0] ?? {})[0] ?? '';
    const bare = (text: string): string => text.replaceAll('"', '').replaceAll(' ', '').toLowerCase();
    if (bare(seen) !== bare(wanted)) wrong.push(`${name} is ${JSON.stringify(seen)}`);
  }
  if (wrong.length > 0) throw poolerError(`the start-up settings were not taken (${wrong.join(', ')})`, field);
}

function poolerError(seen: string, field: string): TidemarkError {
  return configError(
    `${field}: ${seen}: a connection pooler stands in between`,
    `let ${field} name the Postgres server itself (usually port 5432), not the pooler`,
  );
}

/** Makes one clear line of what a failed connection says: nobody there, wrong password, no such database, pooler, pg_hba. Others are handed through. */
export function explainConnectError(failure: unknown, field = DEFAULT_FIELD): unknown {
  if (failure instanceof TidemarkError) return failure;
  const error: unknown = failure instanceof AggregateError ? (failure.errors[0] ?? failure) : failure; // one for each address of a host
  const { code, message = String(error) } = error as { code?: string; message?: string };
  if (/unsupported startup parameter|not supported by (pgbouncer|odyssey)|no such database: pgbouncer/i.test(message)) return poolerError(message, field);
  const tls = explainTlsError(error as { code?: string; message?: string }, { ...SERVER, field });
  if (tls !== undefined) return tls;
  if (/does not support SSL connections/.test(message))
    return configError(
      `${field}: the server has no TLS; sslmode, or a host that is not local, asks for it`,
      'ssl = on in postgresql.conf; or, on a network you trust, ?sslmode=disable in the address',
    );
  if (code === '28000' && /no encryption|SSL off/.test(message))
    return configError(`${field}: the server wants TLS (${message})`, 'put ?sslmode=verify-full&sslrootcert=FILE into the address');
  if (code === '28000' && /client certificate/.test(message))
    return configError(`${field}: the server wants a certificate of ours (${message})`, 'put &sslcert=FILE&sslkey=FILE into the address');
  if (code === '28000' && /replication/i.test(message)) {
    return configError(
      `${field}: the server refuses a replication connection (${message})`,
      'add a line `host replication-database user address scram-sha-256` for this database to pg_hba.conf, then SELECT pg_reload_conf()',
    );
  }
  if (code === '28P01' || code === '28000')
    return configError(`${field}: the server refuses this login (${message})`, `correct user and password in ${field}, or pg_hba.conf`);
  if (code === '3D000') return configError(`${field}: ${message}`, `correct the database name in ${field}`);
  if (code === '42501') return configError(`${field}: ${message}`, 'give the role the right: ALTER ROLE … REPLICATION, GRANT CONNECT ON DATABASE …');
  if (/must be superuser or replication role|permission denied to start WAL sender/i.test(message))
    return configError(`${field}: ${message}`, 'ALTER ROLE … REPLICATION');
  if (/password must be a string|SASL/i.test(message))
    return configError(`${field}: the server wants a password (${message})`, `put the password into ${field}`);
  if (/ENOTFOUND|EAI_AGAIN/.test(code ?? ''))
    return new TidemarkError('transient', `${field}: the host is not known (${message})`, { remedy: `correct the host in ${field}`, cause: error });
  if (/^E(CONNREFUSED|HOSTUNREACH|NETUNREACH|TIMEDOUT)$/.test(code ?? '') || /timeout expired/.test(message))
    return new TidemarkError('transient', `${field}: Postgres does not answer (${message})`, {
      remedy: `start it, or correct host and port in ${field}`,
      cause: error,
    });
  return error;
}
