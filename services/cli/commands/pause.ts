/** `tidemark pause` and `tidemark resume`: the brake on pruning, in the archive folder, so that it outlives every restart. Archiving goes on. */
import { noArchive, openIdentity } from '../../../src/archive/identity.js';
import { describePause, putPause, readPause, removePause } from '../../../src/archive/operations.js';
import { type Config, loadConfig } from '../../../src/runtime/config.js';
import { messageOf, TidemarkError } from '../../../src/runtime/errors.js';

type Options = Record<string, string | boolean | undefined>;

export async function run(_: readonly (string | undefined)[], options: Options): Promise<number> {
  const { archive } = await archiveOf(options);
  const reason = options['reason'] === undefined ? '' : String(options['reason']);
  const put = await putPause(archive.dir, reason).catch((error: unknown) => notPut(archive.dir, error));
  if (put) {
    process.stdout.write('pruning is paused: a batch that is on its way ends, no other begins; tidemark resume takes it back\n');
    return 0;
  }
  const before = (await readPause(archive.dir)) ?? { at: 'a moment ago', reason: '' };
  const other = reason !== '' && reason !== before.reason;
  process.stdout.write(`pruning was ${describePause(before)} already${other ? '; the new reason was not noted: resume and pause for that' : ''}\n`);
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

/** Whoever pulls the brake must know whether it holds. */
async function notPut(dir: string, error: unknown): Promise<never> {
  const holds = (await readPause(dir)) !== undefined;
  throw new TidemarkError('failed', `${holds ? 'pruning is paused, but not all was noted' : 'PRUNING IS NOT PAUSED'}: ${messageOf(error)}`, {
    remedy: holds ? 'nothing more is needed for the brake' : 'to stop it now, stop the pruner; then make room and pause again',
    cause: error,
  });
}

async function archiveOf(options: Options): Promise<Config> {
  const config = loadConfig(String(options['config']));
  if ((await openIdentity(config.archive.dir)) === undefined) throw await noArchive(config.archive.dir);
  return config;
}
