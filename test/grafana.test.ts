/** Alerts and dashboard without a pipeline: promtool runs the rules against written series where there is one, and what shows the present state shows nothing older. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { findExecutable } from '../services/demo/engines/process.js';

const GRAFANA = fileURLToPath(new URL('../../infra/grafana', import.meta.url));
const read = (name: string): string => readFileSync(path.join(GRAFANA, name), 'utf8');
const promtool = findExecutable('promtool');

test('alerts fire when they should and are silent when all is well', { skip: promtool === undefined && 'no promtool' }, () => {
  const done = spawnSync(promtool as string, ['test', 'rules', path.join(GRAFANA, 'alerts.test.yaml')], { encoding: 'utf8' });
  assert.equal(done.status, 0, done.stdout + done.stderr);
});

test('each alert is seen firing by a test', () => {
  const { groups } = parse(read('alerts.yaml')) as { groups: { rules: { alert: string }[] }[] };
  const { tests } = parse(read('alerts.test.yaml')) as { tests: { promql_expr_test: { exp_samples: { labels?: string }[] }[] }[] };
  const seen = tests.flatMap((one) => one.promql_expr_test).flatMap((one) => one.exp_samples.map(({ labels }) => /alertname="(\w+)"/.exec(labels ?? '')?.[1]));
  for (const { alert } of groups.flatMap(({ rules }) => rules)) assert.ok(seen.includes(alert), alert);
});

type Panel = { id: number; title: string; type: string; targets?: { expr: string; instant?: boolean; range?: boolean }[] };

test('a tile of the dashboard shows the present, not the last that a service said before it went', () => {
  const { panels } = JSON.parse(read('dashboard.json')) as { panels: Panel[] };
  const tiles = panels.filter(({ type }) => type === 'stat');
  assert.ok(tiles.length >= 5);
  for (const { title, targets = [] } of tiles) for (const { instant, range } of targets) assert.deepEqual([instant, range], [true, false], title);
  assert.match(tiles.find(({ title }) => title === 'Services')?.targets?.[0]?.expr ?? '', / or last_over_time\(/); // one that is gone is there, as gone
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
});
