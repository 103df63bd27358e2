/**
 * Law 13 over every type, on the oldest and the newest server: what Postgres prints goes the whole way (copied and streamed, pruned after comparison, sealed) and comes back as the same
 * text, read by two implementations; and Postgres reads that text as the same value.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { RelationColumn } from '../../src/change/relation.js';
import { ELEMENT_OID } from '../../src/segment/arrays.js';
import { segmentColumn } from '../../src/segment/columns.js';
import { DailyReader } from '../../src/segment/daily-reader.js';
import { Pipeline, until } from '../pipeline/pipeline.js';
import { TypesTable } from './types-table.js';

for (const major of [15, 18]) {
  describe(`Postgres ${major}`, () => {
    let pipeline: Pipeline;
    let table: TypesTable;

    before(async () => {
      pipeline = await Pipeline.start({ major, schema: '', tables: '  typed: { timestamp: at }' });
      table = await TypesTable.create(pipeline);
      pipeline.service('archiver');
      pipeline.service('capture');
    });
    after(async () => await pipeline?.[Symbol.asyncDispose]());

    test('every value of every type is the same text in the archive', async () => {
      await pipeline.archived(); // the copy
      await table.insertRandom(40);
      await table.insertEdges(1000);
      await table.updateAll();
      await pipeline.archived();
      const expected = await table.texts();
      const { code, stdout, stderr } = await pipeline.cli(['prune', '-c', pipeline.configFile]);
      assert.equal(code, 0, stdout + stderr);
      assert.deepEqual(await pipeline.query('SELECT id FROM typed'), [], stdout);
      const daily = await until('the day is sealed', async () =>
        [...((await pipeline.state())?.files.values() ?? [])].find((file) => file.kind === 'daily' && file.table === 'typed'),
      );
      const reader = await DailyReader.open(path.join(pipeline.archiveDir, daily.file));
      const found = new Map<string, (string | null)[]>();
      await reader.forEachRow((texts) => found.set(texts[0] as string, [...texts]));
      assert.equal(found.size, expected.size);
      for (const [id, texts] of expected) {
        for (const [i, column] of reader.columns.entries()) assert.equal((found.get(id) as (string | null)[])[i], texts.get(column), `${column} of row ${id}`);
      }
    });

    test('docs/types.md says what the code does', async () => {
      const lines = (await readFile(new URL('../../../docs/types.md', import.meta.url), 'utf8')).split('\n').filter((line) => line.startsWith('| '));
      const documented = new Map(
        lines
          .slice(2)
          .map((line) => line.slice(2, -2).split(' | '))
          .map((cells) => [cells[0], [cells[2]?.replace('TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ'), (cells[7] ?? '').trim()]]),
      );
      const daily = [...((await pipeline.state())?.files.values() ?? [])].find((file) => file.kind === 'daily' && file.table === 'typed');
      const { metadata } = await DailyReader.open(path.join(pipeline.archiveDir, daily?.file ?? ''));
      for (const { column, type } of table.cases) {
        const found = metadata.columns.find((one) => one.name === column);
        const { fileType, dailyType = fileType, beyond } = segmentColumn(found as RelationColumn, metadata);
        assert.deepEqual(documented.get(type), [dailyType.replaceAll(', ', ','), beyond], type);
      }
    });

    test('element types of the built-in arrays are those of the catalog', async () => {
      const rows = await pipeline.query<{ oid: string; element: string }>(
        `SELECT oid::text, typelem::text AS element FROM pg_catalog.pg_type WHERE typcategory = 'A' AND typdelim = ',' AND typtype = 'b' AND oid < 10000 AND typname LIKE '\\_%'`,
      );
      const catalog = new Map(rows.map(({ oid, element }) => [Number(oid), Number(element)]));
      for (const [array, element] of ELEMENT_OID) assert.equal(catalog.get(array), element, `array type ${array}`);
    });
  });
}
