/** One statement of `tidemark query`, from its text to its output: in a form, on standard output or into a file that is there when it is whole. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import Table from 'cli-table3';
import type { Query, QueryFacts, QueryResult } from '../../../src/query/query.js';
import { TidemarkError } from '../../../src/runtime/errors.js';
import { type Format, SHOWN_ROWS, textOf, written } from './formats.js';

export type Output = {
  readonly format: Format;
  /** Absolute path; undefined: standard output. */
  readonly file: string | undefined;
  /** Say what was read, on standard error. */
  readonly facts: boolean;
};

export async function runStatement(query: Query, sql: string, output: Output, signal: AbortSignal): Promise<void> {
  const began = performance.now();
  const say = (rows: number, facts: QueryFacts): void => {
    if (output.facts) process.stderr.write(`${factsText(rows, facts, performance.now() - began)}\n`);
  };
  const { format, file } = output;
  if (file === undefined) {
    if (format === 'parquet') throw new Error('parquet goes into a file');
    await query.run(sql, signal, async (result) => {
      await writeTo(process.stdout, result, format, signal);
      say(result.rows, result.facts);
    });
    return;
  }
  const partial = path.join(path.dirname(file), `.${path.basename(file)}.${randomUUID()}.partial`);
  try {
    if (format === 'parquet') {
      const { rows, facts } = await query.writeParquet(sql, partial, signal);
      await outTo(file, rename(partial, file));
      say(rows, facts);
      return;
    }
    await query.run(sql, signal, async (result) => {
      const stream = createWriteStream(partial, { flags: 'wx', mode: 0o640 });
      const whole = finished(stream);
      whole.catch(() => undefined); // said below, or by the write that meets it
      await outTo(file, writeTo(stream, result, format, signal));
      stream.end();
      await outTo(file, whole);
      await outTo(file, rename(partial, file));
      say(result.rows, result.facts);
    });
  } finally {
    await rm(partial, { force: true });
  }
}

async function outTo(file: string, writing: Promise<void>): Promise<void> {
  try {
    await writing;
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === undefined) throw error;
    throw new TidemarkError('failed', `--out: ${file} cannot be written (${code ?? syscall})`, { remedy: 'make room, or name another file', cause: error });
  }
}

async function writeTo(stream: Writable, result: QueryResult, format: Exclude<Format, 'parquet'>, signal: AbortSignal): Promise<void> {
  if (result.explains) {
    for await (const piece of result.kept((column) => column)) for (const [text] of piece) await write(stream, `${(text ?? '').trimEnd()}\n`, signal);
    return;
  }
  const shown = format === 'table' ? SHOWN_ROWS : undefined;
  for await (const piece of written(format, result.columns, result.kept(textOf(format), shown), Table)) await write(stream, piece, signal);
  if (format !== 'table') return;
  const { rows } = result;
  const all = `${rows} row${rows === 1 ? '' : 's'}`;
  await write(stream, rows > SHOWN_ROWS ? `(the first ${SHOWN_ROWS} of ${all}; every other format gives all)\n` : `(${all})\n`, signal);
}

/** Waits while the reader is slower. */
async function write(stream: Writable, text: string, signal: AbortSignal): Promise<void> {
  if (stream.errored) throw stream.errored;
  if (!stream.write(text)) await once(stream, 'drain', { signal });
}

function factsText(rows: number, { files, filesOf, hotRows }: QueryFacts, ms: number): string {
  return `${rows} row${rows === 1 ? '' : 's'} from ${hotRows} hot rows and ${files} of ${filesOf} archived files, ${(ms / 1000).toFixed(2)} s`;
}
