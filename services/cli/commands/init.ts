/** `tidemark init`: reads the catalog, guesses each table's timestamp column, and writes a commented tidemark.yaml with pruning off. Changes nothing in the database. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type pg from 'pg';
import { stringify } from 'yaml';
import { RESERVED } from '../../../src/archive/layout.js';
import { readTarget } from '../../../src/prune/target.js';
import { parseConfig } from '../../../src/runtime/config.js';
import { configError } from '../../../src/runtime/errors.js';
import { clash, placeOfFiles } from '../../../src/runtime/table-files.js';
import { parseTableKey } from '../../../src/runtime/table-key.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';
import { type Found, keyOf, type Refused, readTables, refusal, timestampColumn } from '../catalog-tables.js';

type Guess = { key: string; timestamp: string; group: string | undefined; prune: boolean; notes: string[] };

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const url = options['url'] === undefined ? process.env['DATABASE_URL'] : String(options['url']);
  if (url === undefined) throw configError('init: which database?', 'give --url, or set DATABASE_URL');
  const out = path.resolve(String(options['out']));
  const field = options['url'] === undefined ? 'DATABASE_URL' : '--url';
  const client = await connectClient(url, { applicationName: 'tidemark_init', queryTimeoutMs: 30_000, field });
  let text: string;
  let chosen: Guess[];
  let refused: Refused[];
  try {
    const tables = await readTables(client);
    chosen = [];
    const able = tables.filter((table) => refusal(table) === undefined);
    for (const table of tables) {
      const found = await guess(client, table, able);
      if (found !== undefined) chosen.push(found);
    }
    keepApart(chosen);
    refused = tables.flatMap((table) => refusal(table) ?? []);
    const { rows } = await client.query<{ name: string }>('SELECT current_database() AS name');
    text = render(sourceName(rows[0]?.name ?? 'source'), options['url'] === undefined ? undefined : url, chosen, refused);
  } finally {
    await closeClient(client);
  }
  if (chosen.length === 0)
    throw configError('init: no table of this database can be archived', refused.map(({ key, why }) => `${key}: ${why}`).join('; ') || 'it has no tables');
  parseConfig(text, { file: out, env: { DATABASE_URL: url } }); // what we write must be accepted
  await writeFile(out, text, { flag: options['force'] === true ? 'w' : 'wx', mode: 0o640 }).catch((error: NodeJS.ErrnoException) => {
    throw unwritable(out, error);
  });
  for (const { key, timestamp } of chosen) process.stdout.write(`archive  ${key} by ${timestamp}\n`);
  for (const { key, why } of refused) process.stdout.write(`leave    ${key}: ${why}\n`);
  process.stdout.write(
    `\nwrote ${out}; pruning is off in it. Next: mkdir -p ${path.join(path.dirname(out), 'archived_data')} && ${howStarted()} doctor -c ${path.relative(process.cwd(), out)}\n`,
  );
  return 0;
}

/** The command as it was started: who has a clone has no `tidemark`. */
export function howStarted(): string {
  const { npm_lifecycle_event: script, npm_package_json: manifest } = process.env;
  if (script !== 'tidemark' || manifest === undefined) return 'tidemark';
  const clone = path.dirname(manifest);
  return `${process.cwd()}${path.sep}`.startsWith(`${clone}${path.sep}`) ? 'npm run -s tidemark --' : `npm --prefix ${clone} run -s tidemark --`;
}

function unwritable(out: string, { code, message }: NodeJS.ErrnoException): Error {
  if (code === 'EEXIST') return configError(`${out} exists already`, 'use --force to replace it, or --out FILE');
  if (code === 'ENOENT' || code === 'ENOTDIR') return configError(`--out: there is no folder ${path.dirname(out)}`, 'make it, or give --out a file in another');
  if (code === 'EISDIR') return configError(`--out: ${out} is a folder`, 'give the file in it that is to be written');
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return configError(`--out: this user may not write ${out}`, 'give --out a file in a folder that you may write to');
  return configError(`--out: ${out} cannot be written (${code ?? message})`, 'give --out another file');
}

