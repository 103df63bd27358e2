/** Watches the pipeline while the demo runs: samples law 3, measures lag, and shows it: redrawn on a terminal, a line every few seconds in a pipe. */
import type pg from 'pg';
import pc from 'picocolors';
import { ArchiveFollower, type ArchiveState } from '../../src/archive/manifest.js';
import { ReceiptIndex, type RunReceipt } from '../../src/archive/receipts.js';
import { parseLsn } from '../../src/position/lsn.js';
import { parsePosition } from '../../src/position/position.js';
import { sleep } from '../../src/runtime/service.js';
import type { TableJournal } from './journal.js';
import type { Load } from './load.js';
import type { Supervised } from './supervised.js';

const SAMPLE_MS = 200;
const PIPE_LINE_MS = 3000;
const REDRAW_MS = 500;

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
  maxLagSeconds = 0;
  #lagSeconds = 0;
  #lagBytes = 0;
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

  /** S is read before W: W only rises. */
  async sample(): Promise<void> {
    const { rows } = await this.#client.query<{ s: string | null; insert: string; now: string }>(
      `SELECT (SELECT confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1) AS s, pg_current_wal_insert_lsn()::text AS insert, (extract(epoch FROM clock_timestamp()) * 1000)::int8::text AS now`,
      [this.#slot],
    );
    this.state = (await this.#follower.refresh()) ?? this.state;
    this.runs = await this.#receipts.runs();
    const position = this.state?.position;
    const row = rows[0];
    if (!row || !position) return;
    const archived = parsePosition(position).lsn;
    this.#lagBytes = Math.max(0, Number(parseLsn(row.insert) - archived));
    this.#lagSeconds = this.state?.committedAt && this.#lagBytes > 0 ? Math.max(0, (Number(row.now) - Date.parse(this.state.committedAt)) / 1000) : 0;
    this.maxLagSeconds = Math.max(this.maxLagSeconds, this.#lagSeconds);
    if (row.s === null) return;
    this.law3Samples += 1;
    if (parseLsn(row.s) > archived) this.law3Violations.push(`slot confirmed ${row.s}, archived ${position}`);
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
    const last = this.runs.at(-1);
    const deleted = this.runs.reduce((sum, run) => sum + run.tables.reduce((rows, table) => rows + table.deleted, 0), 0);
    const busy = last?.tables.filter((table) => table.deleted > 0).map((table) => `${table.table} ${table.deleted}`) ?? [];
    return [
      `rows in ${load?.rows ?? 0}`,
      `late ${load?.backdated ?? 0}, updated ${load?.updated ?? 0}, deleted ${load?.deleted ?? 0}`,
      pc.cyan(`lag ${this.#lagSeconds.toFixed(1)} s, ${Math.round(this.#lagBytes / 1024)} KB`),
      `manifest ${this.state.number}`,
      pc.yellow(`pruned ${deleted} in ${this.runs.length} runs`),
      busy.length > 0 ? `last: ${busy.slice(0, 3).join(', ')}${busy.length > 3 ? ' …' : ''}` : '',
      services.kills > 0 ? pc.red(`${services.kills} kills`) : '',
    ]
      .filter((part) => part !== '')
      .join(' · ');
  }

  #tables(): string[] {
    const pruned = new Map<string, number>();
    for (const run of this.runs) for (const table of run.tables) pruned.set(table.table, (pruned.get(table.table) ?? 0) + table.deleted);
    return this.#journals.map(({ table, live }) => {
      const files = [...(this.state?.files.values() ?? [])].filter((file) => file.table === table.name && (file.kind === 'segment' || file.kind === 'daily'));
      const gone = pruned.get(table.name) ?? 0;
      return `  ${table.name.padEnd(38)} hot ${String(Math.max(0, live.size - gone)).padStart(8)}  archived ${String(files.reduce((sum, file) => sum + file.rows, 0)).padStart(8)}  pruned ${String(gone).padStart(8)}  files ${String(files.length).padStart(4)}`;
    });
  }
}
