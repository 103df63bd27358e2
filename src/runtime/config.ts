/**
 * tidemark.yaml: read once, validated whole (every problem named at once with its path), frozen. Precedence: flag > environment > file.
 * `${VAR}` is expanded in the file; `TIDEMARK_<SECTION>_<KEY>` overrides a scalar (TIDEMARK_SOURCE_URL), `…_FILE` reads it from a file.
 * The old script's names keep working: ARCHIVE_DRY_RUN, DATA_ARCHIVAL_ENABLED, ARCHIVE_BASE_DIR, RETENTION_HOURS.
 * `process.env` is read here and in fault-point.ts, nowhere else.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Cron } from 'croner';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { describeIssue } from './config-problem.js';
import { applyEnvironment, type Environment, expandVariables, section } from './environment.js';
import { configError } from './errors.js';
import { clash, placeOfFiles } from './table-files.js';

/** A value that must never be printed: reveals itself only when asked by name. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '[secret]';
  }
  toJSON(): string {
    return '[secret]';
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]';
  }
}

const DURATION_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000, y: 31_557_600_000 } as const;
const SIZE_BYTES = { B: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 } as const;

/** `24h` → milliseconds. */
const duration = z.union([z.string(), z.number()]).transform((text, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|y)$/.exec(String(text).trim());
  if (!match) {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a duration; write for instance 24h, 60s or 7d` });
    return z.NEVER;
  }
  return Math.round(Number(match[1]) * DURATION_MS[match[2] as keyof typeof DURATION_MS]);
});

/** `64MB` → bytes (powers of 1024). */
const size = z.union([z.string(), z.number()]).transform((text, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB)$/i.exec(String(text).trim());
  if (!match) {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a size; write for instance 64MB or 20GB` });
    return z.NEVER;
  }
  return Math.round(Number(match[1]) * SIZE_BYTES[(match[2] as string).toUpperCase() as keyof typeof SIZE_BYTES]);
});

const whole = z.number().int().positive();
const secretText = z
  .string()
  .min(1)
  .transform((text) => new Secret(text));

const cron = z.string().superRefine((text, context) => {
  try {
    new Cron(text, { paused: true }).stop();
  } catch {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a cron schedule; write for instance "0 * * * *"` });
  }
});

const timezone = z.string().superRefine((text, context) => {
  try {
    new Intl.DateTimeFormat('en', { timeZone: text });
  } catch {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a time zone; write for instance UTC or Europe/Berlin` });
  }
});

const tableSchema = z.strictObject({
  timestamp: z.string().min(1),
  group: z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, 'a group is a folder name: letters, digits, _ . -')
    .optional(),
  retention: duration.optional(),
  prune: z.boolean().default(true),
  keepWhile: z.string().min(1).optional(),
  deletes: z.enum(['history', 'keep']).default('history'),
  history: z.boolean().default(false),
});

const configSchema = z.strictObject({
  source: z.strictObject({
    url: secretText,
    /** The pruner's own role, when it is not the one of `url`. */
    prunerUrl: secretText.optional(),
    name: z
      .string()
      .regex(/^[a-z0-9_]+$/, 'lower-case letters, digits and _ only: it becomes a NATS subject and a slot name')
      .max(40),
    timezone: timezone.default('UTC'),
  }),
  stream: z
    .strictObject({
      url: secretText.prefault('nats://localhost:4222'),
      user: z.string().min(1).optional(),
      password: secretText.optional(),
      token: secretText.optional(),
      /** The seed of a user's nkey. */
      nkey: secretText.optional(),
      /** A credentials file: JWT and seed. */
      credentials: z.string().min(1).optional(),
      /** TLS is asked for as soon as this is there. Files; a CA of one's own, and what we show. */
      tls: z.strictObject({ ca: z.string().min(1).optional(), cert: z.string().min(1).optional(), key: z.string().min(1).optional() }).optional(),
      replay: z.strictObject({ age: duration.default(7 * DURATION_MS.d), bytes: size.default(20 * SIZE_BYTES.GB) }).prefault({}),
    })
    .prefault({}),
  archive: z
    .strictObject({
      dir: z.string().min(1).default('./archived_data'),
      compression: z.enum(['zstd', 'snappy', 'gzip']).default('zstd'),
      flush: z.strictObject({ rows: whole.default(250_000), bytes: size.default(64 * SIZE_BYTES.MB), every: duration.default(60_000) }).prefault({}),
    })
    .prefault({}),
  prune: z
    .strictObject({
      enabled: z.boolean().default(true),
      dryRun: z.boolean().default(false),
      retention: duration.default(24 * DURATION_MS.h),
      schedule: cron.default('0 * * * *'),
      batch: whole.max(5000, 'at most 5000 rows a batch').default(5000),
      maxRowsPerSecond: whole.default(20_000),
      /** A standby whose replay lags by more than this pauses pruning. */
      maxStandbyLag: size.default(256 * SIZE_BYTES.MB),
    })
    .prefault({}),
  tables: z.record(z.string().min(1), tableSchema).refine((tables) => Object.keys(tables).length > 0, 'name at least one table'),
  protected: z.array(z.string().min(1)).default([]),
  log: z.strictObject({ level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).default('info') }).prefault({}),
});

