/** Random SQL of DuckDB over tables, with the values that are in them and those beside. Results have no order that counts, and nothing that two engines of one kind could make differently. */
import { identifier, literal } from '../../src/segment/sql.js';
import type { Random } from '../campaign/chance.js';

/** A table. `place`: SQL of its name with its schema. */
export type Known = { readonly place: string; readonly timestamp: string; readonly columns: readonly KnownColumn[] };
/** `samples`: texts of values in it. */
export type KnownColumn = { readonly name: string; readonly type: string; readonly samples: readonly string[] };

const TIMES = ['DATE', 'TIMESTAMP', 'TIMESTAMP WITH TIME ZONE'];
const NUMBERS = /^(SMALLINT|INTEGER|BIGINT|DECIMAL.*|FLOAT|DOUBLE)$/;
const EXACT = /^(SMALLINT|INTEGER|BIGINT|DECIMAL.*)$/;

export class Sql {
  readonly #random: Random;
  readonly #tables: readonly Known[];

  constructor(random: Random, tables: readonly Known[]) {
    this.#random = random;
    this.#tables = tables;
  }

  /** With its schema or, of `public`, without, in one case or another. */
  #name({ place }: Known): string {
    const cased = this.#random.chance(0.1) && /^[\x20-\x7e]*$/.test(place) ? place.toUpperCase() : place;
    const [, name] = /^"main"\.(.*)$/is.exec(cased) ?? [];
    if (name === undefined || this.#random.chance(0.2)) return cased;
    return /^"[a-z]{1,6}x"$/i.test(name) ? name.slice(1, -1) : name;
  }

