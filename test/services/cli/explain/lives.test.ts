/** How the versions of a row ended: every end there is, as sealing would have it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { livesOf } from '../../../../services/cli/explain/lives.js';
import type { Event, Moment, Version } from '../../../../services/cli/explain/versions.js';
import type { RowPrune } from '../../../../src/archive/row-receipts.js';

const moment = (lsn: number, ordinal = 1): Moment => ({ lsn: BigInt(lsn), ordinal: BigInt(ordinal), xid: lsn, micros: BigInt(lsn) * 1_000_000n });
const version = (op: string, lsn: number, more: Partial<Version> = {}): Version => ({
  files: [`${lsn}`], kind: 'segment', oid: 1, day: '2026-01-12', op, moment: moment(lsn), fileLsn: BigInt(lsn), digest: BigInt(lsn), unresolved: null,
  identity: new Map([['id', '7'], ['other', 'x']]), ended: undefined, ...more,
}); // biome-ignore format: one line
const event = (op: string, lsn: number, more: Partial<Event> = {}): Event => ({ op, oid: 1, moment: moment(lsn), columns: ['id'], texts: ['7'], ...more });
const whole = { columns: [], texts: [] };
const prune = (lsn: number, outcome: RowPrune['outcome'] = 'committed', xid = lsn): RowPrune => ({
  run: `run${lsn}`,
  batch: `b${lsn}`,
  xid: String(xid),
  oid: 1,
  digest: String(lsn),
  at: `2026-01-1${lsn % 10}`,
  outcome,
});
const ends = (versions: Version[], events: Event[] = [], prunes: RowPrune[] = []): (string | null)[] =>
  livesOf({ versions, events }, prunes).lives.map(({ ended }) => (ended === null ? null : [ended.by, ended.run].filter((part) => part !== null).join(' ')));

test('in open days a version ends with the next event that names it, or the next insert of its key', () => {
  assert.deepEqual(ends([version('update', 20), version('insert', 10)], [event('update', 20), event('delete', 30)]), ['update', 'delete']);
  assert.deepEqual(ends([version('insert', 10), version('insert', 20)]), ['insert', null]);
  assert.deepEqual(ends([version('insert', 10)], [event('update', 10), event('delete', 5)]), [null], 'what made it, and what was before, do not end it');
  assert.deepEqual(ends([version('insert', 10)], [event('delete', 20, { oid: 2 }), event('delete', 30, { texts: ['8'] })]), [null]);
  assert.deepEqual(ends([version('insert', 10)], [event('delete', 20, { columns: ['other'], texts: ['x'] })]), ['delete'], 'by a key that the table had');
  assert.deepEqual(ends([version('insert', 10)], [event('truncate', 20, whole)]), ['truncate']);
});

test('a table that was copied anew: the row was in the copy, or it is gone', () => {
  const copied = event('copied', 30, whole);
  assert.deepEqual(ends([version('insert', 10)], [copied]), ['unseen']);
  assert.deepEqual(ends([version('insert', 10), version('copy', 30, { moment: moment(30, 5) })], [copied]), ['copy', null]);
  assert.deepEqual(ends([version('insert', 10)], [copied, event('delete', 40)]), ['delete'], 'the copy had it: it was deleted later');
  assert.deepEqual(ends([version('insert', 10), version('insert', 40)], [copied]), ['unseen', null], 'made anew behind the copy');
  assert.deepEqual(ends([version('insert', 10)], [event('delete', 20), copied]), ['delete']);
});

test('a prune is that of the receipt with its digest and transaction; what is rolled back counts for nothing, what is left over is said', () => {
  const pruned = [version('insert', 10)];
  assert.deepEqual(ends(pruned, [event('prune', 40)], [prune(10, 'rolled-back', 39), prune(10, 'committed', 40)]), ['prune run10']);
  assert.deepEqual(ends(pruned, [event('prune', 40)], [prune(10, 'committed', 41)]), ['prune']);
  const sealed = version('insert', 10, { kind: 'daily', op: null, moment: null });
  assert.deepEqual(ends([sealed, sealed], [], [prune(10)]), ['prune run10', 'unknown']);
  assert.deepEqual(ends([sealed], [], [prune(10, 'rolled-back')]), ['unknown']);
  assert.deepEqual(livesOf({ versions: [sealed], events: [] }, [prune(10), prune(11), { ...prune(12), outcome: undefined }]).left.map(({ run }) => run), ['run11']); // biome-ignore format: one line
  const told = (by: string | null): Version => version('update', 10, { kind: 'changes', ended: { by, micros: 5n } });
  assert.deepEqual(ends([told('prune')], [], [prune(10)]), ['prune run10']);
  assert.deepEqual(ends([told('update')], [], [prune(10)]), ['update']);
});
