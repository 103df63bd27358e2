/** The statements of a lane's transaction: each is tried with random values, and written to the transaction's log when the server has answered. */
import { once } from 'node:events';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { Random } from './chance.js';
import type { Entry, Journal, Version } from './journal.js';
import type { Kind } from './tables.js';

const ODD = ['', ' ', '\\', 'ü"q', "it's", 'a\tb', 'x\ny', '{1,2}', 'NULL', '\\N', '0', '-0'];
/** The first whole number that a double does not hold. */
export const BEYOND_DOUBLE = 9_007_199_254_740_993n;

export type ChangeParts = {
  readonly index: number;
  readonly random: Random;
  readonly journal: Journal;
  readonly kinds: readonly Kind[];
  /** Timestamp of a new row. */
  readonly at: (kind: Kind, random: Random) => string;
  /** Keys of a table come out of so many. */
  readonly keys: number;
  /** Rows of a COPY. */
  readonly copyRows: number;
};

export class Changes {
  readonly #parts: ChangeParts;
  readonly #random: Random;
  readonly #journal: Journal;
  readonly #count: (what: string, by?: number) => void;
  client!: pg.Client;
  /** Of the running transaction. */
  log: Entry[] = [];

  constructor(parts: ChangeParts, count: (what: string, by?: number) => void) {
    this.#parts = parts;
    this.#random = parts.random;
    this.#journal = parts.journal;
    this.#count = count;
  }