type Parsed = z.output<typeof configSchema>;

/** One archived table of the configuration. */
export type TableConfig = {
  /** As a person writes it: `prices` or `schema.table`. */
  readonly key: string;
  readonly schema: string;
  readonly table: string;
  readonly timestamp: string;
  /** Folder inside the archive. */
  readonly group: string;
  readonly retentionMs: number;
  readonly prune: boolean;
  readonly keepWhile: string | undefined;
  readonly deletes: 'history' | 'keep';
  /** Every version of a sealed day is kept apart. */
  readonly history: boolean;
};

export type Config = Omit<Parsed, 'tables' | 'protected'> & {
  readonly tables: readonly TableConfig[];
  readonly protected: readonly { readonly key: string; readonly schema: string; readonly table: string }[];
  /** Said once in the log when the services start: old names that were honoured. */
  readonly notices: readonly string[];
  /** The file it came from. */
  readonly file: string;
};

/** Splits `schema.table`; a bare name lies in `public`. */
export function parseTableKey(key: string): { key: string; schema: string; table: string } {
  const dot = key.indexOf('.');
  return dot < 0 ? { key, schema: 'public', table: key } : { key, schema: key.slice(0, dot), table: key.slice(dot + 1) };
}

/** Values from flags, in the shape of the file; they win over everything else. */
export type Overrides = { archiveDir?: string };

/** Reads and validates a configuration file. Throws a `config` error that names every problem. */
export function loadConfig(file: string, overrides: Overrides = {}, env: Environment = process.env): Config {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw configError(`configuration ${file}: ${why}`, 'give its path with -c, or write one with `tidemark init`');
  }
  return parseConfig(text, { file, overrides, env });
}

/** The pure part of loadConfig. Relative paths are taken from the folder of `file`. */
export function parseConfig(text: string, options: { file: string; overrides?: Overrides; env?: Environment }): Config {
  const { file, overrides = {}, env = {} } = options;
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length > 0) {
    throw configError(`configuration ${file}: ${document.errors.map((error) => error.message.split('\n')[0]?.replace(/:$/, '')).join('; ')}`);
  }
  const missing: string[] = [];
  const plain: unknown = document.toJS() ?? {};
  if (typeof plain !== 'object' || Array.isArray(plain)) {
    throw configError(`configuration ${file}: it holds ${Array.isArray(plain) ? 'a list' : 'a single value'}, not sections`, 'begin with `source:`');
  }
  const raw = expandVariables(plain, env, missing) as Record<string, unknown>;
  const { notices, from } = applyEnvironment(raw, env);
  if (overrides.archiveDir !== undefined) section(raw, 'archive')['dir'] = overrides.archiveDir;
  const result = configSchema.safeParse(raw);
  const tables: unknown = raw['tables'];
  const problems = missing.map((name) => `\${${name}}: the variable is not set`);
  // The validation would leave it out without a word.
  if (typeof tables === 'object' && tables !== null && Object.hasOwn(tables, '__proto__'))
    problems.push('tables.__proto__: a table of this name cannot be archived; take it out');
  if (!result.success) problems.push(...result.error.issues.map((issue) => describeIssue(issue, raw, from)));
  else problems.push(...crossCheck(result.data));
  if (problems.length > 0 || !result.success) {
    throw configError(
      `configuration ${file}: ${problems.length} problem${problems.length === 1 ? '' : 's'}\n${problems.map((problem) => `  - ${problem}`).join('\n')}`,
    );
  }
  return freeze(result.data, file, notices);
}

