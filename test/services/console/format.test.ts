/** What the plots write on their axes, by itself: no two marks that read alike, none that says another number than where it stands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

type Format = { durationMarks(ticks: number[]): string[]; rateMarks(ticks: number[]): string[]; durationTop(most: number): number };
const page = new URL('../../../../services/console/page/format.js', import.meta.url);
const { durationMarks, rateMarks, durationTop } = (await import(page.href)) as Format;
const quarters = (top: number): number[] => [0, top / 4, top / 2, (top * 3) / 4, top];
const plain = (marks: string[]): string => marks.join(' ').replaceAll('\u202f', '');

test('an axis is marked at its quarters as what they are', () => {
  assert.equal(plain(durationMarks(quarters(1))), '0 0.25s 0.5s 0.75s 1s');
  assert.equal(plain(durationMarks(quarters(240))), '0 1min 2min 3min 4min');
  assert.equal(plain(rateMarks(quarters(1))), '0 0.25 0.5 0.75 1');
  assert.equal(plain(rateMarks(quarters(2000))), '0 500 1000 1500 2000');
});

test('whatever the lag, the end of the axis lies above it and its marks differ and are exact', () => {
  for (let most = 0.01; most < 3e6; most *= 1.3) {
    const top = durationTop(most);
    assert.ok(top >= most && top <= Math.max(0.2, most * 4), `${most} below ${top}`);
    const marks = durationMarks(quarters(top));
    assert.equal(new Set(marks).size, 5, marks.join());
    const [, first, , , last] = marks.map((mark) => Number.parseFloat(mark)) as [number, number, number, number, number];
    assert.ok(Math.abs(first * 4 - last) < 1e-9, marks.join());
  }
});
