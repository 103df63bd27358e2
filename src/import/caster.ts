/**
 * Has Postgres read texts as a column's type and print them, a batch in one query: the only reader of its own types. Needs no right to any table. A text that it refuses is found by halving
 * the batch. Must never pass a value on in an error: what Postgres quotes stays here.
 */
import type pg from 'pg';
import { TidemarkError } from '../runtime/errors.js';
import { OID } from '../segment/columns.js';
import { type Ask, type Carried, isAsk } from './carried.js';

/** Postgres' own limit is far away; it bounds the memory of a batch of long texts. */
const BATCH_CHARACTERS = 4 * 1024 * 1024;

type Cast = { readonly text: string | null; readonly sure: string };

export class Caster {
  readonly #client: pg.Client;
  readonly #zone: string;
  readonly #names = new Map<number, string>();

  /** `zone`: the one of what says none. */
  constructor(client: pg.Client, zone: string) {
    this.#client = client;
    this.#zone = zone;
  }

  /** Takes the questions among `values` out, in place. `typeOid`: of the column, without its domain. */
  async settle(values: Carried[], typeOid: number): Promise<void> {
    for (const as of ['value', 'naive', 'aware'] as const) {
      let batch: number[] = [];
      let size = 0;
      for (const [i, value] of values.entries()) {
        if (!isAsk(value) || value.as !== as) continue;
        if (size > BATCH_CHARACTERS) {
          await this.#ask(values, batch, typeOid, as);
          [batch, size] = [[], 0];
        }
        batch.push(i);
        size += value.ask.length;
      }
      if (batch.length > 0) await this.#ask(values, batch, typeOid, as);
    }
  }

  async #ask(values: Carried[], batch: readonly number[], typeOid: number, as: Ask['as']): Promise<void> {
    try {
      const texts = batch.map((i) => (values[i] as Ask).ask);
      const zoned = as !== 'value' && this.#isZoned(typeOid, as);
      const { rows } = await this.#client.query<Cast>(await this.#sql(typeOid, as), zoned ? [texts, this.#zone] : [texts]);
      for (const [k, i] of batch.entries()) {
        const { text, sure } = rows[k] as Cast;
        values[i] = sure === 'true' ? text : { inexact: `is a time that ${this.#zone} has twice, or not at all`, nearest: text };
      }
    } catch (error) {
      if (!/^(22|23|42|0A)/.test((error as { code?: string }).code ?? '')) throw error;
      if (batch.length === 1) {
        values[batch[0] as number] = { inexact: `is not read as ${await this.#name(typeOid)} by Postgres`, nearest: null };
        return;
      }
      const half = Math.ceil(batch.length / 2);
      await this.#ask(values, batch.slice(0, half), typeOid, as);
      await this.#ask(values, batch.slice(half), typeOid, as);
    }
  }

  #isZoned(typeOid: number, as: Ask['as']): boolean {
    return (typeOid === OID.timestamptz && as === 'naive') || (typeOid === OID.timestamp && as === 'aware');
  }

  async #sql(typeOid: number, as: Ask['as']): Promise<string> {
    const from = 'FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS t(v, i) ORDER BY t.i';
    // format prints by the type's output function, as Postgres sends a row; a cast to text prints inet and boolean otherwise.
    if (!this.#isZoned(typeOid, as)) return `SELECT pg_catalog.format('%s', t.v::${await this.#name(typeOid)}) AS text, 'true' AS sure ${from}`;
    if (as === 'aware') return `SELECT (t.v::timestamptz AT TIME ZONE $2)::text AS text, 'true' AS sure ${from}`;
    const moment = '(t.v::timestamp AT TIME ZONE $2)';
    const local = (at: string): string => `((${at}) AT TIME ZONE $2)`;
    const hour = `interval '1 hour'`;
    return `SELECT ${moment}::text AS text, (${local(moment)} = t.v::timestamp AND ${local(`${moment} - ${hour}`)} <> t.v::timestamp AND ${local(`${moment} + ${hour}`)} <> t.v::timestamp)::text AS sure ${from}`;
  }

  async #name(typeOid: number): Promise<string> {
    let name = this.#names.get(typeOid);
    if (name === undefined) {
      // By its own name: `bit` and `character` as the grammar has them mean one digit and one letter.
      const { rows } = await this.#client.query<{ name: string }>(
        `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) AS name
           FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = $1`,
        [typeOid],
      );
      if (rows[0] === undefined)
        throw new TidemarkError('failed', `type ${typeOid} is not in this database any more`, { remedy: 'import what has it before it is dropped' });
      name = rows[0].name;
      this.#names.set(typeOid, name);
    }
    return name;
  }
}
