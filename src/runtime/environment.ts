/** What environment variables do to a configuration. Pure: the variables come in as a value; only files named by `…_FILE` are read. */
import { readFileSync } from 'node:fs';
import { configError } from './errors.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Puts `${VAR}` and `${VAR:-fallback}` into every text of a parsed file; names that are not set go to `missing` and stay as they are. */
export function expandVariables(value: unknown, env: Environment, missing: string[]): unknown {
  if (typeof value === 'string') {
    return value.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g, (written: string, name: string, fallback: string | undefined) => {
      const found = env[name] ?? fromFile(`${name}_FILE`, env) ?? fallback;
      if (found === undefined && name !== 'DATABASE_URL') missing.push(name);
      if (found === undefined && name === 'DATABASE_URL' && readVariable('TIDEMARK_SOURCE_URL', env) === undefined) missing.push(name);
      return found ?? written;
    });
  }
  if (Array.isArray(value)) return value.map((entry) => expandVariables(entry, env, missing));
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, expandVariables(entry, env, missing)]));
  }
  return value;
}

function fromFile(name: string, env: Environment): string | undefined {
  const file = env[name];
  if (file === undefined) return undefined;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw configError(`${name}: ${file} cannot be read (${(error as Error).message})`);
  }
}

function readVariable(name: string, env: Environment): string | undefined {
  return env[name] ?? fromFile(`${name}_FILE`, env);
}

/** The object under `name`, made when it is missing. */
export function section(raw: Record<string, unknown>, name: string): Record<string, unknown> {
  const found = raw[name];
  if (found !== null && typeof found === 'object') return found as Record<string, unknown>;
  const fresh: Record<string, unknown> = {};
  raw[name] = fresh;
  return fresh;
}

/** Scalars that the environment may override: variable → section, key, how to read it. */
const OVERRIDABLE: readonly [variable: string, section: string, key: string, as: 'text' | 'number' | 'boolean'][] = [
  ['TIDEMARK_SOURCE_URL', 'source', 'url', 'text'],
  ['TIDEMARK_SOURCE_PRUNER_URL', 'source', 'prunerUrl', 'text'],
  ['TIDEMARK_SOURCE_RESTORE_URL', 'source', 'restoreUrl', 'text'],
  ['TIDEMARK_SOURCE_NAME', 'source', 'name', 'text'],
  ['TIDEMARK_SOURCE_TIMEZONE', 'source', 'timezone', 'text'],
  ['TIDEMARK_STREAM_URL', 'stream', 'url', 'text'],
  ['TIDEMARK_STREAM_USER', 'stream', 'user', 'text'],
  ['TIDEMARK_STREAM_PASSWORD', 'stream', 'password', 'text'],
  ['TIDEMARK_STREAM_TOKEN', 'stream', 'token', 'text'],
  ['TIDEMARK_STREAM_NKEY', 'stream', 'nkey', 'text'],
  ['TIDEMARK_STREAM_CREDENTIALS', 'stream', 'credentials', 'text'],
  ['TIDEMARK_ARCHIVE_DIR', 'archive', 'dir', 'text'],
  ['TIDEMARK_ARCHIVE_COMPRESSION', 'archive', 'compression', 'text'],
  ['TIDEMARK_PRUNE_ENABLED', 'prune', 'enabled', 'boolean'],
  ['TIDEMARK_PRUNE_RETENTION', 'prune', 'retention', 'text'],
  ['TIDEMARK_PRUNE_SCHEDULE', 'prune', 'schedule', 'text'],
  ['TIDEMARK_PRUNE_BATCH', 'prune', 'batch', 'number'],
  ['TIDEMARK_CONSOLE_HOST', 'console', 'host', 'text'],
  ['TIDEMARK_CONSOLE_PORT', 'console', 'port', 'number'],
  ['TIDEMARK_CONSOLE_TOKEN', 'console', 'token', 'text'],
  ['TIDEMARK_METRICS_HOST', 'metrics', 'host', 'text'],
  ['TIDEMARK_METRICS_CAPTURE', 'metrics', 'capture', 'number'],
  ['TIDEMARK_METRICS_ARCHIVER', 'metrics', 'archiver', 'number'],
  ['TIDEMARK_METRICS_PRUNER', 'metrics', 'pruner', 'number'],
  ['TIDEMARK_LOG_LEVEL', 'log', 'level', 'text'],
];

/** `from`: `section.key` → the variable its value came from. */
export type Applied = { readonly notices: string[]; readonly from: ReadonlyMap<string, string> };

/** Lays the environment over the file. Returns what to say of the old script's names. */
export function applyEnvironment(raw: Record<string, unknown>, env: Environment): Applied {
  const notices: string[] = [];
  const from = new Map<string, string>();
  const set = (variable: string, name: string, key: string, value: unknown): void => {
    section(raw, name)[key] = value;
    from.set(`${name}.${key}`, variable);
  };
  const truth = (text: string): unknown => (/^(1|true|yes|on)$/i.test(text) ? true : /^(0|false|no|off)$/i.test(text) ? false : text);
  if (env['ARCHIVE_BASE_DIR'] !== undefined) {
    set('ARCHIVE_BASE_DIR', 'archive', 'dir', env['ARCHIVE_BASE_DIR']);
    notices.push(`ARCHIVE_BASE_DIR is honoured: archive.dir is ${env['ARCHIVE_BASE_DIR']}`);
  }
  if (env['RETENTION_HOURS'] !== undefined) {
    set('RETENTION_HOURS', 'prune', 'retention', `${env['RETENTION_HOURS']}h`);
    notices.push(`RETENTION_HOURS is honoured: prune.retention is ${env['RETENTION_HOURS']}h`);
  }
  if (env['ARCHIVE_DRY_RUN'] !== undefined) {
    set('ARCHIVE_DRY_RUN', 'prune', 'dryRun', truth(env['ARCHIVE_DRY_RUN']));
    notices.push(`ARCHIVE_DRY_RUN is honoured: prune.dryRun is ${String(truth(env['ARCHIVE_DRY_RUN']))}`);
  }
  if (env['DATA_ARCHIVAL_ENABLED'] !== undefined) {
    const enabled = truth(env['DATA_ARCHIVAL_ENABLED']);
    if (enabled !== true) set('DATA_ARCHIVAL_ENABLED', 'prune', 'enabled', enabled);
    notices.push(`DATA_ARCHIVAL_ENABLED is honoured: ${enabled === true ? 'pruning stays as configured' : 'pruning is off'}`);
  }
  for (const [variable, name, key, as] of OVERRIDABLE) {
    const value = readVariable(variable, env);
    if (value === undefined) continue;
    set(variable, name, key, as === 'boolean' ? truth(value) : as === 'number' && value.trim() !== '' && !Number.isNaN(Number(value)) ? Number(value) : value);
  }
  return { notices, from };
}
