/** Numbers, health and forecasts by themselves: what is not known is left out, one number that fails takes no other away, and off means off. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArchiverMetrics } from '../../services/archiver/metrics.js';
import { CaptureMetrics } from '../../services/capture/metrics.js';
import type { Config } from '../../src/runtime/config.js';
import { perDay, Rate, secondsUntilFull } from '../../src/runtime/forecast.js';
import { Health } from '../../src/runtime/health.js';
import { MetricsRegistry, NO_METRICS } from '../../src/runtime/metrics.js';
import { type Monitor, unwatched } from '../../src/runtime/monitor.js';

test('counters count, gauges are asked at each scrape, what is not known or fails is left out', async () => {
  const metrics = await MetricsRegistry.open({ source: 's' });
  const counter = metrics.counter('a_total', 'a', ['kind']);
  counter.inc(2, { kind: 'x' });
  counter.inc(undefined, { kind: 'x' });
  let value: number | null = 0;
  metrics.gauge('b', 'b', () => value);
  metrics.gauge('c', 'c', () => assert.fail('asked in vain'));
  metrics.gauge('d', 'd', async () => [{ labels: { t: '"\n' }, value: 7 }], ['t']);
  metrics.total('e_total', 'e', () => 5);
  metrics.histogram('f_seconds', 'f', [1, 2]).observe(1.5);
  const samples = async (): Promise<string[]> => (await metrics.text()).split('\n').filter((line) => /^[a-f][_{ ]/.test(line));
  const rest = ['d{t="\\"\\n",source="s"} 7', 'e_total{source="s"} 5'];
  const histogram = ['f_seconds_bucket{le="1",source="s"} 0', 'f_seconds_bucket{le="2",source="s"} 1', 'f_seconds_bucket{le="+Inf",source="s"} 1'];
  assert.deepEqual(await samples(), [
    'a_total{kind="x",source="s"} 3',
    'b{source="s"} 0',
    ...rest,
    ...histogram,
    'f_seconds_sum{source="s"} 1.5',
    'f_seconds_count{source="s"} 1',
  ]);
  value = null;
  assert.deepEqual((await samples()).slice(0, 3), ['a_total{kind="x",source="s"} 3', ...rest], 'e is not counted twice, b is gone');
  NO_METRICS.counter('a_total', 'a').inc();
  NO_METRICS.gauge('b', 'b', () => assert.fail('nobody asks'));
});

test('a loop that does not come round in its time is stuck; what may take any time is not', async () => {
  const health = new Health();
  assert.equal(health.stuck(), undefined);
  health.turn(0);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.match(health.stuck() ?? '', /the loop has not come round for 0 s/);
  health.turn(Number.POSITIVE_INFINITY);
  assert.equal(health.stuck(), undefined);
  let problem: string | undefined = 'away';
  health.needs('one', () => problem);
  health.needs('two', () => undefined);
  assert.deepEqual(health.unready(), [{ check: 'one', problem: 'away' }]);
  problem = undefined;
  assert.deepEqual(health.unready(), []);
});

test('a service that begins again says what failed, and nothing of NATS, which it has left by itself', () => {
  const config = { archive: { dir: '/nowhere', flush: { every: 1000 } }, tables: [] } as unknown as Config;
  for (const make of [(monitor: Monitor) => new CaptureMetrics(monitor), (monitor: Monitor) => new ArchiverMetrics(config, monitor)]) {
    const monitor = unwatched();
    const service = make(monitor);
    const problems = (): string[] => monitor.health.unready().map(({ problem }) => problem);
    assert.deepEqual(problems(), ['starting']);
    let connected = true;
    service.connected(() => connected);
    assert.deepEqual(problems(), ['starting']);
    connected = false;
    assert.deepEqual(problems(), ['starting', 'there is no connection to NATS']);
    service.failed(new Error('the volume is full'));
    assert.deepEqual(problems(), ['the volume is full']);
  }
});

test('a forecast needs ten minutes and something that grows', () => {
  assert.equal(perDay(null), null);
  assert.equal(perDay({ amount: 100, seconds: 599 }), null);
  assert.equal(perDay({ amount: 100, seconds: 864 }), 10_000);
  assert.equal(secondsUntilFull(5000, { amount: 100, seconds: 864 }), 43_200);
  assert.equal(secondsUntilFull(-1, { amount: 100, seconds: 864 }), 0);
  assert.equal(secondsUntilFull(5000, { amount: -100, seconds: 864 }), null);
  assert.equal(secondsUntilFull(5000, { amount: 0, seconds: 864 }), null);
});

test('a rate is that of the last ten minutes, and begins anew when the value went back', () => {
  const rate = new Rate();
  rate.add(0, 100);
  assert.equal(rate.perSecond, null);
  rate.add(10_000, 200);
  assert.equal(rate.perSecond, 10);
  for (let at = 20_000; at <= 1_200_000; at += 10_000) rate.add(at, 200);
  assert.equal(rate.perSecond, 0);
  rate.add(1_210_000, 50);
  assert.equal(rate.perSecond, null);
});
