/**
 * Follows the stream and prints its changes. Owns the order of it: start, read, print, wait for the reader. Reads with a consumer of its own that acknowledges nothing and ends by itself;
 * asks for no more chunks while the last one is being printed.
 */
import { readKey } from '../../../src/archive/manifest.js';
import { type IntentHead, ReceiptIndex } from '../../../src/archive/receipts.js';
import type { Config, TableConfig } from '../../../src/runtime/config.js';
import { messageOf, TidemarkError } from '../../../src/runtime/errors.js';
import { readChunks, type StreamChunk } from '../../../src/stream/consume.js';
import { connectStream } from '../../../src/stream/topology.js';
import { findIntents } from '../../archiver/intents.js';
import { type Change, TailedChanges, type TailScope } from './changes.js';
import { changeLine } from './line.js';
import type { LineOutput } from './output.js';
import { type From, findStart } from './start.js';

export type TailOptions = {
  /** This table only. */
  readonly table: TableConfig | undefined;
  readonly from: From;
  /** Without it: up to what is in the stream now. */
  readonly follow: boolean;
  /** Also fences and other messages of ours, and copied rows. */
  readonly all: boolean;
  readonly output: LineOutput;
  readonly signal: AbortSignal;
  /** What a person should know at once; not among the lines. */
  readonly notice: (text: string) => void;
};

/** Runs until `signal` aborts, the reader goes, or, without `follow`, the end is reached. */
export async function tail(config: Config, options: TailOptions): Promise<void> {
  const { from, follow, output } = options;
  const signal = AbortSignal.any([options.signal, output.gone]);
  const stream = await connectStream(config, `tidemark_${config.source.name}_tail`);
  try {
    const start = await findStart(stream, from);
    if (start.notice !== undefined) options.notice(start.notice);
    if (!follow && start.sequence !== undefined && start.sequence > start.last) return;
    const printer = new Printer(config, options, await scopeOf(config, from));
    const place = start.sequence === undefined ? {} : { sequence: start.sequence, created: start.created };
    for await (const chunk of readChunks(stream, place, signal, follow ? {} : { until: start.last })) {
      await printer.print(chunk, signal);
      if (signal.aborted) return;
    }
  } finally {
    await stream.connection.close().catch(() => undefined);
  }
}

/** The archive's key tells the pruner's deletes from others; a machine that has no archive does without. */
async function scopeOf(config: Config, from: From): Promise<TailScope> {
  const key = await readKey(config.archive.dir).catch(() => undefined);
  if (from.kind === 'lsn') return { key, sinceLsn: from.lsn };
  return from.kind === 'time' ? { key, sinceMicros: from.micros } : { key };
}

class Printer {
  readonly #options: TailOptions;
  readonly #scope: TailScope;
  readonly #receipts: ReceiptIndex;
  readonly #intents = new Map<string, IntentHead>();
  readonly #changes: TailedChanges;

  constructor(config: Config, options: TailOptions, scope: TailScope) {
    this.#options = options;
    this.#scope = scope;
    this.#receipts = new ReceiptIndex(config.archive.dir);
    this.#changes = new TailedChanges(scope, this.#intents);
  }

  async print(chunk: StreamChunk, signal: AbortSignal): Promise<void> {
    const { output } = this.#options;
    for (const change of await this.#read(chunk)) {
      if (!this.#isWanted(change)) continue;
      for (const piece of changeLine(change)) {
        await output.write(piece, signal);
        if (signal.aborted) return;
      }
    }
    await output.flush(signal);
  }

  async #read(chunk: StreamChunk): Promise<Change[]> {
    const { kind } = chunk.header;
    if (kind !== 'changes' && !this.#options.all) return [];
    if (kind === 'changes' && this.#scope.key !== undefined) await findIntents(chunk.payload, this.#scope.key, this.#receipts, this.#intents);
    try {
      return this.#changes.read(chunk);
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error;
      throw new TidemarkError('failed', `message ${chunk.sequence} of the stream cannot be decoded: ${messageOf(error)}`, {
        remedy: 'see what the archiver says of it; `tidemark repair --stream` removes a damaged stream, which capture fills again',
        cause: error,
      });
    }
  }

  #isWanted(change: Change): boolean {
    const { table, all } = this.#options;
    if ('prefix' in change) return all;
    return table === undefined || (change.table.schema === table.schema && change.table.table === table.table);
  }
}
