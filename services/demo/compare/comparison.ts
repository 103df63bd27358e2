/** The old script on a database of its own, beside ours and under the same load. Owns that database's connection, the script's process and its files. Changes nothing of ours. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import Table from 'cli-table3';
import { asyncBufferFromFile, parquetMetadataAsync } from 'hyparquet';
import type pg from 'pg';
import pc from 'picocolors';
import { connectClient } from '../../../src/wal/session.js';
import { plainTable } from '../../cli/print.js';
import { readTableView, type ViewedFile } from '../archive-view.js';
import { allRows } from '../hot-rows.js';
import { fingerprintOf, type TableJournal } from '../journal.js';
import { copyTables, Mirror } from './mirror.js';
import { OldProcess } from './old-process.js';
import type { OldScriptConfig } from './old-script.js';
import { causesOf, judgeOld, type OldTable, type OldVerdict } from './verdict.js';

export type ComparisonParts = {
  /** Folder of the demo. */
  readonly home: string;
  /** The second database, empty. */
  readonly url: string;
  readonly schema: string;
  readonly retentionMs: number;
  readonly everyMs: number;
};

/** What ours came to, for the same table. */
export type Ours = { readonly archived: number; readonly lost: number; readonly doubled: number; readonly wrongDay: number; readonly kills: number };

export class Comparison implements AsyncDisposable {
  readonly mirror: Mirror;
  readonly #parts: ComparisonParts;
  readonly #client: pg.Client;
  readonly #journals: readonly TableJournal[];
  #script: OldProcess | undefined;

  private constructor(parts: ComparisonParts, client: pg.Client, journals: readonly TableJournal[]) {
    this.#parts = parts;
    this.#client = client;
    this.#journals = journals;
    this.mirror = new Mirror(client, journals);
  }

  /** `first`: connection to our database, with the history loaded; `journals` say what it holds. */
  static async begin(parts: ComparisonParts, first: pg.Client, journals: readonly TableJournal[]): Promise<Comparison> {
    const client = await connectClient(parts.url, { applicationName: 'demo_old_load' });
    await client.query(`SET search_path = public; ${parts.schema}`);
    await copyTables(
      first,
      client,
      journals.map(({ table }) => table),
    );
    return new Comparison(
      parts,
      client,
      journals.map((journal) => journal.copy()),
    );
  }

  get #dir(): string {
    return path.join(this.#parts.home, 'old_archive');
  }

  async start(): Promise<void> {
    const { home, url, everyMs, retentionMs } = this.#parts;
    await mkdir(this.#dir, { mode: 0o750 });
    const config: OldScriptConfig = { url, dir: this.#dir, everyMs, retentionMs, tables: this.#journals.map(({ table }) => table) };
    const file = path.join(home, 'old-script.json');
    await writeFile(file, JSON.stringify(config), { mode: 0o600 });
    this.#script = new OldProcess(file);
  }

  /** The script has had a run: from now on rows may come late for it. */
  get hasDeleted(): boolean {
    return this.#script?.runs.some(({ deleted }) => deleted > 0) ?? false;
  }

  /** As often as a service of ours is killed. */
  kill(): void {
    this.#script?.kill();
  }

  /** The load has stopped: the script has its last run, undisturbed. What went wrong beside what it is there to show. */
  async finish(): Promise<string[]> {
    await this.mirror.settled();
    await this.#script?.finish();
    return (this.#script?.troubles ?? []).slice(0, 3).map((line) => `the old script: ${line}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#script?.stop();
    await this.#client.end();
  }

  async judge(): Promise<OldVerdict> {
    const tables: OldTable[] = [];
    for (const journal of this.#journals) {
      const { table } = journal;
      const hot = new Map((await allRows(this.#client, table.name)).map((row) => [journal.keyOf(row), fingerprintOf(table.columns, row)]));
      const files = await this.#filesOf(table.group, table.name);
      const readable: ViewedFile[] = [];
      for (const file of files) if (await isReadable(path.join(this.#dir, file.file))) readable.push(file);
      tables.push({ journal, hot, view: await readTableView(this.#dir, readable, table), torn: readable.length < files.length });
    }
    return judgeOld(tables);
  }

  async #filesOf(group: string, table: string): Promise<ViewedFile[]> {
    const names = await readdir(path.join(this.#dir, group)).catch(() => []);
    return names.flatMap((name): ViewedFile[] => {
      const day = new RegExp(`^${table}_(\\d{4}-\\d{2}-\\d{2})\\.parquet$`).exec(name)?.[1];
      return day === undefined ? [] : [{ file: `${group}/${name}`, table, kind: 'daily', day, bytes: 0, pendingCopy: null }];
    });
  }

  /** The table at the end, with a sentence for each cause. */
  print(ours: Ours, theirs: OldVerdict): void {
    const rows = [
      ['Tidemark', ...[ours.archived, ours.lost, ours.doubled, ours.wrongDay, ours.kills].map(String)],
      ['the old script', ...[theirs.archived, theirs.lost, theirs.doubled, theirs.wrongDay, this.#script?.kills ?? 0].map(String)],
    ];
    const failed = new Set(this.#script?.runs.filter(({ error }) => error !== undefined).map(({ table }) => table));
    process.stdout.write(`\n${plainTable(Table, ['', 'rows in files', 'lost', 'doubled', 'in a file of the wrong day', 'kills'], rows)}\n`);
    for (const sentence of causesOf(theirs)) process.stdout.write(`${pc.yellow('old script')}  ${sentence}\n`);
    if (failed.size > 0)
      process.stdout.write(`${pc.yellow('old script')}  runs failed for ${[...failed].join(', ')}; what was not deleted stays in Postgres.\n`);
    process.stdout.write(`its files are in ${this.#dir}\n`);
  }
}

async function isReadable(file: string): Promise<boolean> {
  try {
    await parquetMetadataAsync(await asyncBufferFromFile(file));
    return true;
  } catch {
    return false;
  }
}
