/** What to do with the slot: a table of cases from what is there (laws 3, 6, 10, 11). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLsn } from '../../src/position/lsn.js';
import { formatPosition, parsePosition } from '../../src/position/position.js';
import { decideSlot, refuseForeignSlot, type SlotFacts, slotFlaw } from '../../src/wal/slot.js';
import { type SlotHealth, slotAlarm } from '../../src/wal/slot-health.js';

const epoch = { systemId: '1', timeline: 1, generation: '00000000-0000-0000-0000-000000000001' };
const other = { ...epoch, generation: '00000000-0000-0000-0000-000000000002' };
const slot = {
  plugin: 'pgoutput',
  database: 'd',
  active: false,
  confirmed: parseLsn('0/400'),
  walStatus: 'reserved',
  invalidation: null,
  heldBytes: 0,
  safeBytes: null,
  failover: true,
};
const server = { systemId: '1', timeline: 1, inRecovery: false, insertLsn: parseLsn('0/9000') };
const complete = {
  archive: 'A',
  epoch,
  position: '0/500:0',
  fences: [
    { lsn: '0/400', end: '0/440', nonce: 'a' },
    { lsn: '0/4C0', end: '0/500', nonce: 'b' },
  ],
  copy: { generation: epoch.generation, state: 'complete' as const, consistentPoint: '0/100' },
};
const running = { ...complete, position: null, fences: [], copy: { ...complete.copy, state: 'running' as const } };
const tail = (kind: 'changes' | 'copy' | 'copy-end' | 'copy-begin', prev: string, end: string, of = epoch, whole = true) => ({
  kind,
  epoch: of,
  prev: parsePosition(prev),
  end: parsePosition(end),
  whole,
});
const next = { ...epoch, timeline: 2 };
const promoted = { ...server, timeline: 2 };
const left = (at: string) => [{ timeline: 1, until: parseLsn(at) }];
const forked = { ...complete, epoch: next, forked: { from: epoch, at: '0/460' } };
const base: SlotFacts = { database: 'd', server, slot, archived: complete, tail: tail('changes', '0/600:0', '0/700:3') };

const CASES: [what: string, change: Partial<SlotFacts>, expected: string][] = [
  ['ready: on from the tail of the stream, the slot’s fence first', {}, 'resume 0/700:3 anchored'],
  [
    'the tail is older than the slot: from the slot, nothing is claimed of what lies between',
    { tail: tail('changes', '0/200:0', '0/300:1') },
    'resume 0/400:0 anchored',
  ],
  ['the tail’s chunk is not whole: from before it', { tail: tail('changes', '0/600:0', '0/700:3', epoch, false) }, 'resume 0/600:0 anchored'],
  ['the stream was wiped: from the slot', { tail: undefined }, 'resume 0/400:0 anchored'],
  ['the slot still stands where it was made: no fence to wait for', { slot: { ...slot, confirmed: parseLsn('0/100') } }, 'resume 0/700:3'],
  ['the slot stands at the newest archived fence', { slot: { ...slot, confirmed: parseLsn('0/4C0') } }, 'resume 0/700:3 anchored'],
  ['beyond the newest archived fence', { slot: { ...slot, confirmed: parseLsn('0/4C1') } }, 'halt SLOT_AHEAD'],
  ['nothing archived yet, but the slot has moved', { archived: { ...complete, fences: [] } }, 'halt SLOT_AHEAD'],
  ['gone, though an archive counts on it', { slot: undefined }, 'halt SLOT_MISSING'],
  ['lost by the server', { slot: { ...slot, walStatus: 'lost' } }, 'halt SLOT_LOST'],
  ['given up for want of a reader', { slot: { ...slot, invalidation: 'idle_timeout' } }, 'halt SLOT_LOST'],
  ['another server', { server: { ...server, systemId: '2' } }, 'halt IDENTITY'],
  ['another timeline', { server: { ...server, timeline: 2 } }, 'halt TIMELINE'],
  [
    'another timeline whose history does not come from the archive’s',
    { server: promoted, history: [{ timeline: 3, until: parseLsn('0/700') }] },
    'halt TIMELINE',
  ],
  ['promoted behind everything read: on with a new epoch, the fence first', { server: promoted, history: left('0/701') }, 'resume 0/700:3 anchored fork 0/701'],
  ['promoted before the end of the stream', { server: promoted, history: left('0/700') }, 'halt TIMELINE'],
  ['promoted before W', { server: promoted, history: left('0/4FF'), tail: undefined }, 'halt TIMELINE'],
  ['promoted exactly at W, the stream gone: on from W', { server: promoted, history: left('0/500'), tail: undefined }, 'resume 0/500:0 anchored fork 0/500'],
  ['promoted, nothing archived that would prove it', { server: promoted, history: left('0/800'), archived: { ...complete, fences: [] } }, 'halt TIMELINE'],
  ['promoted, and the slot is not there', { server: promoted, history: left('0/800'), slot: undefined }, 'halt SLOT_MISSING'],
  ['promoted, and the slot is ahead', { server: promoted, history: left('0/800'), slot: { ...slot, confirmed: parseLsn('0/4C1') } }, 'halt SLOT_AHEAD'],
  [
    'promoted, a slot that stands between two fences: the later one proves it',
    { server: promoted, history: left('0/800'), slot: { ...slot, confirmed: parseLsn('0/480') } },
    'resume 0/700:3 fork 0/800',
  ],
  [
    'the switchover is in the stream, the archive not yet there: it is said once',
    { server: promoted, history: left('0/650'), tail: tail('changes', '0/600:0', '0/700:3', next) },
    'resume 0/700:3 anchored',
  ],
  ['archived on the new timeline', { server: promoted, archived: forked, tail: tail('changes', '0/600:0', '0/700:3', next) }, 'resume 0/700:3 anchored'],
  [
    'archived, but the stream lost it: said again',
    { server: promoted, archived: forked, tail: tail('changes', '0/3C0:0', '0/450:0') },
    'resume 0/500:0 anchored fork 0/460',
  ],
  [
    'archived, and the stream ends in what the old server wrote beyond',
    { server: promoted, archived: forked, tail: tail('changes', '0/3C0:0', '0/470:0') },
    'halt STREAM_GAP',
  ],
  ['the old server again, after the switchover', { archived: forked, history: [] }, 'halt TIMELINE'],
  ['the server has gone back behind W', { server: { ...server, insertLsn: parseLsn('0/4FF') } }, 'halt LSN_BACKWARD'],
  ['the server has gone back behind the stream', { server: { ...server, insertLsn: parseLsn('0/6FF') } }, 'halt LSN_BACKWARD'],
  ['the stream is of another generation', { tail: tail('changes', '0/600:0', '0/700:0', other) }, 'halt STREAM_GAP'],
  ['nothing there at all', { slot: undefined, archived: undefined, tail: undefined }, 'copy'],
  ['an archive without a copy, no slot', { slot: undefined, archived: { ...running, epoch: null, copy: null } as never }, 'copy'],
  ['a slot whose copy never began in the stream', { archived: running, tail: undefined }, 'copy drop'],
  ['a slot whose copy was broken off', { archived: running, tail: tail('copy', '0/400:5', '0/400:9') }, 'copy drop'],
  [
    'the copy is whole in the stream, the archive not yet there',
    { archived: running, slot: { ...slot, confirmed: parseLsn('0/100') }, tail: tail('copy-end', '0/100:9', '0/100:9') },
    'resume 0/100:0',
  ],
  [
    'copy and changes are in the stream, the archive not yet there',
    { archived: { ...running, epoch: null, copy: null } as never, slot: { ...slot, confirmed: parseLsn('0/100') } },
    'resume 0/700:3',
  ],
  ['the copy in the stream was made with another slot', { archived: running, tail: tail('copy-end', '0/100:9', '0/100:9') }, 'copy drop'],
  [
    'the copy in the stream is of another server',
    { archived: running, tail: tail('copy-end', '0/400:9', '0/400:9', { ...epoch, systemId: '2' }) },
    'copy drop',
  ],
  ['lost before the copy was archived', { archived: running, slot: { ...slot, walStatus: 'lost' }, tail: tail('copy-end', '0/400:9', '0/400:9') }, 'copy drop'],
];

for (const [what, change, expected] of CASES) {
  test(what, () => {
    const decision = decideSlot({ ...base, ...change });
    const shown =
      decision.act === 'halt'
        ? `halt ${decision.halt}`
        : decision.act === 'copy'
          ? `copy${decision.drop ? ' drop' : ''}`
          : `resume ${formatPosition(decision.resumeAt)}${decision.anchored ? ' anchored' : ''}${decision.fork ? ` fork ${decision.fork.at}` : ''}`;
    assert.equal(shown, expected);
    if (decision.act === 'halt') assert.ok(decision.seen && decision.safe && decision.remedy);
  });
}

test('alarms grow with what the slot holds, and name a lost slot', () => {
  const health: SlotHealth = { walStatus: 'reserved', invalidation: null, heldBytes: 100, safeBytes: 900 };
  const GB = 1024 ** 3;
  const level = (change: Partial<SlotHealth>): number => slotAlarm({ ...health, ...change }).level;
  assert.deepEqual(
    [100, 499, 500, 750, 900].map((heldBytes) => level({ heldBytes, safeBytes: 1000 - heldBytes })),
    [0, 0, 1, 2, 3],
  );
  assert.deepEqual(
    [1, 10, 50, 100].map((held) => level({ heldBytes: held * GB, safeBytes: null })),
    [0, 1, 2, 3],
  );
  assert.equal(level({ walStatus: 'extended' }), 1);
  assert.equal(level({ walStatus: 'unreserved', safeBytes: -5 }), 3);
  assert.match(slotAlarm({ ...health, walStatus: 'unreserved' }).seen, /next checkpoint/);
  assert.equal(level({ walStatus: 'lost' }), 4);
  assert.match(slotAlarm({ ...health, walStatus: 'lost', invalidation: 'idle_timeout' }).seen, /lost, idle_timeout/);
});

test('a slot of our name that is none of ours is refused, never dropped', () => {
  assert.throws(() => refuseForeignSlot('tidemark_x', { ...slot, plugin: null }, 'd'), /physical/);
  assert.throws(() => refuseForeignSlot('tidemark_x', { ...slot, plugin: 'wal2json' }, 'd'), /wal2json/);
  assert.throws(() => refuseForeignSlot('tidemark_x', { ...slot, database: 'other' }, 'd'), /database other/);
  refuseForeignSlot('tidemark_x', slot, 'd');
});

test('nothing may be deleted without the slot, or where it will not tell what was deleted', () => {
  const flaw = (change: Partial<typeof slot>): string => slotFlaw({ ...slot, ...change }, complete) ?? 'none';
  assert.equal(flaw({}), 'none');
  assert.equal(flaw({ confirmed: parseLsn('0/4C0') }), 'none');
  assert.equal(flaw({ confirmed: parseLsn('0/100') }), 'none');
  assert.match(flaw({ confirmed: parseLsn('0/4C1') }), /stands at 0\/4C1, beyond what is archived/);
  assert.equal(slotFlaw({ ...slot, confirmed: parseLsn('0/4C1') }), undefined, 'what is archived was not read');
  assert.match(flaw({ walStatus: 'lost' }), /is lost/);
  assert.match(flaw({ walStatus: 'unreserved' }), /about to be lost/);
  assert.match(slotFlaw(undefined, complete) ?? 'none', /not on this server/);
});
