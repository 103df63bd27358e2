/** Each planted bug still has its place in the compiled program, and is a program. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { FAULTS } from './faults.js';
import { PLANTS, planted, ROOT } from './plants.js';

for (const plant of PLANTS) {
  test(`${plant.name} can be planted, and what is to catch it is there`, async () => {
    const text = await planted(plant);
    assert.ok(text.includes(plant.replace));
    if ('test' in plant.by) {
      assert.ok(existsSync(path.join(ROOT, 'dist/test', plant.by.test)));
      assert.ok(readFileSync(path.join(ROOT, 'dist/test', plant.by.test), 'utf8').includes(plant.by.title));
    } else for (const name of plant.by.faults) assert.ok(FAULTS[name], name);
  });
}
