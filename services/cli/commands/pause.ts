/** `tidemark pause` and `tidemark resume`: the brake on pruning, in the archive folder, so that it outlives every restart. Archiving goes on. */
import { openIdentity } from '../../../src/archive/manifest.js';
import { describePause, putPause, readPause, removePause } from '../../../src/archive/operations.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { TidemarkError } from '../../../src/runtime/errors.js';

type Options = Record<string, string | boolean | undefined>;

export async function run(_: readonly (string | undefined)[], options: Options): Promise<number> {
  const { archive } = await archiveOf(options);
  const reason = options['reason'] === undefined ? '' : String(options['reason']);
  if (await putPause(archive.dir, reason))
    process.stdout.write('pruning is paused: a batch that is on its way ends, no other begins; tidemark resume takes it back\n');
  else process.stdout.write(`pruning was ${describePause((await readPause(archive.dir)) ?? { at: 'a moment ago', reason: '' })} already\n`);
  return 0;
}

export async function resume(_: readonly (string | undefined)[], options: Options): Promise<number> {
  const { archive } = await archiveOf(options);
  const pause = await readPause(archive.dir);
  if (pause === undefined) {
    process.stdout.write('pruning is not paused\n');
    return 0;
  }
  await removePause(archive.dir);
  process.stdout.write(`pruning was ${describePause(pause)}; it goes on with the next run\n`);
  return 0;
}

async function archiveOf(options: Options): Promise<Config> {
  const config = loadConfig(String(options['config']));
  if ((await openIdentity(config.archive.dir)) === undefined)
    throw new TidemarkError('failed', `there is no archive in ${config.archive.dir} yet`, { remedy: 'start the archiver' });
  return config;
}