  /** Rows as the transaction sees them. */
  rows(kind: Kind): Version[] {
    const rows = new Set(this.#journal.live(kind, this.#parts.index));
    for (const entry of this.log) {
      if ('insert' in entry) {
        if (entry.insert.kind === kind) rows.add(entry.insert);
      } else rows.delete(entry.end);
    }
    return [...rows];
  }

  async operation(): Promise<void> {
    const kind = this.#random.pick(this.#parts.kinds);
    const rows = this.rows(kind);
    const roll = this.#random.below(100);
    const row = rows.length > 0 ? this.#random.pick(rows) : undefined;
    if (row === undefined || roll < 28) return await this.insert(this.fresh(kind));
    if (roll < 33) return await this.#copy(kind);
    if (roll < 38 && !kind.keyless) return await this.#upsert(row);
    if (roll < 52) return await this.#update(row, { n: row.n + 1n });
    if (roll < 60) return await this.#update(row, { big: this.#big() });
    if (roll < 69) return await this.#update(row, { key: this.#key(kind, row.key) });
    if (roll < 78) return await this.#update(row, { at: this.#parts.at(kind, this.#random) });
    if (roll < 90) return void (await this.#remove(row));
    // One key, deleted and inserted again in one transaction; once in a while with the very same day.
    if (await this.#remove(row)) await this.insert({ ...this.fresh(kind), key: row.key, ...(this.#random.chance(0.5) ? { at: row.at } : {}) });
  }

  version(kind: Kind, parts: Pick<Version, 'key' | 'at' | 'ver' | 'big' | 'n'>): Version {
    return { kind, ...parts, lane: this.#parts.index, fate: 'live', made: -1n, ended: -1n, by: undefined, nth: 0 };
  }

  fresh(kind: Kind, at = this.#parts.at(kind, this.#random)): Version {
    const ver = kind.keyless ? this.#random.pick(['x', 'y']) : this.#journal.name('v');
    const big = kind.keyless ? this.#random.pick([null, 'B'.repeat(3000)]) : this.#big();
    const n = BEYOND_DOUBLE + (kind.keyless ? BigInt(this.#random.below(2)) : 2n * BigInt(this.#random.below(1000)));
    return this.version(kind, { key: this.#key(kind), at, ver, big, n });
  }

  /** A key of this connection's own, which no row that it sees has. Keys of pruned and deleted rows come again. */
  #key(kind: Kind, like?: readonly string[]): string[] {
    const lane = this.#parts.index;
    if (kind.keyless) return [`${lane}${this.#random.pick(['a', 'b'])}`];
    const taken = new Set(this.rows(kind).flatMap(({ key }) => key.map((text, i) => `${i}${text}`)));
    const text = (): string => `${lane}${this.#random.pick(ODD)}${this.#random.below(this.#parts.keys)}`;
    for (;;) {
      const texts = kind.key.map((_, i) => (kind.name === 'f_full' && i === 1 ? `${lane}.${this.#random.pick(['0', '00', '5'])}` : text()));
      // Of two columns that are each unique (id, code) one may stay as it is.
      if (like !== undefined && kind.name === 'f_index') {
        const keep = this.#random.below(2);
        texts[keep] = like[keep] as string;
        texts[1 - keep] = text();
        if (!taken.has(`${1 - keep}${texts[1 - keep]}`)) return texts;
      } else if (texts.every((part, i) => (i > 0 && kind.name === 'f_full' ? true : !taken.has(`${i}${part}`)))) return texts;
    }
  }

  #big(): string | null {
    return this.#random.chance(0.3) ? null : String(this.#random.below(1_000_000)).repeat(this.#random.pick([1, 20, 700, 900]));
  }

  async insert(version: Version): Promise<void> {
    this.#journal.trying(version);
    const { kind } = version;
    const values = valuesOf(version);
    await this.client.query(`INSERT INTO ${kind.name} (${columnsOf(kind)}) VALUES (${values.map((_, i) => `$${i + 1}`).join(', ')})`, values);
    this.log.push({ insert: version });
    this.#count('inserts');
  }

  async #copy(kind: Kind): Promise<void> {
    const count = 1 + this.#random.below(this.#parts.copyRows);
    const lines: string[] = [];
    for (let i = 0; i < count; i += 1) {
      const version = this.fresh(kind);
      this.#journal.trying(version);
      this.log.push({ insert: version }); // its key is taken from here on; a COPY that fails ends the transaction
      lines.push(valuesOf(version).map(copyText).join('\t'));
    }
    const stream = this.client.query(copyFrom(`COPY ${kind.name} (${columnsOf(kind)}) FROM STDIN`));
    const done = once(stream, 'finish');
    stream.end(`${lines.join('\n')}\n`);
    await done;
    this.#count('copied', count);
  }

  /** INSERT … ON CONFLICT of a key that is there, unless the pruner has just taken it. */
  async #upsert(row: Version): Promise<void> {
    const version: Version = { ...this.fresh(row.kind), key: row.key };
    this.#journal.trying(version);
    const values = valuesOf(version);
    const { kind } = row;
    const { rows } = await this.client.query<{ fresh: boolean }>(
      `INSERT INTO ${kind.name} (${columnsOf(kind)}) VALUES (${values.map((_, i) => `$${i + 1}`).join(', ')})
       ON CONFLICT (${kind.conflict}) DO UPDATE SET at = EXCLUDED.at, ver = EXCLUDED.ver, big = EXCLUDED.big, n = EXCLUDED.n RETURNING xmax = 0 AS fresh`,
      values,
    );
    if (rows[0]?.fresh === true) this.missed(row);
    else this.log.push({ end: row, as: 'superseded' });
    this.log.push({ insert: version });
    this.#count('upserts');
  }

  async #update(row: Version, change: Partial<Pick<Version, 'key' | 'at' | 'big' | 'n'>>): Promise<void> {
    const next: Version = { ...this.version(row.kind, row), ...change, ver: row.kind.keyless ? row.ver : this.#journal.name('v') };
    this.#journal.trying(next);
    const columns = {
      ver: next.ver,
      ...(change.n === undefined ? {} : { n: String(next.n) }),
      ...(change.big === undefined ? {} : { big: next.big }),
      ...(change.at === undefined ? {} : { at: atSql(next.at) }),
    };
    const sets: [string, unknown][] = [
      ...Object.entries(columns),
      ...(change.key === undefined ? [] : row.kind.key.map((name, i): [string, unknown] => [name, next.key[i]])),
    ];
    const where = whereOf(row, sets.length);
    const done = await this.client.query(`UPDATE ${row.kind.name} SET ${sets.map(([name], i) => `${name} = $${i + 1}`).join(', ')} WHERE ${where.sql}`, [
      ...sets.map(([, value]) => value),
      ...where.values,
    ]);
    if (done.rowCount !== 1) return this.missed(row);
    this.log.push({ end: row, as: 'superseded' }, { insert: next });
    this.#count('updates');
  }

  async #remove(row: Version): Promise<boolean> {
    const where = whereOf(row, 0);
    const done = await this.client.query(`DELETE FROM ${row.kind.name} WHERE ${where.sql}`, [...where.values]);
    if (done.rowCount !== 1) {
      this.missed(row);
      return false;
    }
    this.log.push({ end: row, as: 'deleted' });
    this.#count('deletes');
    return true;
  }

  /** The pruner took it: only what is committed can be gone. */
  missed(row: Version): void {
    if (row.kind.keyless || row.by === undefined) throw new Error(`a row of ${row.kind.name} is not there: ${row.ver}`);
    this.#journal.pruned(row);
    this.#count('pruned before it was changed');
  }
}

const columnsOf = (kind: Kind): string => `${kind.key.join(', ')}, at, ver, big, n`;

function valuesOf({ key, at, ver, big, n }: Version): (string | null)[] {
  return [...key, atSql(at), ver, big, String(n)];
}

function copyText(value: string | null): string {
  return value === null ? '\\N' : value.replace(/[\\\t\n\r]/g, (found) => ({ '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' })[found] as string);
}

/** Of two equal rows of a table without a key any one. */
function whereOf(row: Version, from: number): { sql: string; values: unknown[] } {
  if (!row.kind.keyless) return { sql: `ver = $${from + 1}`, values: [row.ver] };
  const values = [row.key[0], atSql(row.at), row.ver, row.big, String(row.n)];
  const equal = ['id', 'at', 'ver', 'big', 'n'].map((name, i) => `${name} IS NOT DISTINCT FROM $${from + 1 + i}`).join(' AND ');
  return { sql: `ctid = (SELECT ctid FROM ${row.kind.name} WHERE ${equal} LIMIT 1)`, values };
}

/** Microseconds since 1970 as a timestamp that Postgres reads. */
export function atSql(at: string): string | null {
  if (at === 'null') return null;
  if (at === 'infinity') return at;
  const micros = BigInt(at);
  const second = new Date(Number(micros / 1_000_000n) * 1000).toISOString().slice(0, 19);
  return `${second}.${String(micros % 1_000_000n).padStart(6, '0')}Z`;
}
