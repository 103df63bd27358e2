/** A workload on one small table with its own journal, and the audit against what Postgres and the archive hold: the crash tests' truth. */
import assert from 'node:assert/strict';
import { archiveView, type Version } from './archive-view.js';
import type { Pipeline } from './pipeline.js';

export const TICKS_SCHEMA = `CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text, n numeric(20,8)); CREATE INDEX ON ticks (at);`;
export const TICKS_TABLES = '  ticks: { timestamp: at }';

/** A row as Postgres prints it. */
export type Tick = { id: string; at: string; v: string | null; n: string };

export class Ticks {
  readonly #pipeline: Pipeline;
  /** What must be there: id → newest committed version. */
  readonly live = new Map<string, string>();
  readonly deleted = new Set<string>();
  readonly rolledBack = new Set<string>();
  #next = 1;

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline;
  }

  /** Journals rows that somebody else has committed. */
  keep(rows: Iterable<Tick>): void {
    for (const row of rows) this.live.set(row.id, fingerprint(row));
  }

  async insert(count: number, ageHours: number): Promise<void> {
    const first = this.#next;
    this.#next += count;
    this.keep(
      await this.#pipeline.query<Tick>(
        `INSERT INTO ticks SELECT i, date_trunc('second', now()) - interval '${ageHours} hours' - i * interval '1 second', CASE WHEN i % 7 = 0 THEN NULL WHEN i % 5 = 0 THEN '' ELSE 'tick "' || i || E'"\\t\\n\\\\N' END, i / 4.0
         FROM generate_series(${first}, ${first + count - 1}) i RETURNING id, at, v, n`,
      ),
    );
  }

  /** Updates every `step`-th live row. */
  async update(step: number): Promise<void> {
    this.keep(await this.#pipeline.query<Tick>(`UPDATE ticks SET v = coalesce(v, '') || '+', n = n + 1 WHERE id % ${step} = 0 RETURNING id, at, v, n`));
  }

  /** Deletes every `step`-th row as a user does. */
  async remove(step: number): Promise<void> {
    for (const { id } of await this.#pipeline.query<{ id: string }>(`DELETE FROM ticks WHERE id % ${step} = 0 RETURNING id`)) {
      this.live.delete(id);
      this.deleted.add(id);
    }
  }

  /** A transaction whose savepoint is rolled back, and one that is rolled back whole. */
  async rollBack(): Promise<void> {
    const [kept, dropped, gone] = [this.#next, this.#next + 1, this.#next + 2];
    this.#next += 3;
    const row = (id: number): string => `INSERT INTO ticks VALUES (${id}, date_trunc('second', now()), 'r', ${id}) RETURNING id, at, v, n`;
    await this.#pipeline.query('BEGIN');
    this.keep(await this.#pipeline.query<Tick>(row(kept)));
    await this.#pipeline.query('SAVEPOINT s');
    await this.#pipeline.query(row(dropped));
    await this.#pipeline.query('ROLLBACK TO SAVEPOINT s');
    await this.#pipeline.query('COMMIT');
    await this.#pipeline.query('BEGIN');
    await this.#pipeline.query(row(gone));
    await this.#pipeline.query('ROLLBACK');
    this.rolledBack.add(String(dropped)).add(String(gone));
  }

  /** Everything journalled is in Postgres or in the archive with equal columns, once; nothing else is. Returns how many rows left Postgres. */
  async audit(): Promise<{ hot: number; archived: number; pruned: number }> {
    const hot = new Map((await this.#pipeline.query<Tick>('SELECT id, at, v, n FROM ticks')).map((row) => [row.id, fingerprint(row)]));
    const archived = await this.archiveView();
    const problems: string[] = [];
    for (const [id, expected] of this.live) {
      const here = hot.get(id);
      const there = archived.get(id);
      if (here !== undefined && here !== expected) problems.push(`row ${id}: Postgres differs`);
      if (there === undefined ? here === undefined : there.length !== 1 || there[0] !== expected)
        problems.push(`row ${id}: hot ${here !== undefined}, archived ${JSON.stringify(there)}, expected ${expected}`);
    }
    for (const id of [...hot.keys(), ...archived.keys()]) if (!this.live.has(id)) problems.push(`row ${id}: unexpected`);
    assert.deepEqual(problems.slice(0, 5), [], `${problems.length} problems`);
    return { hot: hot.size, archived: archived.size, pruned: [...this.live.keys()].filter((id) => !hot.has(id)).length };
  }

  /** Fingerprints of the last version of each life, by id. */
  async archiveView(): Promise<Map<string, string[]>> {
    const view = await archiveView(this.#pipeline, 'ticks');
    return new Map([...view].map(([id, rows]) => [id, rows.map(fingerprintOf)]));
  }
}

/** One text of all its columns. */
export function fingerprint(row: Tick): string {
  return JSON.stringify([row.id, new Date(row.at).toISOString(), row.v, Number(row.n)]);
}

function fingerprintOf(row: Version): string {
  return JSON.stringify([String(row['id']), new Date(row['at'] as Date).toISOString(), row['v'] ?? null, Number(row['n'])]);
}
