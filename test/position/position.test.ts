/** Positions are boundaries: their order, and how a span meets the position already reached (law 6). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Lsn, parseLsn } from '../../src/position/lsn.js';
import { boundary, comparePositions, formatPosition, maxPosition, type Position, parsePosition } from '../../src/position/position.js';
import { type Meeting, meet } from '../../src/position/span.js';

const at = (lsn: number, k = 0): Position => ({ lsn: BigInt(lsn) as Lsn, k });

test('positions are ordered by commit LSN, then by the number of changes', () => {
  const ordered = [at(0), at(10), at(10, 1), at(10, 2), at(10, 10), at(11), at(100)];
  for (const [i, a] of ordered.entries()) {
    for (const [j, b] of ordered.entries()) {
      assert.equal(Math.sign(comparePositions(a, b)), Math.sign(i - j), `${formatPosition(a)} and ${formatPosition(b)}`);
      assert.deepEqual(maxPosition(a, b), ordered[Math.max(i, j)]);
    }
  }
});

test('a position survives its text', () => {
  for (const position of [at(0), at(0x1924d18, 12), { lsn: parseLsn('16/B374D848'), k: 5_000_000 }, boundary(parseLsn('FFFFFFFF/FFFFFFFF'))]) {
    assert.deepEqual(parsePosition(formatPosition(position)), position);
  }
  assert.equal(formatPosition({ lsn: parseLsn('16/B374D848'), k: 12 }), '16/B374D848:12');
  for (const text of ['', ':', '0/0', '0/0:', '0/0:-1', '0/0:1.5', '0/0: 1', ':1', '0/0:99999999999999999999', '0:0/0']) {
    assert.throws(() => parsePosition(text), SyntaxError, JSON.stringify(text));
  }
});

test('the one rule of continuity', () => {
  const mine = at(100, 5);
  const cases: [prev: Position, end: Position, meeting: Meeting, why: string][] = [
    [at(100, 5), at(200), 'next', 'it starts exactly where I am'],
    [at(100, 2), at(100, 9), 'next', 'it overlaps: what lies at or before mine is dropped'],
    [at(0), at(200), 'next', 'it begins long before and reaches beyond'],
    [at(0), at(100, 5), 'duplicate', 'it ends exactly where I am'],
    [at(0), at(50), 'duplicate', 'wholly behind'],
    [at(100, 6), at(200), 'gap', 'one change is missing'],
    [at(101), at(200), 'gap', 'the rest of the transaction is missing'],
  ];
  for (const [prev, end, meeting, why] of cases) assert.equal(meet({ prev, end }, mine), meeting, why);
});

test('a fence that ends where the next commit record starts does not hide that commit', () => {
  // Both touch at 0/1924D18: the end of one record is the start of the next (protocol, positions tie).
  const fenceEnd = boundary(parseLsn('0/1924D18'));
  const next = { prev: fenceEnd, end: boundary(parseLsn('0/1924D48')) };
  assert.equal(meet(next, fenceEnd), 'next');
  assert.equal(meet({ prev: fenceEnd, end: { lsn: fenceEnd.lsn, k: 1 } }, fenceEnd), 'next', 'also its first change alone');
});

test('any cut of a run of spans is taken up again without hole or repetition', () => {
  const seed = Date.now() % 1_000_000;
  let state = seed;
  const random = (most: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state % most;
  };
  for (let round = 0; round < 200; round += 1) {
    const ends = [at(0)];
    for (let i = 0; i < 20; i += 1) {
      const last = ends.at(-1) as Position;
      ends.push(random(3) === 0 ? { lsn: last.lsn, k: last.k + 1 + random(5) } : at(Number(last.lsn) + 1 + random(50)));
    }
    let mine = ends[random(10)] as Position;
    const taken: Position[] = [];
    for (let i = 1; i < ends.length; i += 1) {
      const span = { prev: ends[i - 1] as Position, end: ends[i] as Position };
      const meeting = meet(span, mine);
      assert.notEqual(meeting, 'gap', `seed ${seed}`);
      if (meeting !== 'next') continue;
      taken.push(span.end);
      mine = span.end;
      assert.equal(meet(span, mine), 'duplicate', `seed ${seed}: the same span again`);
    }
    assert.deepEqual(mine, ends.at(-1), `seed ${seed}`);
    for (let i = 1; i < taken.length; i += 1) assert.ok(comparePositions(taken[i - 1] as Position, taken[i] as Position) < 0, `seed ${seed}`);
  }
});
