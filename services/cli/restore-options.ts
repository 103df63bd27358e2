/** What `restore` and `undo-prune` take on the command line, checked. */
import type { ConflictPolicy } from '../../src/restore/batch.js';
import { parseSelection, type Selection } from '../../src/restore/selection.js';
import { DURATION_MS, duration } from '../../src/runtime/config-values.js';
import { configError } from '../../src/runtime/errors.js';

type Options = Readonly<Record<string, string | boolean | undefined>>;

/** Throws `config` that names the option. */
export function parseRestoreOptions(options: Options): { selection: Selection; policy: ConflictPolicy; keepMs: number } {
  const text = (name: string): string | undefined => (options[name] === undefined ? undefined : String(options[name]));
  const policy = text('onConflict') ?? 'fail';
  if (policy !== 'skip' && policy !== 'replace' && policy !== 'fail')
    throw configError(`--on-conflict: ${JSON.stringify(policy)} is not a policy`, 'write skip, replace or fail');
  const selection = parseSelection({ day: text('day'), from: text('from'), to: text('to'), where: text('where') });
  return { selection, policy, keepMs: parseKeep(text('keep')) };
}

const LONGEST_KEEP_MS = 1000 * DURATION_MS.y;

/** `24h` → milliseconds; a day without it. Throws `config`. */
export function parseKeep(text: string | undefined): number {
  const parsed = duration.safeParse(text ?? '24h');
  if (!parsed.success) throw configError(`--keep: ${JSON.stringify(text)} is not a duration`, 'write for instance 24h or 7d');
  if (parsed.data > LONGEST_KEEP_MS) throw configError(`--keep: ${JSON.stringify(text)} is longer than the calendar reaches`, 'write for instance 24h or 7d');
  return parsed.data;
}
