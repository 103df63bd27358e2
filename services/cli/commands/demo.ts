/** `tidemark demo`. */
import { closeSync, openSync } from 'node:fs';
import { configError } from '../../../src/runtime/errors.js';
import { runDemo } from '../../demo/demo.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const report = options['report'] === undefined ? undefined : String(options['report']);
  if (report !== undefined) requireWritable(report);
  return runDemo({
    seconds: positive('seconds', options['seconds']) ?? 45,
    rate: positive('rate', options['rate']),
    kill: options['kill'] === true,
    keep: options['keep'] === true,
    compare: options['compare'] === true,
    report,
  });
}

/** Now, not after the whole demonstration. */
function requireWritable(file: string): void {
  try {
    closeSync(openSync(file, 'a'));
  } catch (error) {
    throw configError(`--report: ${file} cannot be written (${(error as Error).message})`, 'give a file in a folder that is there');
  }
}

function positive(name: string, text: string | boolean | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw configError(`--${name}: ${JSON.stringify(text)} is not a number above 0`);
  return value;
}
