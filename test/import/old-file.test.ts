import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { parseOldName, sortOldFiles } from '../../src/import/old-file.js';
import { parseConfig } from '../../src/runtime/config.js';

test('names of the old script: table and day of the run', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['prices_2026-01-12.parquet', 'prices 2026-01-12'],
    ['sol_stablecoin_trades_20260112.parquet', 'sol_stablecoin_trades 2026-01-12'],
    ['prices_2026-01-12_2.parquet', 'prices 2026-01-12'],
    ['prices_2026-01-12.snappy.parquet', 'prices 2026-01-12'],
    ['prices.parquet', undefined],
    ['2026-01-12.parquet', undefined],
    ['prices_2026-01-12.csv', undefined],
  ];
  for (const [name, expected] of cases) {
    const found = parseOldName(name);
    assert.equal(found && `${found.table} ${found.run}`, expected, name);
  }
});

test('files go to their tables, oldest run first and then as they were written; tables of one name by their folder; archives are left alone', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-old-'));
  try {
    const files = ['trades/prices_2026-01-13.parquet', 'trades/prices_2026-01-12.parquet', 'trades/prices_2026-01-12_b.parquet', 'other/prices_2026-01-12.parquet', 'else/prices_2026-01-12.parquet', 'x/notes_2026-01-12.parquet', 'archive/x/notes_2026-01-12.parquet']; // biome-ignore format: a list
    for (const [i, file] of files.entries()) {
      await mkdir(path.join(dir, path.dirname(file)), { recursive: true });
      await writeFile(path.join(dir, file), '');
      await utimes(path.join(dir, file), 0, 1000 - i);
    }
    await mkdir(path.join(dir, 'archive/_tidemark'));
    const tables = 'tables: { prices: { timestamp: at, group: trades }, b.prices: { timestamp: at, group: other }, c.notes: { timestamp: at } }';
    const config = parseConfig(`source: { url: "postgres://localhost/x", name: x }\n${tables}`, { file: 'x' });
    const { byTable, others } = await sortOldFiles(dir, config.tables);
    assert.deepEqual(Object.fromEntries([...byTable].map(([{ key }, found]) => [key, found.map(({ file }) => file)])), {
      prices: ['trades/prices_2026-01-12_b.parquet', 'trades/prices_2026-01-12.parquet', 'trades/prices_2026-01-13.parquet'],
      'b.prices': ['other/prices_2026-01-12.parquet'],
      'c.notes': ['x/notes_2026-01-12.parquet'],
    });
    assert.deepEqual(others, ['else/prices_2026-01-12.parquet']);
  } finally {
    await rm(dir, { recursive: true });
  }
});
