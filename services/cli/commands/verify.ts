/** `tidemark verify [--json]`: exit 0 when every file says what the manifests say, 4 when one does not. */
import { verifyArchive } from '../../../src/archive/verify.js';
import { loadConfig } from '../../../src/runtime/config.js';
import { bytesText } from '../print.js';
import { progressBar } from '../progress.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  const bar = progressBar('verify', 'files');
  const result = await verifyArchive(config.archive.dir, { progress: (done, all) => bar.update(done, all) });
  bar.stop();
  if (options['json'] === true) process.stdout.write(`${JSON.stringify(result)}\n`);
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
  }
  return result.ok ? 0 : 4;
}
