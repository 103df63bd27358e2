/** What a statement reads, taken from its plan, and what is no statement of a query: without any server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine } from '../../src/query/engine.js';
import { Planner } from '../../src/query/planner.js';
import { dayMatches, type Range, type Reading, rangeOf, readings } from '../../src/query/reading.js';
import { explained, splitStatements } from '../../src/query/statements.js';
import { type Form, placed, type QueriedTable, Shape } from '../../src/query/table.js';
import { describeError } from '../../src/runtime/errors.js';

const column = (name: string, typeOid: number): Form['columns'][number] => ({ name, typeOid, typmod: -1, key: false });
const FORM: Form = { columns: [column('id', 20), column('timestamp', 1114), column('token', 25), column('price', 701)], types: {}, key: ['id'] };
const [prices, other] = placed([
  { key: 'prices', schema: 'public', table: 'prices', timestamp: 'timestamp', deletes: 'history' },
  { key: 'a.prices', schema: 'a', table: 'prices', timestamp: 'timestamp', deletes: 'history' },
]) as [QueriedTable, QueriedTable];
const signal = new AbortController().signal;

async function read(sql: string): Promise<ReadonlyMap<QueriedTable, Reading>> {
  using planner = await Planner.open(signal);
  await planner.checkSyntax(sql);
  const shapes = new Map([prices, other].map((table) => [table, new Shape(table, [FORM])]));
  return (await planner.plan(sql, shapes, ['prices', 'a.prices'])).readings;
}
const of = async (sql: string): Promise<{ columns: string[]; range: Range } | undefined> => {
  const reading = (await read(sql)).get(prices);
  return reading === undefined ? undefined : { columns: [...reading.columns].sort(), range: reading.range };
};

test('columns and range are those that the plan needs', async () => {
  assert.deepEqual(await of('SELECT count(*) FROM prices'), { columns: [], range: { from: undefined, to: undefined } });
  assert.deepEqual(await of(`SELECT id FROM prices WHERE "timestamp" >= '2026-01-12' AND "timestamp" < '2026-01-15' AND token = 'SOL'`), {
    columns: ['id', 'timestamp', 'token'],
    range: { from: '2026-01-12 00:00:00', to: '2026-01-14 23:59:59.999999' },
  });
  assert.deepEqual((await of(`SELECT id FROM prices WHERE "timestamp"::date = '2026-01-12'`))?.range, {
    from: '2026-01-12 00:00:00',
    to: '2026-01-12 23:59:59.999999',
  });
  assert.deepEqual((await of(`SELECT * FROM prices WHERE "timestamp" > '2026-01-12 10:00' ORDER BY "timestamp" DESC LIMIT 3`))?.range, {
    from: '2026-01-12 10:00:00',
    to: undefined,
  });
  assert.deepEqual((await of(`WITH p AS (SELECT * FROM prices) SELECT count(*) FROM p WHERE "timestamp" = '2026-01-12'`))?.range, {
    from: '2026-01-12 00:00:00',
    to: '2026-01-12 00:00:00',
  });
  assert.equal(await of('SELECT 1'), undefined);
  assert.equal((await read('SELECT id FROM a.prices')).has(prices), false);
});

test('two readings of a table are united, and what is not a plain range reads everything', async () => {
  const all = { from: undefined, to: undefined };
  const day = (from: string): string => `SELECT id FROM prices WHERE "timestamp" BETWEEN '${from}' AND '${from} 12:00'`;
  assert.deepEqual((await of(`${day('2026-01-12')} UNION ALL ${day('2026-01-20')}`))?.range, { from: '2026-01-12 00:00:00', to: '2026-01-20 12:00:00' });
  assert.deepEqual((await of(`${day('2026-01-12')} UNION ALL SELECT id FROM prices`))?.range, all);
  for (const condition of [
    `"timestamp" < '2026-01-01' OR "timestamp" > '2026-02-01'`,
    `"timestamp" IS NULL`,
    `NOT ("timestamp" < '2026-01-01') IS TRUE`,
    `token = '"timestamp">=''2026-01-01 00:00:00''::TIMESTAMP'`,
    `token > 'timestamp>=' AND token < 'timestamp>=''2026-01-01 00:00:00''::TIMESTAMP AND'`,
    `year("timestamp") = 2026`,
    `"timestamp" < 'infinity'`,
  ])
    assert.deepEqual((await of(`SELECT id FROM prices WHERE ${condition}`))?.range, all, condition);
});

test('a table and columns of any names are read as others are', async () => {
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
  const names = [
    'types',
    'order',
    'comments',
    'user',
    'a b',
    'a.b',
    'order-book',
    '1st',
    'été',
    'UPPER',
    `it's`,
    'a"b',
    'a,b',
    'line\nbreak',
    'c0',
    'scan_0',
    ' AND ',
    '>=',
  ];
  for (const name of names) {
    const form: Form = { columns: [column(name, 1114), column(`${name} 2`, 25), column('plain', 23)], types: {}, key: [] };
    for (const schema of ['public', 'order', 'my app']) {
      const [table] = placed([{ key: name, schema, table: name, timestamp: name, deletes: 'history' }]) as [QueriedTable];
      using planner = await Planner.open(signal);
      const sql = `SELECT ${quoted(`${name} 2`)} FROM ${schema === 'public' ? '' : `${quoted(schema)}.`}${quoted(name)} WHERE ${quoted(name)} >= '2026-01-12'`;
      const reading = (await planner.plan(sql, new Map([[table, new Shape(table, [form])]]), [])).readings.get(table);
      assert.deepEqual([...(reading?.columns ?? [])].toSorted(), [name, `${name} 2`].toSorted(), sql);
      assert.deepEqual(reading?.range, { from: '2026-01-12 00:00:00', to: undefined }, sql);
    }
  }
});

test('a plan that reads a table that is not known is refused, not taken for one of no rows', () => {
  const plan = JSON.stringify([{ name: 'SEQ_SCAN', extra_info: { Table: 'memory.main."types"' } }]);
  assert.throws(() => readings(plan, 'SELECT 1', []), /reads a table that is not known/);
});

test('a range that follows the clock has a day more on each side', async () => {
  const found = await of(`SELECT id FROM prices WHERE "timestamp" > TIMESTAMP '2026-01-12' AND "timestamp" < now()::timestamp`);
  assert.equal(found?.range.from, '2026-01-11');
  assert.equal((found?.range.to ?? '') > new Date(Date.now() + 86_400_000).toISOString().slice(0, 10), true);
});

test('a range at the ends of the calendar leaves nothing out and is one that Postgres can read', async () => {
  const where = async (condition: string): Promise<Range | undefined> => (await of(`SELECT id FROM prices WHERE ${condition}`))?.range;
  const clock = await where(`"timestamp" BETWEEN now()::timestamp - INTERVAL 7 DAY AND '9999-12-31'`);
  assert.equal(clock?.to, undefined);
  assert.match(clock?.from ?? '', /^2\d{3}-/);
  assert.deepEqual(await where(`"timestamp" >= '0001-01-01' AND "timestamp" < ago(INTERVAL 1 DAY)::timestamp`), {
    from: undefined,
    to: new Date(Date.now() + 86_400_000).toISOString().slice(0, 10),
  });
  assert.deepEqual(await where(`"timestamp" < '0001-01-01'`), { from: undefined, to: '0001-01-01 00:00:00' });
});

test('a filter counts only when it begins with the column and compares with a plain time', () => {
  const all = { from: undefined, to: undefined };
  assert.deepEqual(rangeOf(`at>='2026-01-12'::DATE AND at!='2026-01-13'::DATE AND at<'2026-02-01'::DATE`, 'at'), { from: '2026-01-12', to: '2026-01-31' });
  assert.deepEqual(rangeOf(`at!='2026-01-13'::DATE AND at<='2026-01-20'::DATE`, 'at'), { from: undefined, to: '2026-01-20' });
  for (const filter of [
    `at2>='2026-01-12'::DATE`,
    `optional: at>='2026-01-12'::DATE`,
    `at>='2026-01-12'::DATE OR at<'2020-01-01'::DATE`,
    `at>=5`,
    `at>='0044-03-15 (BC)'::DATE`,
  ])
    assert.deepEqual(rangeOf(filter, 'at'), all, filter);
});

test('a column that had several types has one that holds all its values', async () => {
  const older: Form = {
    columns: [column('ID', 23), column('timestamp', 1082), column('token', 23), column('price', 1700), column('lost', 16)],
    types: {},
    key: ['ID'],
  };
  using engine = await Engine.open({ memory: 64 * 1024 * 1024 }, signal);
  const shape = new Shape(prices, [FORM, older]);
  assert.deepEqual(shape.columns, ['id', 'timestamp', 'token', 'price', 'lost', '_text']);
  const types = await engine.query<{ column_type: string }>(`SELECT column_type FROM (DESCRIBE ${shape.emptySql()})`);
  assert.deepEqual(types.map(({ column_type: type }) => type), ['BIGINT', 'TIMESTAMP', 'VARCHAR', 'VARCHAR', 'BOOLEAN', 'VARCHAR']); // biome-ignore format: one line
});

test('days of a range', () => {
  const range = { from: '2026-01-12 10:00:00', to: '2026-01-14 23:59:59.999999' };
  assert.deepEqual(
    ['2026-01-11', '2026-01-12', '2026-01-14', '2026-01-15', null].map((day) => dayMatches(day, range)),
    [false, true, true, false, false],
  );
  assert.equal(dayMatches(null, { from: undefined, to: undefined }), true);
});

test('text is cut at the semicolons that end statements', () => {
  const { statements, rest, blank } = splitStatements(`SELECT ';', "a;""b"; -- ; no\nSELECT $$;$$, $x$ ; $$ $x$ /* ; */;;\n SELECT 'open ; `);
  assert.deepEqual(statements, [`SELECT ';', "a;""b"`, `-- ; no\nSELECT $$;$$, $x$ ; $$ $x$ /* ; */`]);
  assert.equal(rest, `\n SELECT 'open ; `);
  assert.equal(blank, false);
  assert.deepEqual(splitStatements('  -- nothing\n /* ; */ ;'), { statements: [], rest: '', blank: true });
  assert.deepEqual(splitStatements(`SELECT E'a\\';b', date'2026-01-12\\' /* a /* b */ ; */; SELECT 2;`).statements, [
    `SELECT E'a\\';b', date'2026-01-12\\' /* a /* b */ ; */`,
    'SELECT 2',
  ]);
  assert.equal(explained(' /* a */ explain ANALYZE SELECT 1'), ' SELECT 1');
  assert.equal(explained('EXPLAIN (FORMAT json) SELECT 1'), ' SELECT 1');
  assert.equal(explained('SELECT 1'), undefined);
});

test('what is wrong is said in one line, with what to do', async () => {
  const wrong: [sql: string, said: RegExp][] = [
    ['SELEC 1', /^SQL: syntax error at or near "SELEC"$/],
    ['SELECT nope FROM prices', /^SQL: Referenced column "nope" not found/],
    ['SELECT *\nFROM\nnope', /^there is no table nope$/],
    ['SELECT * FROM mirror.prices', /^there is no table mirror\.prices$/],
    ['SELECT 1; SELECT 2', /^this is 2 statements in one$/],
    ['SELECT $1', /parameters/],
  ];
  for (const [sql, said] of wrong) {
    await assert.rejects(read(sql), (error: Error & { kind?: string }) => {
      assert.equal(error.kind, 'config', sql);
      assert.match(error.message, said);
      assert.doesNotMatch(error.message, /\n/);
      if (/^SQL: syntax error/.test(error.message)) assert.match(describeError(error), / → .* in double quotes: "at"/);
      return true;
    });
  }
});
