/** What one restore leaves behind: its id, its receipts, a line among the operations, and the error that it ends with. */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { type ArchiveState, readKey } from '../archive/manifest.js';
import { recordOperation } from '../archive/operations.js';
import { RestoreIndex, type RestoreRunReceipt, RestoreWriter } from '../archive/restores.js';
import type { Config } from '../runtime/config.js';
import { describeError, TidemarkError } from '../runtime/errors.js';
import type { BatchContext } from './batch.js';
import { settleRestores } from './session.js';

export class RestoreRun {
  readonly id = randomUUID();
  readonly #config: Config;
  readonly #command: RestoreRunReceipt['command'];
  readonly #dryRun: boolean;
  readonly #at = new Date().toISOString();
  readonly #receipts: RestoreWriter;
  #failure: { readonly error: unknown } | undefined;

  constructor(config: Config, command: RestoreRunReceipt['command'], dryRun: boolean) {
    this.#config = config;
    this.#command = command;
    this.#dryRun = dryRun;
    this.#receipts = new RestoreWriter(config.archive.dir);
  }

  /** What batches write down. Settles first what an earlier restore left open. */
  async record(state: ArchiveState, systemId: string, client: pg.Client): Promise<NonNullable<BatchContext['record']>> {
    const { dir } = this.#config.archive;
    if (!this.#dryRun) await settleRestores(client, systemId, new RestoreIndex(dir), this.#receipts);
    return { key: await readKey(dir), archive: state.archive, systemId, receipts: this.#receipts };
  }

  /** Why `body` stopped; null when it went through. Its failure is thrown by finish, behind the receipt. */
  async guarded(body: () => Promise<string | null>): Promise<string | null> {
    try {
      return await body();
    } catch (error) {
      this.#failure = { error: explain(error) };
      return describeError(this.#failure.error);
    }
  }

  async finish(tables: RestoreRunReceipt['tables'], problem: string | null): Promise<RestoreRunReceipt> {
    const receipt: RestoreRunReceipt = {
      type: 'run',
      run: this.id,
      command: this.#command,
      at: this.#at,
      finishedAt: new Date().toISOString(),
      dryRun: this.#dryRun,
      tables,
      problem,
    };
    if (!this.#dryRun) {
      await this.#receipts.append(receipt);
      const restored = tables.map(({ schema, table, into, restored }) => ({ schema, table, into, restored }));
      await recordOperation(this.#config.archive.dir, { type: this.#command, run: this.id, restored, problem });
    }
    if (this.#failure !== undefined) throw this.#failure.error;
    return receipt;
  }
}

/** A file that was merged or sealed away while it was to be read is no loss. */
export function explain(error: unknown): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT' && !/No files found|No such file/i.test(String(error))) return error;
  return new TidemarkError('failed', 'files were merged or sealed while they were to be read', {
    remedy: 'run it again: what is restored is found',
    cause: error,
  });
}
