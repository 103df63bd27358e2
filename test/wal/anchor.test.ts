/** The history that is confirmed is the one that was archived: every fence comes on the connection that confirms it (law 11, protocol P3). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FENCE_PREFIX, signMessage } from '../../src/change/fence.js';
import { formatLsn, lsn } from '../../src/position/lsn.js';
import { Halt } from '../../src/runtime/errors.js';
import { AnchorCheck } from '../../src/wal/anchor.js';
import { beginMessage, commitMessage, logicalMessage } from '../change/pgoutput-writer.js';

const key = Buffer.alloc(32, 7);
const AT = 946_684_800_000_000n;
const fence = (at: bigint, nonce: string) => ({ lsn: formatLsn(lsn(at)), end: formatLsn(lsn(at + 0x30n)), nonce });
const identity = (error: unknown): boolean => error instanceof Halt && error.halt === 'IDENTITY';

/** A connection whose slot stands at the archived fence `a`, which came. */
function connection(): { anchor: AnchorCheck; commit(at: bigint, nonce?: string): void } {
  const anchor = new AnchorCheck({ key, archive: 'A', slotAt: lsn(0x400n), anchored: true, fences: [fence(0x400n, 'a')], tailBegin: undefined });
  const commit = (at: bigint, nonce?: string): void => {
    anchor.observe(beginMessage(at, 1, AT));
    if (nonce !== undefined) anchor.observe(logicalMessage(at, FENCE_PREFIX, signMessage(key, { nonce, horizon: '9', generation: 'g', archive: 'A' })));
    anchor.observe(commitMessage(at, at + 0x30n, AT));
  };
  commit(0x400n, 'a');
  assert.ok(anchor.proved);
  return { anchor, commit };
}

test('a fence that is archived later is confirmed when it has come, not before', () => {
  const { anchor, commit } = connection();
  const archived = [fence(0x400n, 'a'), fence(0x480n, 'b')];
  assert.deepEqual(anchor.sent(archived), [archived[0]]);
  commit(0x480n, 'b');
  assert.deepEqual(anchor.sent(archived), archived);
});

test('a fence that the stream brought to the archive, and this server never had, halts when its place is passed', () => {
  for (const there of [undefined, 'of another history']) {
    const { anchor, commit } = connection();
    commit(0x480n, there);
    assert.deepEqual(anchor.sent([fence(0x480n, 'b')]), [], 'more may come of it');
    commit(0x4c0n);
    assert.throws(() => anchor.sent([fence(0x480n, 'b')]), identity);
  }
});

test('fences before the slot are not sent again, and not missed', () => {
  const { anchor, commit } = connection();
  commit(0x480n);
  assert.deepEqual(anchor.sent([fence(0x300n, 'old'), fence(0x400n, 'a')]), [fence(0x400n, 'a')]);
});
