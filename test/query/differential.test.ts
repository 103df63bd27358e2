/** Random SQL over random tables with a random history, against a plain DuckDB that holds the same rows. A failure names its seed: SEED=… SEEDS=… STEPS=… QUERIES=… run one again, or many. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../campaign/chance.js';
import { World } from './differential.js';
import { difference, type Oracle } from './oracle.js';
import { Sql } from './random-sql.js';

const { SEED, SEEDS, STEPS, QUERIES } = process.env;
const seeds = Array.from({ length: Number(SEEDS ?? 1) }, (_, i) => Number(SEED ?? 11001) + i);
const steps = Number(STEPS ?? 8);
const queries = Number(QUERIES ?? 8);

type Answer = { readonly rows?: (string | null)[][]; readonly error?: string };

async function answer(asked: Promise<(string | null)[][]>): Promise<Answer> {
  return await asked.then(
    (rows) => ({ rows }),
    (error: Error) => ({ error: error.message.split('\n')[0] as string }),
  );
}

/** Asks both. An error of both is none: the statement was none. */
async function wrongness(world: World, oracle: Oracle, sql: string, sides: 'both' | 'cold'): Promise<string | undefined> {
  const [right, given] = [await answer(oracle.rows(sql)), await answer(world.rows(sql, sides))];
  if (right.error !== undefined && given.error !== undefined) return undefined;
  if (right.rows === undefined || given.rows === undefined) return `${sides} ${sql}\n   ${right.error ?? 'no error'} is right, given ${given.error ?? 'rows'}`;
  return difference(`${sides} ${sql}`, right.rows, given.rows, /ORDER BY ALL (DESC )?LIMIT/.test(sql));
}

/** Asks at one moment of the history. */
async function ask(world: World, random: Random): Promise<string[]> {
  const shapes = await world.shapes();
  const alone = world.archived && world.knowsDefaults && (await world.shapes('cold').catch(() => '')) === shapes;
  const { oracle, known } = await world.oracle();
  using _ = oracle;
  const sql = new Sql(random, known);
  const statements = [...known.map(({ place }) => `FROM ${place}`), ...Array.from({ length: queries }, () => sql.statement())];
  const wrong: string[] = [];
  for (const statement of statements) {
    world.counts['asked'] = (world.counts['asked'] ?? 0) + 1;
    const found = await wrongness(world, oracle, statement, alone && random.chance(0.4) ? 'cold' : 'both');
    if (found !== undefined) wrong.push(found);
  }
  // What came into the archive meanwhile may have brought a column.
  return (await world.shapes()) === shapes ? wrong : [];
}

for (const seed of seeds)
  test(`what is asked of hot and cold rows is what plain DuckDB says of the same rows (SEED=${seed} STEPS=${steps} QUERIES=${queries})`, async (context) => {
    const random = new Random(seed);
    await using world = await World.start(random);
    const wrong: string[] = [];
    try {
      for (let step = 1; step <= steps && wrong.length === 0; step += 1) {
        await (step === 2 ? world.prune() : world.step());
        if (step % 2 === 0) wrong.push(...(await ask(world, random)));
      }
      if (wrong.length === 0) wrong.push(...(await world.otherReaders()));
    } catch (error) {
      wrong.push((error as Error).stack as string);
    }
    context.diagnostic(JSON.stringify({ seed, ...world.counts }));
    const lines = [...world.tables.map(({ cold, types, restored, ...table }) => JSON.stringify(table)), ...wrong.slice(0, 6), ...world.trace.slice(-30)];
    assert.equal(wrong.length, 0, `SEED=${seed}\n${lines.map((line) => line.slice(0, 3000)).join('\n')}`);
  });