/** JSON Schema of the file, for editors. */
export function configJsonSchema(): unknown {
  return z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' });
}

function freeze(data: Parsed, file: string, notices: string[]): Config {
  const tables = Object.entries(data.tables).map(
    ([key, table]): TableConfig => ({
      ...parseTableKey(key),
      timestamp: table.timestamp,
      group: table.group ?? parseTableKey(key).table,
      retentionMs: table.retention ?? data.prune.retention,
      prune: table.prune,
      keepWhile: table.keepWhile,
      deletes: table.deletes,
      history: table.history,
    }),
  );
  const resolved = (name: string): string => path.resolve(path.dirname(path.resolve(file)), name);
  const { credentials, tls } = data.stream;
  const stream = {
    ...data.stream,
    ...(credentials === undefined ? {} : { credentials: resolved(credentials) }),
    ...(tls === undefined ? {} : { tls: Object.fromEntries(Object.entries(tls).map(([name, value]) => [name, resolved(value as string)])) }),
  };
  return Object.freeze({
    ...data,
    stream,
    archive: { ...data.archive, dir: resolved(data.archive.dir) },
    tables,
    protected: data.protected.map(parseTableKey),
    notices,
    file: path.resolve(file),
  });
}

/** Tidemark's own folder inside the archive: no group may be it. Its layout is archive/layout.ts's. */
const RESERVED = '_tidemark';

/** One login, whole. */
function streamProblems({ user, password, token, nkey, credentials, tls }: Parsed['stream']): string[] {
  const ways = Object.entries({ user, token, nkey, credentials }).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  const problems: string[] = [];
  if (ways.length > 1) problems.push(`stream: ${ways.join(' and ')} are two logins; take one out`);
  if (password !== undefined && user === undefined) problems.push('stream.password: without stream.user; give both');
  if ((tls?.cert === undefined) !== (tls?.key === undefined)) problems.push('stream.tls: cert and key go together; give both, or neither');
  return problems;
}

/** Rules that need two fields at once. */
function crossCheck(data: Parsed): string[] {
  const problems = streamProblems(data.stream);
  const qualified = (key: string): string => {
    const { schema, table } = parseTableKey(key);
    return `${schema}.${table}`;
  };
  const protectedTables = new Set(data.protected.map(qualified));
  const files = new Map<string, string>();
  const names = new Map<string, string>();
  for (const [key, table] of Object.entries(data.tables)) {
    if (protectedTables.has(qualified(key))) problems.push(`tables.${key}: this table is also listed under protected; take it out of one of the two`);
    const twin = names.get(qualified(key));
    if (twin !== undefined) problems.push(`tables.${key}: is the same table as ${twin}; take one out`);
    names.set(qualified(key), key);
    const name = parseTableKey(key).table;
    const group = table.group ?? name;
    const place = placeOfFiles(group, name);
    if (placeOfFiles(group, '') === `${RESERVED}/`) problems.push(`tables.${key}.group: ${RESERVED} is Tidemark's own folder; give it another group`);
    for (const [other, owner] of files) {
      const how = twin === undefined ? clash(place, other) : undefined;
      if (how === 'same') problems.push(`tables.${key}: would share the files ${group}/${name}_*.parquet with ${owner}; give one of them another group`);
      if (how === 'alike') problems.push(`tables.${key}: its files would look like those of ${owner}; give one of them another group`);
    }
    files.set(place, key);
    if (/[/\\\0]/.test(name) || name === '.' || name === '..') problems.push(`tables.${key}: the name cannot be a file name`);
    const retention = table.retention ?? data.prune.retention;
    if (retention < 1000) problems.push(`tables.${key}.retention: shorter than a second; the least is 1s`);
  }
  return problems;
}
