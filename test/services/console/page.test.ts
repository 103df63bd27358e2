/** The page in a real Chromium, on a running pipeline: seen, used by keyboard, in both themes, wide and narrow, and when things are missing. Skipped where there is no Chromium. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import { findExecutable, freePort } from '../../../services/demo/engines/process.js';
import { Pipeline, type Service, until } from '../../pipeline/pipeline.js';
import { Running } from './world.js';

const executable = ['chromium', 'chromium-browser', 'google-chrome'].map((name) => findExecutable(name)).find((file) => file !== undefined);
const skip = executable === undefined ? 'there is no chromium, chromium-browser or google-chrome on this machine' : false;
const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const OLD_ROWS = 60;
/** What the browser runs is text here: its globals are no types of ours. */
const FOCUSED = `document.activeElement.getAttribute('aria-label')`;
const LAYOUT_SHIFT = `new Promise((resolve) => {
  const moved = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) moved.push({ value: entry.value, what: entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName).join(' ') });
  }).observe({ type: 'layout-shift', buffered: true });
  setTimeout(() => resolve(moved), 4200);
})`;

let pipeline: Pipeline;
let address = '';
let profile = '';
let shown: Running;
let context: BrowserContext;
let page: Page;
const services: Service[] = [];
/** What must not be: errors in the console of the browser, requests to others. */
const troubles: string[] = [];

before(async () => {
  if (skip !== false) return;
  const port = await freePort();
  address = `http://127.0.0.1:${port}`;
  pipeline = await Pipeline.start({
    schema: `CREATE TABLE prices (id bigserial PRIMARY KEY, at timestamptz NOT NULL); CREATE INDEX ON prices (at);
      CREATE TABLE trades (id bigserial PRIMARY KEY, at timestamptz NOT NULL); CREATE INDEX ON trades (at);`,
    tables: '  prices: { timestamp: at }\n  trades: { timestamp: at, prune: false }',
    yaml: `console: { port: ${port} }`,
    flushEvery: '200ms',
  });
  await pipeline.query(`INSERT INTO prices (at) SELECT now() - interval '3 days' FROM generate_series(1, ${OLD_ROWS})`);
  await pipeline.query('INSERT INTO trades (at) SELECT now() FROM generate_series(1, 10)');
  await pipeline.doctorFix();
  shown = new Running(['run', 'console', '-c', pipeline.configFile]);
  await until('the console listens', async () => shown.text.includes('"event":"console"'));
  profile = await mkdtemp(path.join(tmpdir(), 'tidemark-chromium-'));
  context = await chromium.launchPersistentContext(profile, {
    executablePath: executable as string,
    args: ARGUMENTS,
    viewport: { width: 1600, height: 1000 },
    colorScheme: 'light',
  });
  page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
  page.on('pageerror', (error) => troubles.push(String(error)));
  context.on('request', (request) => new URL(request.url()).origin !== address && troubles.push(`asked ${request.url()}`));
});
after(async () => {
  await context?.close();
  await shown?.[Symbol.asyncDispose]();
  if (profile !== '') await rm(profile, { recursive: true, force: true });
  await pipeline?.[Symbol.asyncDispose]();
});

