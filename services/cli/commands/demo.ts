/** `tidemark demo`. */
import { configError } from '../../../src/runtime/errors.js';
import { runDemo } from '../../demo/demo.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  return runDemo({
    seconds: positive('seconds', options['seconds']) ?? 45,
    rate: positive('rate', options['rate']),
    kill: options['kill'] === true,
    keep: options['keep'] === true,
    report: options['report'] === undefined ? undefined : String(options['report']),
  });
}

function positive(name: string, text: string | boolean | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw configError(`--${name}: ${JSON.stringify(text)} is not a number above 0`);
  return value;
}
