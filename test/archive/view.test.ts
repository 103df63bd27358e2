/** What the lives of a day take: the limits under which a day of any size is sealed. The rules of lives are tested where days are sealed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { livesMemory } from '../../src/archive/view.js';

const MB = 1024 * 1024;

test('a day of 20 million rows, each pruned, has the memory that its lives were measured to need, and stays far below 1.5 GB', () => {
  const needed = livesMemory(2 * 20_400_000);
  assert.ok(needed > 384 * MB && needed < 512 * MB, `${needed}`);
});