/** Moves the focus with Tab until it is on what `selector` names; fails when it never is. */
async function tabTo(selector: string): Promise<void> {
  for (let i = 0; i < 80; i += 1) {
    if (await page.evaluate<boolean>(`document.activeElement.matches(${JSON.stringify(selector)})`)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`the tab key never came to ${selector}`);
}

const background = async (): Promise<string> => await page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
const hot = async (): Promise<number> => Number((await pipeline.query<{ n: string }>('SELECT count(*) AS n FROM prices'))[0]?.n);

test('before anything is archived the page says so in words', { skip }, async () => {
  await page.goto(address);
  await page.getByText('Nothing is archived yet. No manifest yet.').waitFor();
  await page.getByText('Nothing is archived yet: days appear with the first manifest.').waitFor();
  await page.getByText('NATS: there is no stream yet').waitFor();
  await page.getByText('No prune run yet.').waitFor();
  assert.equal(await page.title(), 'test – Tidemark');
});

test('on a running pipeline it shows stages, tables, days and plots, and nothing moves while it does', { skip }, async () => {
  services.push(...(['archiver', 'capture', 'pruner'] as const).map((name) => pipeline.service(name)));
  await pipeline.archived();
  await page.goto(address);
  await page.getByText('Archiving keeps up.').waitFor();
  await page.locator('#problems:empty').waitFor({ state: 'attached' }); // what was missing before the services ran is gone: a page that moves for that is right
  await page.reload();
  await page.getByText('Archiving keeps up.').waitFor();
  assert.equal(await page.locator('#stages > li').count(), 7);
  assert.equal(await page.locator('.plot canvas').count(), 4);
  assert.match(await page.locator('#room').innerText(), /Archive[\s\S]* free; growth not known yet[\s\S]*20\.0\u202fGB of 20\.0\u202fGB left/);
  const prices = page.getByRole('row', { name: /^prices/ }).first();
  assert.match(await prices.innerText(), /prices\s+\d+\s+60\s+\d+\s+0\s+[\d.]+\u202fKB\s+yes/);
  assert.match(
    await page
      .getByRole('row', { name: /^trades/ })
      .first()
      .innerText(),
    /no: prune: false/,
  );
  await page.locator('.cell.open').first().waitFor();
  for (const landmark of ['banner', 'navigation', 'main', 'contentinfo'] as const) assert.equal(await page.getByRole(landmark).count(), 1, landmark);
  // Layout shifts of a page that nobody touches, as the browser counts them, over two more pictures.
  const moved = await page.evaluate<{ value: number; what: string }[]>(LAYOUT_SHIFT);
  assert.ok(moved.reduce((sum, { value }) => sum + value, 0) < 0.02, JSON.stringify(moved));
  assert.ok((await page.screenshot({ fullPage: true })).length > 20_000);
});

test('it is used by keyboard: skip link, theme, calendar, a plot, and a prune that asks again', { skip }, async () => {
  await page.goto(address);
  await page.getByText('Archiving keeps up.').waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the pipeline');
  const ring = await page.evaluate('getComputedStyle(document.activeElement).outlineStyle');
  assert.equal(ring, 'solid', 'the focus is seen');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate('document.activeElement.id'), 'main');

  await tabTo('.canvas');
  await page.keyboard.press('End');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('Escape');
  await tabTo('.cell');
  const first = await page.evaluate<string>(FOCUSED);
  await page.keyboard.press('End');
  await page.keyboard.press('ArrowDown');
  const second = await page.evaluate<string>(FOCUSED);
  assert.match(first, /^\w+ \d{4}-\d\d-01: /);
  assert.match(second, /^\w+ \d{4}-\d\d-(28|29|30|31): /);
  assert.notEqual(first.split(' ')[0], second.split(' ')[0], 'the line below');
  await page.keyboard.press('Enter');
  assert.equal(await page.locator('#day-title').innerText(), second.split(' ')[0]);

  await tabTo('#wish-prune');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog', { name: 'Prune now?' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  assert.equal(await hot(), OLD_ROWS, 'nothing goes without a yes');
  await tabTo('#wish-prune');
  await page.keyboard.press('Enter');
  await tabTo('#confirm-yes');
  await page.keyboard.press('Enter');
  await page.getByText(`${OLD_ROWS} rows deleted, 0 left.`).waitFor();
  assert.equal(await hot(), 0);
  await page.locator('.disclose').first().waitFor(); // it comes with the next picture
  await tabTo('.disclose');
  await page.keyboard.press('Enter');
  await page.getByRole('table', { name: /^Receipt of run / }).waitFor();
  assert.equal(await page.locator('.receipt tbody tr').count(), 3);
});

test('both themes: that of the system, and the one that is chosen, which stays', { skip }, async () => {
  const light = await background();
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await background();
  assert.notEqual(light, dark);
  await page.getByText('Light', { exact: true }).click();
  assert.equal(await background(), light);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.locator('#theme input[value="light"]').focus();
  await page.keyboard.press('ArrowRight');
  assert.equal(await background(), dark, 'chosen by the arrow key');
  await page.reload();
  assert.equal(await background(), dark);
  await page.locator('#theme input[value="auto"]').check({ force: true });
  assert.equal(await background(), light);
});

test('at 360 and at 1600 pixels nothing is cut off', { skip }, async () => {
  for (const width of [360, 768, 1600]) {
    await page.setViewportSize({ width, height: 900 });
    await page.getByText('Archiving keeps up.').waitFor();
    const wide = await page.evaluate<number>('document.documentElement.scrollWidth');
    assert.ok(wide <= width, `${width}: ${wide}`);
  }
});

test('a page that outlives its console goes on with the next one, and its wishes are heard', { skip }, async () => {
  assert.deepEqual(troubles.splice(0), [], 'no error and no request elsewhere until here');
  await shown[Symbol.asyncDispose]();
  await page.getByText(/^no news for/).waitFor();
  shown = new Running(['run', 'console', '-c', pipeline.configFile]);
  await page.getByText(/^live, /).waitFor();
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.getByText('0 rows would be deleted, 0 left.').waitFor();
  troubles.length = 0; // the browser said that the console was away, and that the old token was refused
});

test('a halt is an alert with its remedy, and a database that is away is said in words', { skip }, async () => {
  for (const service of services) if (service.name === 'capture') await service.stop();
  await page.getByText('Capture is not connected.').waitFor();
  await pipeline.query("SELECT pg_drop_replication_slot('tidemark_test')");
  const halt = page.locator('[aria-live="assertive"] .halt');
  await halt.getByText('SLOT_MISSING').waitFor();
  assert.match(await halt.innerText(), /the replication slot of this archive does not exist[\s\S]*is archived[\s\S]*tidemark resync/);
  assert.deepEqual(troubles, [], 'no error and no request elsewhere in all of this');
  await pipeline.postgres.stop('immediate');
  await page.getByText('The database cannot be asked.').waitFor({ timeout: 30_000 });
  await page.getByText(/^Postgres: .*ECONNREFUSED/).waitFor();
});
