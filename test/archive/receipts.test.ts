import assert from 'node:assert/strict';
import { appendFile, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { archivePaths } from '../../src/archive/layout.js';
import { type IntentReceipt, ReceiptIndex, ReceiptWriter } from '../../src/archive/receipts.js';
import { failure, watchSyncs } from './calls.js';
import { temporaryArchive } from './folder.js';

function intent(batch: string): IntentReceipt {
  return {
    type: 'intent',
    run: 'run-1',
    batch,
    xid: '740',
    oid: 16384,
    schema: 'public',
    table: 'prices',
    rows: 2,
    keys: [['1'], ['2']],
    digests: ['-5', '7'],
    at: '2026-01-13T00:00:00.000Z',
  };
}

async function receiptFile(dir: string): Promise<string> {
  const folder = archivePaths(dir).receipts;
  return path.join(folder, (await readdir(folder))[0] as string);
}

test('an intent is found as soon as it was appended, by an index that was there before', async () => {
  await using folder = await temporaryArchive();
  const index = new ReceiptIndex(folder.dir);
  assert.equal(await index.hasIntent('a'), false);
  await new ReceiptWriter(folder.dir).append(intent('a'));
  assert.equal(await index.hasIntent('a'), true);
  assert.equal((await index.intent('a'))?.xid, '740');
});

test('unresolved: intents whose outcome is not known', async () => {
  await using folder = await temporaryArchive();
  const writer = new ReceiptWriter(folder.dir);
  await Promise.all([writer.append(intent('a')), writer.append(intent('b')), writer.append(intent('c'))]);
  await writer.append({ type: 'outcome', run: 'run-1', batch: 'a', result: 'committed', at: '2026-01-13T00:00:01.000Z' });
  await writer.append({ type: 'outcome', run: 'run-1', batch: 'c', result: 'rolled-back', at: '2026-01-13T00:00:02.000Z' });
  assert.deepEqual(
    (await new ReceiptIndex(folder.dir).unresolved()).map((head) => head.batch),
    ['b'],
  );
});

test('a line that was torn anywhere counts for nothing, and the whole one behind it does', async () => {
  await using folder = await temporaryArchive();
  await new ReceiptWriter(folder.dir).append(intent('a'));
  const file = await receiptFile(folder.dir);
  const line = (await readFile(file, 'utf8')).trimEnd();
  const torn = Array.from({ length: line.length - 1 }, (_, i) => `${line.slice(0, i + 1)}\n`).join('');
  await appendFile(file, `${torn}${line.replace('"batch":"a"', '"batch":"b"')}\n`);
  const index = new ReceiptIndex(folder.dir);
  assert.deepEqual(
    (await index.unresolved()).map(({ batch }) => batch),
    ['a', 'b'],
  );
  assert.equal(index.brokenLines, line.length - 1);
  assert.deepEqual(await index.wholeIntent('b'), intent('b'));
});

test('the first receipt of a writer makes the name of the file durable, also of one that another writer created and may not have', async () => {
  await using folder = await temporaryArchive();
  await new ReceiptWriter(folder.dir).append(intent('a'));
  const synced: string[] = [];
  using _watch = watchSyncs((file) => synced.push(path.basename(file)));
  const writer = new ReceiptWriter(folder.dir);
  await writer.append(intent('b'));
  const name = path.basename(await receiptFile(folder.dir));
  assert.deepEqual(synced, [name, 'receipts']);
  await writer.append(intent('c'));
  assert.deepEqual(synced, [name, 'receipts', name]);
});

test('F38: after a failed fsync, of the file or of its folder, a writer takes nothing more: a second fsync proves nothing', async () => {
  for (const which of [/jsonl$/, /receipts$/]) {
    await using folder = await temporaryArchive();
    const writer = new ReceiptWriter(folder.dir);
    const failing = watchSyncs((file) => {
      if (which.test(file)) throw failure('EIO');
    });
    await assert.rejects(writer.append(intent('a')), { kind: 'transient' });
    failing[Symbol.dispose]();
    await assert.rejects(writer.append(intent('b')), /an fsync of the receipts failed before/);
    await new ReceiptWriter(folder.dir).append(intent('c'));
  }
});

test('a torn last line counts for nothing and does not spoil the line after it', async () => {
  await using folder = await temporaryArchive();
  const writer = new ReceiptWriter(folder.dir);
  await writer.append(intent('a'));
  await appendFile(await receiptFile(folder.dir), JSON.stringify(intent('torn')).slice(0, 60));
  const index = new ReceiptIndex(folder.dir);
  assert.equal(await index.hasIntent('torn'), false);
  await writer.append(intent('b'));
  assert.equal(await index.hasIntent('a'), true);
  assert.equal(await index.hasIntent('b'), true);
  assert.equal(await index.hasIntent('torn'), false);
  assert.equal(index.brokenLines, 1);
  assert.equal((await readFile(await receiptFile(folder.dir), 'utf8')).split('\n').length, 4);
});

test('appends made at once keep whole lines', async () => {
  await using folder = await temporaryArchive();
  const [one, two] = [new ReceiptWriter(folder.dir), new ReceiptWriter(folder.dir)];
  await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 ? one : two).append(intent(`batch-${i}`))));
  const index = new ReceiptIndex(folder.dir);
  assert.equal((await index.batches()).length, 20);
  assert.equal(index.brokenLines, 0);
});

test('an index that several ask at once counts each line once', async () => {
  await using folder = await temporaryArchive();
  const writer = new ReceiptWriter(folder.dir);
  const run = { type: 'run' as const, dryRun: false, tables: [], at: '2026-01-13T00:00:00.000Z', finishedAt: '2026-01-13T00:00:01.000Z' };
  for (const name of ['a', 'b', 'c']) await writer.append({ ...run, run: name });
  const index = new ReceiptIndex(folder.dir);
  const [first, , second] = await Promise.all([index.runs(), index.batches(), index.runs(), index.unresolved()]);
  assert.deepEqual([first.length, second.length, (await index.runs()).length], [3, 3, 3]);
});
