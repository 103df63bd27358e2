/** How fast a run deletes, on a clock of our own: spread over its time whatever the estimate was worth, and never slower than the database fills (law 15). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { batchRows, LEAST_ROWS_PER_SECOND, Pace, spreadRate } from '../../src/prune/pace.js';

const MOST = 20_000;
const HALF_HOUR_MS = 1_800_000;
const never = new AbortController().signal;

/** A clock that only sleeping and `pass` move. */
function madeTime() {
  let now = 5000;
  return {
    now: () => now,
    async sleep(ms: number, signal: AbortSignal) {
      if (!signal.aborted) now += ms;
    },
    pass(ms: number) {
      now += ms;
    },
  };
}

type Prunable = { readonly table: string; readonly estimated: number; readonly rows: number };

/** Prunes tables, each batch taking `batchMs`. What it took, milliseconds; the fastest and the last second, rows. */
async function run(tables: readonly Prunable[], { overMs = HALF_HOUR_MS, batchMs = 5, hurryAfterMs = Number.POSITIVE_INFINITY } = {}) {
  const time = madeTime();
  const began = time.now();
  const hurry = new AbortController();
  const pace = new Pace(MOST, never, time);
  pace.spread({ overMs, expected: new Map(tables.map(({ table, estimated }) => [table, estimated])) }, hurry.signal);
  const rates: number[] = [];
  const largest = { batch: 0 };
  for (const { table, rows } of tables) {
    for (let left = rows; left > 0; ) {
      if (time.now() - began >= hurryAfterMs) hurry.abort();
      const batch = Math.min(left, pace.batch(5000));
      largest.batch = Math.max(largest.batch, batch);
      rates.push(pace.rowsPerSecond);
      time.pass(batchMs);
      await pace.after(table, batch);
      left -= batch;
    }
    pace.done(table);
  }
  return { ms: time.now() - began, rates, largest: largest.batch };
}

test('a rate takes what is left to the end of the time, within its bounds', () => {
  assert.equal(spreadRate(3_600_000, HALF_HOUR_MS, MOST), 2000);
  assert.equal(spreadRate(3_600_000, HALF_HOUR_MS / 2, MOST), 4000);
  assert.equal(spreadRate(10, HALF_HOUR_MS, MOST), LEAST_ROWS_PER_SECOND);
  assert.equal(spreadRate(1e9, HALF_HOUR_MS, MOST), MOST);
  assert.equal(spreadRate(10, 0, MOST), MOST, 'its time is over');
  assert.equal(spreadRate(10, HALF_HOUR_MS, 30), 30, 'what a person has set wins over the least');
});

test('a batch is a quarter of a second of the rate, a thousand rows at least', () => {
  assert.deepEqual([100, 2000, 8000, 20_000, 1e6].map((rate) => batchRows(rate, 5000)), [1000, 1000, 2000, 5000, 5000]); // biome-ignore format: one line
  assert.equal(batchRows(20_000, 40), 40, 'prune.batch is the most');
});

test('a right estimate: the run takes nearly all of its time, at one rate', async () => {
  const { ms, rates, largest } = await run([{ table: 'a', estimated: 4e6, rows: 4e6 }, { table: 'b', estimated: 2e6, rows: 2e6 }]); // biome-ignore format: one line
  assert.ok(ms > 0.85 * HALF_HOUR_MS && ms < HALF_HOUR_MS, `${ms}`);
  assert.ok(Math.max(...rates) < 1.25 * Math.min(...rates), `${Math.min(...rates)} to ${Math.max(...rates)}`);
  assert.ok(largest < 1200, `${largest}`);
});

test('few rows do not crawl: never below the least rate', async () => {
  const { ms } = await run([{ table: 'a', estimated: 20_000, rows: 20_000 }]);
  assert.ok(ms < (20_500 / LEAST_ROWS_PER_SECOND) * 1000, `${ms}`);
});

test('law 15: an estimate that knew nothing costs time, and no more: faster and faster, and all of the rate once the time is over', async () => {
  const { ms, rates } = await run([{ table: 'a', estimated: 0, rows: 30e6 }]);
  assert.equal(rates[0], LEAST_ROWS_PER_SECOND);
  assert.equal(rates.at(-1), MOST);
  assert.ok(ms < 2 * HALF_HOUR_MS, `${ms}: before the next run`);
  const late = await run([{ table: 'a', estimated: 0, rows: 2e6 }]);
  assert.ok(late.ms < HALF_HOUR_MS, `${late.ms}: faster before its time was over`);
});

test('what a table was expected to give and has not hurries no other', async () => {
  const { ms } = await run([{ table: 'kept', estimated: 30e6, rows: 0 }, { table: 'a', estimated: 3e6, rows: 3e6 }]); // biome-ignore format: one line
  assert.ok(ms > 0.85 * HALF_HOUR_MS, `${ms}`);
});

test('a database that is slow for a while is caught up with over the rest of the time, not at once', async () => {
  const { ms, rates } = await run([{ table: 'a', estimated: 4e6, rows: 4e6 }], { batchMs: 240 });
  assert.ok(ms < HALF_HOUR_MS, `${ms}`);
  assert.ok(Math.max(...rates) < 1.5 * (rates[0] as number), `${rates[0]} to ${Math.max(...rates)}`);
});

test('somebody waits: from that moment it goes at the full rate', async () => {
  const { ms, rates } = await run([{ table: 'a', estimated: 4e6, rows: 4e6 }], { hurryAfterMs: 60_000 });
  assert.ok(ms < 60_000 + 4e6 / (MOST / 1000), `${ms}`);
  assert.equal(rates.at(-1), MOST);
  assert.ok(ms > 60_000 + 3.7e6 / (MOST / 1000), `${ms}: and not faster`);
});

test('without a spread the average stays at what a person has set, and what was missed is caught up with for a second', async () => {
  const time = madeTime();
  const pace = new Pace(MOST, never, time);
  const began = time.now();
  for (let batch = 0; batch < 100; batch += 1) {
    time.pass(batch === 50 ? 700 : 100);
    await pace.after('a', pace.batch(5000));
  }
  assert.equal(time.now() - began, (100 * 5000) / (MOST / 1000));
});
