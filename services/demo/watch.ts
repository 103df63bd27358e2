/** Watches the pipeline while the demo runs: samples law 3, measures lag, and shows it: redrawn on a terminal, a line every few seconds in a pipe. */
import type pg from 'pg';
import pc from 'picocolors';
import { ArchiveFollower, type ArchiveState } from '../../src/archive/manifest.js';
import { type IntentHead, ReceiptIndex, type RunReceipt } from '../../src/archive/receipts.js';
import { type Lsn, parseLsn } from '../../src/position/lsn.js';
import { parsePosition } from '../../src/position/position.js';
import { sleep } from '../../src/runtime/service.js';
import type { TableJournal } from './journal.js';
import type { Load } from './load.js';
import type { Supervised } from './supervised.js';

const SAMPLE_MS = 200;
const PIPE_LINE_MS = 3000;
const REDRAW_MS = 500;
/** A batch counts as being at work this long. */
const BUSY_MS = 3000;

export class Watch {
  readonly #client: pg.Client;
  readonly #follower: ArchiveFollower;
  readonly #receipts: ReceiptIndex;
  readonly #slot: string;
  readonly #journals: readonly TableJournal[];
  state: ArchiveState | undefined;
  runs: readonly RunReceipt[] = [];
  law3Samples = 0;
  readonly law3Violations: string[] = [];
  /** Greatest age of a written row that was not archived yet, since the copy was complete; a sample or two too much, never too little. */
  maxLagSeconds = 0;
  #lagSeconds = 0;
  #lagBytes = 0;
  /** Writes that are not archived yet, oldest first: all of them ended below `lsn` and came after `at` (ms by the database's clock). */
  #unarchived: { readonly lsn: Lsn; readonly at: number }[] = [];
  #written = 0;
  #sampledAt: number | undefined;
  /** Batches whose deletes are committed: they count even when their run was killed. */
  #batches: readonly IntentHead[] = [];
  #shown = 0;
  #lines = 0;

  constructor(parts: { client: pg.Client; archiveDir: string; slot: string; journals: readonly TableJournal[] }) {
    this.#client = parts.client;
    this.#follower = new ArchiveFollower(parts.archiveDir);
    this.#receipts = new ReceiptIndex(parts.archiveDir);
    this.#slot = parts.slot;
    this.#journals = parts.journals;
  }

  async run(signal: AbortSignal, load: () => Load | undefined, services: Supervised): Promise<void> {
    while (!signal.aborted) {
      await this.sample().catch(() => undefined); // a manifest that is being written, a database that is busy: the next sample tells
      this.#show(load(), services);
      await sleep(SAMPLE_MS, signal);
    }
    if (this.#lines > 0) process.stdout.write('\n');
  }

  /** S is read before W: W only rises. What was written is counted before the insert position is read: it ended below it. */
  async sample(): Promise<void> {
    const written = this.#journals.reduce((sum, journal) => sum + journal.written + journal.deleted.size, 0);
    const { rows } = await this.#client.query<{ s: string | null; insert: string; now: string }>(
      `SELECT (SELECT confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1) AS s, pg_current_wal_insert_lsn()::text AS insert, (extract(epoch FROM clock_timestamp()) * 1000)::int8::text AS now`,
      [this.#slot],
    );
    this.state = (await this.#follower.refresh()) ?? this.state;
    this.runs = await this.#receipts.runs();
    this.#batches = (await this.#receipts.batches()).filter(({ outcome }) => outcome === 'committed').map(({ intent }) => intent);
    const position = this.state?.position;
    const row = rows[0];
    if (!row || !position) return;
    const archived = parsePosition(position).lsn;
    this.#measureLag(written, { lsn: parseLsn(row.insert), now: Number(row.now) }, archived);
    if (row.s === null) return;
    this.law3Samples += 1;
    if (parseLsn(row.s) > archived) this.law3Violations.push(`slot confirmed ${row.s}, archived ${position}`);
  }

  /** The age of the oldest write that is not archived; an idle server has none, whatever else is in its WAL. */
  #measureLag(written: number, insert: { lsn: Lsn; now: number }, archived: Lsn): void {
    if (written !== this.#written) this.#unarchived.push({ lsn: insert.lsn, at: this.#sampledAt ?? insert.now });
    this.#written = written;
    this.#sampledAt = insert.now;
    this.#unarchived = this.#unarchived.filter(({ lsn }) => lsn > archived);
    this.#lagBytes = Math.max(0, Number(insert.lsn - archived));
    this.#lagSeconds = (insert.now - (this.#unarchived[0]?.at ?? insert.now)) / 1000;
    this.maxLagSeconds = Math.max(this.maxLagSeconds, this.#lagSeconds);
  }

  #show(load: Load | undefined, services: Supervised): void {
    const terminal = process.stdout.isTTY === true;
    const now = performance.now();
    if (now - this.#shown < (terminal ? REDRAW_MS : PIPE_LINE_MS)) return;
    this.#shown = now;
    if (!terminal) {
      process.stdout.write(`${this.#line(load, services)}\n`);
      return;
    }
    const lines = [this.#line(load, services), ...this.#tables()];
    // Lines longer than the terminal are cut, not wrapped: else the cursor would not find back to the first.
    process.stdout.write(`\u001b[?7l${this.#lines > 0 ? `\u001b[${this.#lines}A` : ''}${lines.map((line) => `\u001b[2K${line}`).join('\n')}\n\u001b[?7h`);
    this.#lines = lines.length;
  }

  #line(load: Load | undefined, services: Supervised): string {
    const copy = this.state?.copy;
    if (!this.state?.position) return `copying the tables: ${copy?.rows ?? 0} rows archived`;
    const deleted = this.#batches.reduce((sum, batch) => sum + batch.rows, 0);
    const busy = new Map<string, number>();
    for (const { table, rows, at } of this.#batches) if (Date.now() - Date.parse(at) < BUSY_MS) busy.set(table, (busy.get(table) ?? 0) + rows);
    const pruning = [...busy].map(([table, rows]) => `${table} ${rows}`);
    return [
      `rows in ${load?.rows ?? 0}`,
      `late ${load?.backdated ?? 0}, updated ${load?.updated ?? 0}, deleted ${load?.deleted ?? 0}`,
      pc.cyan(`lag ${this.#lagSeconds.toFixed(1)} s, ${Math.round(this.#lagBytes / 1024)} KB`),
      `manifest ${this.state.number}`,
      pc.yellow(`pruned ${deleted} in ${this.runs.length} runs`),
      pruning.length > 0 ? `pruning ${pruning.slice(0, 3).join(', ')}${pruning.length > 3 ? ' …' : ''}` : '',
      services.kills > 0 ? pc.red(`${services.kills} kills`) : '',
    ]
      .filter((part) => part !== '')
      .join(' · ');
  }

  #tables(): string[] {
    const pruned = new Map<string, number>();
    for (const { table, rows } of this.#batches) pruned.set(table, (pruned.get(table) ?? 0) + rows);
    return this.#journals.map(({ table, live }) => {
      const files = [...(this.state?.files.values() ?? [])].filter((file) => file.table === table.name && (file.kind === 'segment' || file.kind === 'daily'));
      const gone = pruned.get(table.name) ?? 0;
      return `  ${table.name.padEnd(38)} hot ${String(Math.max(0, live.size - gone)).padStart(8)}  archived ${String(files.reduce((sum, file) => sum + file.rows, 0)).padStart(8)}  pruned ${String(gone).padStart(8)}  files ${String(files.length).padStart(4)}`;
    });
  }
}