/** What stands against pruning is asked of the pruner's own reading of the catalog: such a table is archived with prune: false. */
async function guess(client: pg.Client, table: Found, able: readonly Found[]): Promise<Guess | undefined> {
  const timestamp = timestampColumn(table);
  if (timestamp === undefined || refusal(table) !== undefined) return undefined;
  const key = keyOf(table);
  const column = table.columns.find(([name]) => name === timestamp);
  const target = await readTarget(client, '', { ...PLAIN, key, schema: table.schema, table: table.table, timestamp });
  // There is no publication yet; doctor sees to that.
  const against = (target?.obstacles ?? []).filter(({ reason }) => !reason.includes('publication')).map(({ reason }) => reason);
  const references = target?.references.map(({ name }) => name) ?? [];
  const notes = [
    references.length === 0 ? '' : `rows that others refer to stay (${references.join(', ')})`,
    column?.[3] ? '' : `no index begins with ${timestamp}: pruning would read the whole table`,
    column?.[2] ? '' : `${timestamp} may be NULL: such rows are archived and never pruned`,
    against.length === 0 ? '' : `archived, not pruned: ${against.join('; ')}`,
  ];
  // Files are named after the table: tables of the same name lie in folders of their own.
  const twins = able.filter((other) => other.table === table.table).length > 1;
  const group = twins ? `${table.schema}_${table.table}`.replace(/[^A-Za-z0-9_.-]/g, '_') : groupOf(table.table);
  return { key, timestamp, group, prune: against.length === 0, notes: notes.filter((note) => note !== '') };
}

const PLAIN = { group: '', retentionMs: 0, prune: true, keepWhile: undefined, deletes: 'history', history: false } as const;

/** A folder name where the table's own is none; undefined where it is. */
function groupOf(table: string): string | undefined {
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(table) && table.toLowerCase() !== RESERVED ? undefined : `t${table.replace(/[^A-Za-z0-9_.-]/g, '_')}`;
}

/** Tables that would share files, or have files that look like each other's, get folders of their own. */
function keepApart(chosen: Guess[]): void {
  const places: string[] = [];
  for (const one of chosen) {
    const { table } = parseTableKey(one.key);
    const wanted = one.group ?? table;
    const placed = (group: string): string => placeOfFiles(group, table);
    for (let n = 2; places.some((other) => clash(placed(one.group ?? wanted), other) !== undefined); n += 1) one.group = `${groupOf(wanted) ?? wanted}_${n}`;
    places.push(placed(one.group ?? wanted));
  }
}

/** A key of a mapping on one line. */
function yamlKey(key: string): string {
  const written = stringify(key).trimEnd();
  return written.includes('\n') ? JSON.stringify(key) : written;
}

function sourceName(database: string): string {
  return (
    database
      .toLowerCase()
      .replace(/[^a-z0-9_]+/g, '_')
      .slice(0, 40) || 'source'
  );
}

function render(name: string, url: string | undefined, chosen: readonly Guess[], refused: readonly Refused[]): string {
  const lines = [
    '# Written by tidemark init. Read it, move tables that must never be touched to `protected`, then: tidemark doctor',
    stringify({ source: { url: url === undefined ? '${DATABASE_URL}' : url, name, timezone: 'UTC' } }).trimEnd(), // timezone: of `timestamp` columns
    stringify({ stream: { url: 'nats://localhost:4222', replay: { age: '7d', bytes: '20GB' } } }).trimEnd(),
    stringify({ archive: { dir: './archived_data', flush: { every: '60s' } } }).trimEnd(),
    '# `tidemark run` shows the pipeline in a browser there; without this section it opens no port.',
    stringify({ console: { port: 9470 } }).trimEnd(),
    '# Nothing is deleted until you set this to true; `tidemark prune --dry-run` shows what would be.',
    stringify({ prune: { enabled: false, retention: '24h', schedule: '0 * * * *' } }).trimEnd(),
    'tables:',
  ];
  for (const { key, timestamp, group, prune, notes } of chosen) {
    for (const note of notes) lines.push(`  # ${note.replace(/[\r\n]/g, ' ')}`);
    const more = `${group === undefined ? '' : `, group: ${JSON.stringify(group)}`}${prune ? '' : ', prune: false'}`;
    lines.push(`  ${yamlKey(key)}: { timestamp: ${JSON.stringify(timestamp)}${more} }`);
  }
  if (refused.length > 0) lines.push('# Not archived:', ...refused.map(({ key, why }) => `#   ${key.replace(/[\r\n]/g, ' ')}: ${why}`));
  lines.push('protected: []');
  return `${lines.join('\n')}\n`;
}
