/** `tidemark query [SQL]`: one SQL over hot and cold rows, each row once; without SQL a shell on a terminal, or the statements of a pipe. Reads only. */
import { accessSync, constants, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Query, type Sides } from '../../../src/query/query.js';
import { splitStatements } from '../../../src/query/statements.js';
import { placeSql } from '../../../src/query/table.js';
import { type Config, loadConfig, userStateFolder } from '../../../src/runtime/config.js';
import { size } from '../../../src/runtime/config-values.js';
import { configError } from '../../../src/runtime/errors.js';
import { FORMATS, type Format } from '../query/formats.js';
import { type Output, runStatement } from '../query/runner.js';
import { runShell } from '../query/shell.js';

type Options = Record<string, string | boolean | undefined>;

const LEAST_MEMORY = 64 * 1024 * 1024;

export async function run([text]: readonly (string | undefined)[], options: Options): Promise<number> {
  const config = loadConfig(String(options['config']));
  const query = new Query(config, { sides: sidesOf(options), memory: memoryOf(options), temporary: path.resolve(String(options['temp'] ?? tmpdir())) });
  const output = outputOf(config, options);
  const stop = new AbortController();
  let unwritten: NodeJS.ErrnoException | undefined;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    unwritten ??= error;
    stop.abort();
  });
  if (options['interactive'] === true || (text === undefined && process.stdin.isTTY === true)) {
    await shell(query, output);
    return 0;
  }
  const { statements, rest, blank } = splitStatements(text ?? (await standardInput()));
  const all = blank ? [...statements] : [...statements, rest];
  if (all.length === 0) throw configError('there is no SQL', 'give it as an argument, on standard input, or use the shell on a terminal');
  if (all.length > 1 && output.file !== undefined) throw configError(`--out: these are ${all.length} statements`, 'write one statement into one file');
  const end = (): void => stop.abort();
  process.once('SIGINT', end).once('SIGTERM', end); // a second one ends the process at once
  try {
    for (const sql of all) await runStatement(query, sql, output, stop.signal);
  } catch (error) {
    if (unwritten === undefined) throw error;
  }
  return 0; // main says why it could not be written
}

async function shell(query: Query, output: Output): Promise<void> {
  if (output.file !== undefined) throw configError('--out: the shell writes to the terminal', 'give the SQL as an argument');
  await runShell({
    run: (sql, signal) => runStatement(query, sql, output, signal),
    tables: async () => (await query.tables()).map(({ key }) => key),
    schema: async (name) => {
      const tables = await query.tables();
      const table = tables.find(({ key, schema, table: bare }) => key === name || `${schema}.${bare}` === name);
      if (table === undefined) throw configError(`there is no table ${name}`, `name one of: ${tables.map(({ key }) => key).join(', ')}`);
      return `SELECT column_name, column_type FROM (DESCRIBE ${placeSql(table)})`;
    },
    historyFile: path.join(userStateFolder(), 'query_history'),
  });
}

function sidesOf({ hot, cold }: Options): Sides {
  if (hot === true && cold === true) throw configError('--hot and --cold exclude each other', 'leave both out to read both');
  return hot === true ? 'hot' : cold === true ? 'cold' : 'both';
}

function memoryOf({ memory }: Options): number {
  const parsed = size.safeParse(memory ?? '1GB');
  if (!parsed.success) throw configError(`--memory: ${parsed.error.issues[0]?.message}`);
  if (parsed.data < LEAST_MEMORY) throw configError(`--memory: ${memory} is too little`, 'give 64MB at least');
  return parsed.data;
}

/** The form: as said, else by the file's name, else a table for people and CSV for programs. */
function outputOf(config: Config, { format, out, stats }: Options): Output {
  const file = out === undefined ? undefined : path.resolve(String(out));
  const byName = FORMATS.find((one) => one !== 'table' && file?.endsWith(`.${one}`));
  const terminal = process.stdout.isTTY === true;
  const chosen = (format ?? byName ?? (terminal && file === undefined ? 'table' : 'csv')) as Format;
  if (!FORMATS.includes(chosen)) throw configError(`--format: ${JSON.stringify(format)} is none`, `one of: ${FORMATS.join(', ')}`);
  if (chosen === 'parquet' && file === undefined) throw configError('--format parquet: it is no text', 'give --out FILE');
  if (file !== undefined && isWithin(config.archive.dir, file))
    throw configError(`--out: ${file} lies in the archive, where only the archiver writes`, 'write it somewhere else');
  if (file !== undefined) requireWritable(file);
  return { format: chosen, file, facts: stats === true || (terminal && chosen === 'table') };
}

/** Said before anything is read. Throws `config`. */
function requireWritable(file: string): void {
  const folder = path.dirname(file);
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw configError(
      `--out: nothing can be written into ${folder} (${(error as NodeJS.ErrnoException).code})`,
      'name a file in a folder that is there and that you may write into',
    );
  }
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory() === true) throw configError(`--out: ${file} is a folder`, 'name a file');
}

function isWithin(folder: string, file: string): boolean {
  const relative = path.relative(path.resolve(folder), file);
  return relative === '' || !(relative.startsWith('..') || path.isAbsolute(relative));
}

async function standardInput(): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of process.stdin) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString('utf8');
}
