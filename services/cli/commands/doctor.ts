/** `tidemark doctor [--fix] [--json]`: every precondition at once. Exit 0 when nothing failed (warnings are said), 1 when something did, 2 for the configuration. */
import type pg from 'pg';
import { folderProblem } from '../../../src/archive/identity.js';
import { ArchiveFollower } from '../../../src/archive/manifest.js';
import { recordOperation } from '../../../src/archive/operations.js';
import { archivePreflight } from '../../../src/archive/preflight.js';
import { putSettings, readSettings, settingsDifferences, settingsOf } from '../../../src/archive/settings.js';
import { believeClock, recordedBoot, setForward, thisBoot } from '../../../src/prune/clock.js';
import { prunePreflight } from '../../../src/prune/preflight.js';
import type { Check } from '../../../src/runtime/check.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { describeError } from '../../../src/runtime/errors.js';
import { streamPreflight } from '../../../src/stream/topology.js';
import { applicationName } from '../../../src/wal/identifier.js';
import { capturePreflight } from '../../../src/wal/preflight.js';
import { closeClient, connectClient } from '../../../src/wal/session.js';
import { tlsCheck } from '../../../src/wal/tls.js';
import { colours } from '../print.js';
import { howStarted } from './init.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  if (options['accept'] === true) await accept(config, options['json'] === true);
  let checks = await allChecks(config);
  if (options['fix'] === true) {
    const fixes = [...new Set(checks.flatMap((check) => (check.status !== 'ok' && check.fix !== undefined ? [check.fix] : [])))];
    await applyFixes(config, fixes, options['json'] === true);
    if (fixes.length > 0) checks = await allChecks(config);
  }
  const failed = checks.filter((check) => check.status === 'failed');
  if (options['json'] === true) process.stdout.write(`${JSON.stringify({ ok: failed.length === 0, checks })}\n`);
  else print(checks, options['fix'] === true ? '' : nextStep(checks, String(options['config'])));
  return failed.length === 0 ? 0 : 1;
}

/** Of Postgres with both roles, NATS and the archive volume. A server that cannot be reached is a failed check. */
export async function allChecks(config: Config): Promise<Check[]> {
  const [postgres, stream, archive] = await Promise.all([
    withClient('url', config, 'Postgres', async (client) => [...tlsOf('url', config), ...(await capturePreflight(client, config))]),
    streamPreflight(config),
    archivePreflight(config.archive.dir),
  ]);
  const pruner = postgres.some((check) => check.name === 'Postgres' && check.status === 'failed')
    ? []
    : await withClient(config.source.prunerUrl === undefined ? 'url' : 'prunerUrl', config, 'Postgres, pruner', async (client) => [
        ...tlsOf('prunerUrl', config),
        ...(await prunePreflight(client, config)),
      ]);
  // Without its folder nothing is recorded that could be compared.
  const recorded = (await folderProblem(config.archive.dir)) === undefined ? [...(await settingsChecks(config)), ...(await clockChecks(config))] : [];
  return [...postgres, ...pruner, ...stream, ...archive, ...recorded];
}

/** Of each address once. */
function tlsOf(key: 'url' | 'prunerUrl', { source }: Config): Check[] {
  const address = source[key];
  return address === undefined ? [] : [tlsCheck(address.reveal(), `source.${key}`)];
}

/** Whether the clock was set forward since rows were pruned last. */
async function clockChecks({ archive }: Config): Promise<Check[]> {
  const seen = setForward(await recordedBoot(archive.dir).catch(() => undefined), thisBoot());
  return seen === undefined ? [] : [{ name: 'clock', status: 'failed', seen, remedy: 'if it is right now: tidemark doctor --accept' }];
}

