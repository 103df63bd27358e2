/** `tidemark verify [--deep] [--json]`: exit 0 when every file says what the manifests say (and, deep, what Postgres and the stream say), 4 when one does not. */
import { folderProblem } from '../../../src/archive/identity.js';
import { verifyArchive } from '../../../src/archive/verify.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { configError, TidemarkError } from '../../../src/runtime/errors.js';
import { createLog } from '../../../src/runtime/log.js';
import { type DeepResult, verifyDeep } from '../deep-verify.js';
import { bytesText } from '../print.js';
import { type Progress, progressBar } from '../progress.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  // Files that are not there because the folder is not are no damage.
  const folder = await folderProblem(config.archive.dir);
  if (folder !== undefined) throw configError(`archive.dir: ${folder.seen}`, folder.remedy);
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  const bar = progressBar('verify', 'bytes');
  const result = await verifyArchive(config.archive.dir, { progress: (done, all) => bar.update(done, all), signal: controller.signal }).finally(() =>
    bar.stop(),
  );
  const deep = options['deep'] === true ? await deepVerified(config, controller.signal) : undefined;
  const ok = result.ok && deep?.ok !== false;
  if (controller.signal.aborted) throw new TidemarkError('failed', 'stopped before the end: nothing is proved');
  if (options['json'] === true) process.stdout.write(`${JSON.stringify(deep === undefined ? result : { ...result, ok, deep })}\n`);
  else {
    for (const damage of result.damages) {
      const where =
        damage.table === undefined
          ? ''
          : ` (${damage.schema}.${damage.table}${damage.day ? `, ${damage.day}` : ''}, ${damage.rows} rows, LSN ${damage.minLsn}–${damage.maxLsn})`;
      process.stdout.write(`DAMAGED  ${damage.file}: ${damage.seen}${where}\n`);
    }
    process.stdout.write(
      `${result.ok ? 'verified' : `${result.damages.length} damaged`}: ${result.manifests} manifests, ${result.files} files, ${result.rows} rows, ${bytesText(result.bytes)}, archived position ${result.position ?? 'none yet'}\n`,
    );
    if (result.expired > 0)
      process.stdout.write(`note      ${result.expired} files of sealed days left the archive by its retention (keep): _tidemark/expired.jsonl\n`);
    if (result.direct < result.files)
      process.stdout.write(
        `note      ${result.files - result.direct} files were read through the page cache, which may hide what the disk has lost: their file system has no direct reading\n`,
      );
  }
  if (deep !== undefined && options['json'] !== true) printDeep(deep);
  return ok ? 0 : 4;
}

async function deepVerified(config: Config, signal: AbortSignal): Promise<DeepResult> {
  const bars = { tables: progressBar('postgres', 'tables'), messages: progressBar('stream', 'messages'), days: progressBar('compare', 'days') };
  let shown: Progress = bars.tables;
  const progress = (what: keyof typeof bars, done: number, all: number): void => {
    if (shown !== bars[what]) shown.stop();
    shown = bars[what];
    shown.update(done, all);
  };
  return await verifyDeep(config, createLog('verify', { level: 'error' }), signal, progress).finally(() => shown.stop());
}

function printDeep({ postgres, stream }: DeepResult): void {
  for (const { table, compared, equal, differing, notes, remedy } of postgres) {
    const said = [...(compared ? [`${equal} rows of Postgres equal in the archive`] : ['not compared with Postgres']), ...notes].join('; ');
    const mark = differing > 0 ? 'DIFFERS ' : compared ? 'postgres' : 'skipped ';
    process.stdout.write(`${mark}  ${table}: ${said}${remedy === null ? '' : ` → ${remedy}`}\n`);
  }
  for (const { schema, table, day, seen } of stream.differences) process.stdout.write(`DIFFERS   stream, ${schema}.${table} ${day ?? 'undated'}: ${seen}\n`);
  for (const { schema, table, day, seen } of stream.skipped) process.stdout.write(`skipped   stream, ${schema}.${table} ${day ?? 'undated'}: ${seen}\n`);
  process.stdout.write(`stream    ${stream.compared} tables and days compared, from ${stream.from ?? 'the first copy on'}\n`);
}