  #ref(alias: string, { name }: { readonly name: string }): string {
    return `${alias}.${identifier(/^[\x20-\x7e]*$/.test(name) && this.#random.chance(0.1) ? name.toUpperCase() : name)}`;
  }

  /** A moment in or near the column. */
  #moment(column: KnownColumn): string {
    const random = this.#random;
    const base = column.samples.length > 0 && random.chance(0.85) ? random.pick(column.samples) : '2026-01-12 10:00:00';
    const [day = '', clock = '00:00:00'] = base.replace(/\+00$/, '').split(' ');
    const text = random.pick([base, day, `${day} 00:00:00`, `${day} 23:59:59.999999`, `${day} ${clock}`, `${day} 12:00`, `${day} 00:00:00.000001`]);
    const zone = random.pick(['', '', '', '+00', '+02', '-05:30']);
    const named = random.pick([
      () => literal(text),
      () => literal(text.includes(' ') && column.type.endsWith('ZONE') && !text.endsWith('+00') ? `${text}${zone}` : text),
      () => `TIMESTAMP ${literal(text.replace(/\+00$/, ''))}`,
      () => `TIMESTAMPTZ ${literal(text.endsWith('+00') || !text.includes(' ') ? text : `${text}${zone}`)}`,
      () => `DATE ${literal(day)}`,
      () => `(DATE ${literal(day)} + INTERVAL ${random.below(3)} DAY)`,
      () => `(TIMESTAMP ${literal(text.replace(/\+00$/, ''))} - INTERVAL 1 MICROSECOND)`,
      () => `(now() - INTERVAL ${random.below(8)} DAY)::${random.pick(['DATE', 'TIMESTAMP'])}`,
      () => `(current_date - ${random.below(8)})`,
      () => `make_timestamp(2026, 11, ${1 + random.below(28)}, 0, 0, 0)`,
      () => literal(random.pick(['infinity', '-infinity', 'epoch', '9999-12-31', '0001-01-01', '10000-01-01', '0044-03-15 (BC)', '1969-12-31'])),
    ]);
    return named();
  }

  #time(ref: string, column: KnownColumn): string {
    const random = this.#random;
    const op = (): string => random.pick(['=', '<', '<=', '>', '>=', '<>']);
    const moment = (): string => this.#moment(column);
    const day = (): string => `DATE ${literal((column.samples.length > 0 ? random.pick(column.samples) : '2026-01-12').slice(0, 10))}`;
    return random.pick([
      () => `${ref} ${op()} ${moment()}`,
      () => `${ref} ${op()} ${moment()}`,
      () => `${moment()} ${op()} ${ref}`,
      () => `${ref} >= ${moment()} AND ${ref} < ${moment()}`,
      () => `${ref} > ${moment()} AND ${ref} <= ${moment()}`,
      () => `${ref} BETWEEN ${moment()} AND ${moment()}`,
      () => `${ref} NOT BETWEEN ${moment()} AND ${moment()}`,
      () => `${ref} IN (${moment()}, ${moment()}, ${moment()})`,
      () => `${ref} IN (${day()})`,
      () => `${ref} NOT IN (${moment()}, ${moment()})`,
      () => `${ref} IS ${random.pick(['', 'NOT '])}NULL`,
      () => `${ref} IS ${random.pick(['', 'NOT '])}DISTINCT FROM ${moment()}`,
      () => `${ref}::DATE ${op()} ${day()}`,
      () => `${ref}::DATE IN (${day()}, ${day()})`,
      () => `${ref}::DATE BETWEEN ${day()} AND ${day()}`,
      () => `date_trunc(${literal(random.pick(['hour', 'day', 'week', 'month', 'year']))}, ${ref}) ${op()} ${moment()}`,
      () => `CAST(${ref} AS ${random.pick(['TIMESTAMP', 'TIMESTAMPTZ', 'DATE'])}) ${op()} ${moment()}`,
      () => `TRY_CAST(${ref}::VARCHAR AS ${random.pick(['TIMESTAMP', 'DATE'])}) ${op()} ${moment()}`,
      () => `year(${ref}) ${op()} 2026`,
      () => `extract(day FROM ${ref}) ${op()} ${random.below(28)}`,
      () => `${ref} + INTERVAL 1 DAY ${op()} ${moment()}`,
      () => `strftime(${ref}, '%Y-%m-%d') ${op()} ${literal(random.pick(['2026-11-20', '2026-11-25']))}`,
      () => `${ref}::VARCHAR LIKE ${literal(random.pick(['2026%', '%-2_ %', '%00']))}`,
      () => `coalesce(${ref}, ${moment()}) ${op()} ${moment()}`,
      () => `greatest(${ref}, ${moment()}) ${op()} ${moment()}`,
      () => `CASE WHEN ${ref} > ${moment()} THEN ${ref} END ${op()} ${moment()}`,
      () => `${ref} AT TIME ZONE 'America/New_York' ${op()} ${moment()}`,
      () => `epoch_us(${ref}) % 1000000 ${op()} 0`,
      () => `isfinite(${ref})`,
    ])();
  }

  #other(ref: string, { type, samples }: KnownColumn): string {
    const random = this.#random;
    const op = (): string => random.pick(['=', '<', '<=', '>', '>=', '<>']);
    const sample = (): string => literal(samples.length > 0 ? random.pick(samples) : 'x');
    const typed = (): string => `TRY_CAST(${sample()} AS ${type})`;
    const ways = [
      () => `${ref} IS ${random.pick(['', 'NOT '])}NULL`,
      () => `${ref} ${op()} ${typed()}`,
      () => `${ref} IN (${typed()}, ${typed()})`,
      () => `${ref} IS NOT DISTINCT FROM ${typed()}`,
    ];
    if (NUMBERS.test(type))
      ways.push(
        () => `${ref} ${op()} ${random.pick(['0', '1', '17.5', '-3', '1e6', '9007199254740993'])}`,
        () => `abs(${ref}::DOUBLE) ${op()} 100`,
        () => `${ref}::VARCHAR LIKE '%1%'`,
        () => `${ref} BETWEEN ${random.below(50)} AND ${random.below(200)}`,
      );
    if (type === 'VARCHAR')
      ways.push(
        () => `${ref} LIKE ${random.pick([`'%a%'`, `'_%'`, `''`, `'%1'`, `'%\\%%' ESCAPE '\\'`])}`,
        () => `${ref} ILIKE '%E%'`,
        () => `length(${ref}) ${op()} ${random.below(8)}`,
        () => `upper(${ref}) ${op()} ${sample()}`,
        () => `starts_with(${ref}, 'a')`,
        () => `${ref} ${op()} ${sample()}`,
        () => `TRY_CAST(${ref} AS INTEGER) ${op()} 5`,
        () => `regexp_matches(${ref}, '^[0-9a-f]+$')`,
      );
    if (type === 'BOOLEAN')
      ways.push(
        () => ref,
        () => `NOT ${ref}`,
        () => `${ref} IS NOT TRUE`,
      );
    if (type === 'BLOB') ways.push(() => `octet_length(${ref}) ${op()} 3`);
    if (type.endsWith('[]'))
      ways.push(
        () => `len(${ref}) ${op()} 2`,
        () => `${ref}[1] IS NULL`,
        () => `list_distinct(${ref}) = ${ref}`,
      );
    return random.pick(ways)();
  }

  predicate(alias: string, table: Known, depth = 2): string {
    const random = this.#random;
    if (depth > 0 && random.chance(0.45)) {
      const [a, b] = [this.predicate(alias, table, depth - 1), this.predicate(alias, table, depth - 1)];
      return random.pick([`(${a} AND ${b})`, `(${a} AND ${b})`, `(${a} OR ${b})`, `NOT (${a})`, `(${a} AND NOT (${b}))`]);
    }
    const column = random.chance(0.6) ? table.columns.find(({ name }) => name.toLowerCase() === table.timestamp.toLowerCase()) : undefined;
    const chosen = column ?? random.pick(table.columns);
    const ref = this.#ref(alias, chosen);
    return TIMES.includes(chosen.type) ? this.#time(ref, chosen) : this.#other(ref, chosen);
  }

  #where(alias: string, table: Known): string {
    return this.#random.chance(0.85) ? ` WHERE ${this.predicate(alias, table)}` : '';
  }

  #columns({ columns }: Known, most = 4): KnownColumn[] {
    return Array.from({ length: 1 + this.#random.below(most) }, () => this.#random.pick(columns));
  }

  #list(alias: string, table: Known): string {
    if (this.#random.chance(0.25)) return `${alias}.*`;
    return this.#columns(table)
      .map((column, i) => `${this.#value(this.#ref(alias, column), column)} AS o${i}`)
      .join(', ');
  }

  /** A column, or something made of it. */
  #value(ref: string, { type }: KnownColumn): string {
    const random = this.#random;
    if (random.chance(0.65)) return ref;
    if (TIMES.includes(type))
      return random.pick([`${ref}::DATE`, `date_trunc('day', ${ref})`, `${ref} + INTERVAL 1 HOUR`, `epoch_us(${ref})`, `${ref}::VARCHAR`, `dayofweek(${ref})`]);
    if (EXACT.test(type)) return random.pick([`${ref}::VARCHAR`, `${ref}::DOUBLE`, `${ref} IS NULL`, `hash(${ref})`]);
    if (type === 'VARCHAR') return random.pick([`length(${ref})`, `upper(${ref})`, `md5(${ref})`, `${ref} || 'x'`, `substr(${ref}, 2, 3)`]);
    return random.pick([`${ref}::VARCHAR`, `${ref} IS NULL`, `typeof(${ref})`]);
  }

  #aggregates(alias: string, table: Known): string {
    return this.#columns(table, 3)
      .map((column, i) => {
        const ref = this.#ref(alias, column);
        const ways = [
          `count(*)`,
          `count(${ref})`,
          `count(DISTINCT ${ref})`,
          `min(${ref})`,
          `max(${ref})`,
          `count(*) FILTER (${this.predicate(alias, table, 0)})`,
          `list_sort(list(${ref}::VARCHAR))`,
        ];
        if (EXACT.test(column.type)) ways.push(`sum(${ref}::DECIMAL(38,2))`, `bit_xor(hash(${ref}))`);
        if (column.type === 'VARCHAR') ways.push(`string_agg(${ref}, '|' ORDER BY ${ref})`);
        return `${this.#random.pick(ways)} AS g${i}`;
      })
      .join(', ');
  }

  /** One statement. Its result is to be compared as a multiset. */
  statement(): string {
    const random = this.#random;
    const [a, b] = [random.pick(this.#tables), random.pick(this.#tables)];
    const key = (alias: string, { columns }: Known): string => this.#ref(alias, columns.find(({ type }) => type === 'BIGINT') ?? (columns[0] as KnownColumn));
    const joined = (x: string, y: string): string =>
      random.pick([
        `${key(x, a)}::VARCHAR = ${key(y, b)}::VARCHAR`,
        `${this.#ref(x, { name: a.timestamp })}::VARCHAR[:10] = ${this.#ref(y, { name: b.timestamp })}::VARCHAR[:10] AND ${key(x, a)}::VARCHAR = ${key(y, b)}::VARCHAR`,
      ]);
    const at = this.#ref('a', { name: a.timestamp });
    const ways: (() => string)[] = [
      () => `SELECT ${this.#list('a', a)} FROM ${this.#name(a)} a${this.#where('a', a)}`,
      () => `SELECT ${this.#list('a', a)} FROM ${this.#name(a)} a${this.#where('a', a)}`,
      () => `SELECT count(*) FROM ${this.#name(a)} a${this.#where('a', a)}`,
      () => `SELECT ${this.#aggregates('a', a)} FROM ${this.#name(a)} a${this.#where('a', a)}`,
      () => `SELECT DISTINCT ${this.#list('a', a)} FROM ${this.#name(a)} a${this.#where('a', a)}`,
      () =>
        `SELECT ${this.#columns(a, 3)
          .map((column, i) => `${this.#ref('a', column)} AS o${i}`)
          .join(
            ', ',
          )} FROM ${this.#name(a)} a${this.#where('a', a)} ORDER BY ALL ${random.pick(['', 'DESC '])}LIMIT ${1 + random.below(20)} OFFSET ${random.below(4)}`,
      () =>
        `SELECT ${at}::DATE AS d, ${this.#aggregates('a', a)} FROM ${this.#name(a)} a${this.#where('a', a)} GROUP BY d ${random.pick(['', 'HAVING count(*) > 2'])}`,
      () =>
        `SELECT ${this.#list('a', a)}, count(*) OVER (PARTITION BY ${at}::DATE) AS w FROM ${this.#name(a)} a${this.#where('a', a)} QUALIFY w > ${random.below(4)}`,
      () =>
        `SELECT ${this.#columns(a, 2).map((column, i) => `${this.#ref('a', column)} AS o${i}`)}, ${this.#columns(b, 2).map((column, i) => `${this.#ref('b', column)} AS p${i}`)} FROM ${this.#name(a)} a ${random.pick(['JOIN', 'LEFT JOIN', 'FULL JOIN', 'RIGHT JOIN'])} ${this.#name(b)} b ON ${joined('a', 'b')}${random.chance(0.4) ? ` AND ${this.predicate('b', b, 1)}` : ''}${random.chance(0.5) ? this.#where('a', a) : this.#where('b', b)}`,
      () =>
        `SELECT ${this.#list('a', a)} FROM ${this.#name(a)} a ${random.pick(['SEMI', 'ANTI'])} JOIN ${this.#name(b)} b ON ${joined('a', 'b')}${this.#where('a', a)}`,
      () =>
        `SELECT ${this.#list('a', a)} FROM ${this.#name(a)} a WHERE ${random.pick(['', 'NOT '])}EXISTS (SELECT 1 FROM ${this.#name(b)} b WHERE ${joined('a', 'b')} AND ${this.predicate('b', b, 1)})${random.chance(0.5) ? ` AND ${this.predicate('a', a, 1)}` : ''}`,
      () =>
        `SELECT ${this.#list('a', a)} FROM ${this.#name(a)} a WHERE ${key('a', a)}::VARCHAR ${random.pick(['', 'NOT '])}IN (SELECT ${key('b', b)}::VARCHAR FROM ${this.#name(b)} b${this.#where('b', b)})`,
      () =>
        `SELECT ${key('a', a)}, (SELECT count(*) FROM ${this.#name(b)} b WHERE ${joined('a', 'b')}${random.chance(0.5) ? ` AND ${this.predicate('b', b, 1)}` : ''}) AS n FROM ${this.#name(a)} a${this.#where('a', a)}`,
      () =>
        `SELECT ${key('a', a)}, l.n FROM ${this.#name(a)} a, LATERAL (SELECT max(${this.#ref('b', { name: b.timestamp })}) AS n FROM ${this.#name(b)} b WHERE ${joined('a', 'b')}) l${this.#where('a', a)}`,
      () =>
        `WITH x AS ${random.pick(['', 'MATERIALIZED ', 'NOT MATERIALIZED '])}(SELECT * FROM ${this.#name(a)} a${this.#where('a', a)}) SELECT count(*), (SELECT count(*) FROM x y WHERE ${this.predicate('y', a, 1)}) FROM x WHERE ${this.predicate('x', a, 1)}`,
      () =>
        `SELECT ${key('a', a)}::VARCHAR AS k FROM ${this.#name(a)} a${this.#where('a', a)} ${random.pick(['UNION ALL', 'UNION', 'EXCEPT', 'EXCEPT ALL', 'INTERSECT', 'INTERSECT ALL'])} SELECT ${key('b', b)}::VARCHAR FROM ${this.#name(b)} b${this.#where('b', b)}`,
      () =>
        `SELECT ${at} FROM ${this.#name(a)} a WHERE ${at} ${random.pick(['=', '>=', '<'])} (SELECT ${random.pick(['max', 'min', 'median'])}(${this.#ref('y', { name: a.timestamp })}) FROM ${this.#name(a)} y WHERE ${this.predicate('y', a, 1)})`,
      () => `FROM ${this.#name(a)} a${this.#where('a', a)}`,
      () =>
        `WITH RECURSIVE r(n, at) AS (SELECT 0, min(${at}) FROM ${this.#name(a)} a${this.#where('a', a)} UNION ALL SELECT n + 1, (SELECT min(${at}) FROM ${this.#name(a)} a WHERE ${at} > r.at AND ${this.predicate('a', a, 0)}) FROM r WHERE n < 4) SELECT * FROM r`,
      () => `SELECT DISTINCT ON (d) ${at}::DATE AS d, max(${at}) OVER (PARTITION BY ${at}::DATE) AS m FROM ${this.#name(a)} a${this.#where('a', a)}`,
      () => `SELECT ${this.#list('x', a)} FROM (SELECT * FROM ${this.#name(a)} a${this.#where('a', a)}) x WHERE ${this.predicate('x', a, 1)}`,
      () =>
        `SELECT count(*), count(DISTINCT ${at}::DATE) FROM ${this.#name(a)} a, ${this.#name(b)} b WHERE ${this.predicate('a', a, 1)} AND ${this.predicate('b', b, 1)}`,
    ];
    return random.pick(ways)();
  }
}
