/**
 * tidemark.yaml: read once, validated whole (every problem named at once with its path), frozen. Precedence: flag > environment > file.
 * `${VAR}` is expanded in the file; `TIDEMARK_<SECTION>_<KEY>` overrides a scalar (TIDEMARK_SOURCE_URL), `…_FILE` reads it from a file.
 * The old script's names keep working: ARCHIVE_DRY_RUN, DATA_ARCHIVAL_ENABLED, ARCHIVE_BASE_DIR, RETENTION_HOURS.
 * `process.env` is read here and in fault-point.ts, nowhere else.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { describeIssue } from './config-problem.js';
import { crossCheck } from './config-rules.js';
import { configSchema, type Parsed } from './config-schema.js';
import { keepOf } from './config-values.js';
import { applyEnvironment, type Environment, expandVariables, section } from './environment.js';
import { configError } from './errors.js';
import { parseTableKey } from './table-key.js';

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
  /** Sealed days that ended longer ago may leave the archive; undefined: none ever. */
  readonly keepMs?: number | undefined;
};

export type Config = Omit<Parsed, 'tables' | 'protected'> & {
  readonly tables: readonly TableConfig[];
  readonly protected: readonly { readonly key: string; readonly schema: string; readonly table: string }[];
  /** Said once in the log when the services start: old names that were honoured. */
  readonly notices: readonly string[];
  /** The file it came from. */
  readonly file: string;
};

/** Values from flags, in the shape of the file; they win over everything else. */
export type Overrides = { archiveDir?: string; consolePort?: number };

/** Reads and validates a configuration file. Throws a `config` error that names every problem. */
export function loadConfig(file: string, overrides: Overrides = {}, env: Environment = process.env): Config {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw unreadable(file, error as NodeJS.ErrnoException);
  }
  return parseConfig(text, { file, overrides, env });
}

function unreadable(file: string, { code, message }: NodeJS.ErrnoException): Error {
  const [why, remedy] =
    code === 'ENOENT' || code === 'ENOTDIR'
      ? ['there is no such file', 'give its path with -c, or write one with `tidemark init`']
      : code === 'EISDIR'
        ? ['it is a folder', 'give the file in it with -c']
        : code === 'EACCES' || code === 'EPERM'
          ? ['this user may not read it', 'let this user read it and the folders above it, or run as the user of the services']
          : [`it cannot be read (${message})`, 'give another file with -c'];
  return configError(`configuration ${file}: ${why}`, remedy);
}

/** The pure part of loadConfig. Relative paths are taken from the folder of `file`. */
export function parseConfig(text: string, options: { file: string; overrides?: Overrides; env?: Environment }): Config {
  const { file, overrides = {}, env = {} } = options;
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length > 0) {
    // What is said of the lines behind a first mistake follows from it as a rule.
    throw configError(`configuration ${file}: it is not YAML: ${document.errors[0]?.message.split('\n')[0]?.replace(/:$/, '')}`, 'correct that place first');
  }
  const missing: string[] = [];
  const plain: unknown = document.toJS() ?? {};
  if (typeof plain !== 'object' || Array.isArray(plain)) {
    throw configError(`configuration ${file}: it holds ${Array.isArray(plain) ? 'a list' : 'a single value'}, not sections`, 'begin with `source:`');
  }
  const raw = expandVariables(plain, env, missing) as Record<string, unknown>;
  const { notices, from } = applyEnvironment(raw, env);
  if (overrides.archiveDir !== undefined) section(raw, 'archive')['dir'] = overrides.archiveDir;
  if (overrides.consolePort !== undefined) section(raw, 'console')['port'] = overrides.consolePort;
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

/** Where what a user's own sessions leave belongs (a shell's history): `$XDG_STATE_HOME/tidemark`, or ~/.local/state/tidemark. */
export function userStateFolder(env: Environment = process.env): string {
  const base = env['XDG_STATE_HOME'];
  return path.join(base !== undefined && path.isAbsolute(base) ? base : path.join(homedir(), '.local', 'state'), 'tidemark');
}

/** JSON Schema of the file, for editors. */
export function configJsonSchema(): unknown {
  return z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' });
}

function keptFor(keepMs: number | undefined): Pick<TableConfig, 'keepMs'> {
  return keepMs === undefined ? {} : { keepMs };
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
      ...keptFor(keepOf(table.keep ?? data.archive.keep)),
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