/** What differs from the settings by which rows were pruned last. */
async function settingsChecks(config: Config): Promise<Check[]> {
  const name = 'settings';
  try {
    const before = await readSettings(config.archive.dir);
    if (before === undefined) return [{ name, status: 'ok', seen: 'nothing to compare with: no rows were pruned yet' }];
    const found = settingsDifferences(before, settingsOf(config));
    const seen = found.map((one) => one.seen).join('; ');
    if (found.some((one) => one.destructive))
      return [{ name, status: 'failed', seen: `would prune more than before: ${seen}`, remedy: 'if that is meant: tidemark doctor --accept' }];
    return [{ name, status: 'ok', seen: seen === '' ? 'as at the last prune' : `since the last prune: ${seen}` }];
  } catch (error) {
    const { kind, message } = error as { kind?: string; message: string };
    if (kind === 'config') return [{ name, status: 'failed', seen: message, remedy: 'look at the retention of every table, then: tidemark doctor --accept' }];
    return [{ name, status: 'failed', seen: describeError(error), remedy: 'let this user read the archive folder' }];
  }
}

/** Records the settings and the clock of now, and what they change, by the word of the person who gave --accept. */
async function accept(config: Config, quiet: boolean): Promise<void> {
  const { dir } = config.archive;
  if ((await new ArchiveFollower(dir).refresh()) === undefined) return;
  const before = await readSettings(dir).catch(() => undefined);
  const now = settingsOf(config);
  const changed = before === undefined ? [] : settingsDifferences(before, now).map((one) => one.seen);
  await putSettings(dir, before, now);
  const boot = thisBoot();
  const set = setForward(await recordedBoot(dir), boot);
  if (boot !== undefined && set !== undefined) {
    await believeClock(dir, boot);
    changed.push(set);
  }
  await recordOperation(dir, { type: 'accept', changed, settings: now });
  if (!quiet) for (const seen of changed) process.stdout.write(`accepted  ${seen}\n`);
}

async function withClient(key: 'url' | 'prunerUrl', config: Config, name: string, check: (client: pg.Client) => Promise<Check[]>): Promise<Check[]> {
  let client: pg.Client | undefined;
  try {
    client = await connectClient((config.source[key] ?? config.source.url).reveal(), {
      applicationName: applicationName(config.source.name, 'control'),
      field: `source.${key}`,
    });
    return await check(client);
  } catch (error) {
    const remedy = (error as { remedy?: string }).remedy;
    const seen = error instanceof Error && remedy !== undefined ? error.message : `cannot be reached: ${describeError(error)}`;
    return [{ name, status: 'failed', seen, remedy: remedy ?? `start it, or correct source.${key}` }];
  } finally {
    if (client !== undefined) await closeClient(client);
  }
}

async function applyFixes(config: Config, fixes: readonly string[], quiet: boolean): Promise<void> {
  if (fixes.length === 0) return;
  const client = await connectClient(config.source.url.reveal(), {
    applicationName: applicationName(config.source.name, 'control'),
  });
  try {
    for (const sql of fixes) {
      if (!quiet) process.stdout.write(`${colours.cyan('fix')}      ${sql}\n`);
      // What a refused fix leaves undone is said again by the checks that follow.
      await client.query(sql).catch((error: unknown) => process.stderr.write(`not fixed: ${describeError(error)}: ${sql}\n`));
    }
  } finally {
    await closeClient(client);
  }
}

const MARK = { ok: colours.green('ok     '), warning: colours.yellow('warning'), failed: colours.red('FAILED ') } as const;

/** The command that mends what can be mended without a person, with the configuration that was given; empty: there is nothing of the kind. */
function nextStep(checks: readonly Check[], file: string): string {
  const mended = checks.filter(({ status, fix }) => status !== 'ok' && fix !== undefined).length;
  if (mended === 0) return '';
  return `Next: ${howStarted()} doctor --fix${file === 'tidemark.yaml' ? '' : ` -c ${file}`}, as the owner of the tables: it mends ${mended} of these\n`;
}

function print(checks: readonly Check[], next: string): void {
  const width = Math.min(48, Math.max(...checks.map((check) => check.name.length)));
  for (const check of checks) {
    process.stdout.write(`${MARK[check.status]}  ${check.name.padEnd(width)}  ${check.seen}\n`);
    if (check.remedy !== undefined && check.status !== 'ok') process.stdout.write(`         ${' '.repeat(width)}  → ${check.remedy}\n`);
  }
  const count = (status: Check['status']): number => checks.filter((check) => check.status === status).length;
  process.stdout.write(`\n${count('ok')} ok, ${count('warning')} warnings, ${count('failed')} failed\n${next}`);
}
