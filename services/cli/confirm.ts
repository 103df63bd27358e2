/** A typed confirmation: of whoever is about to do what cannot be undone. */
import { createInterface } from 'node:readline/promises';
import { configError } from '../../src/runtime/errors.js';

/** Asks for `word`; `yes`: the value of --yes, for scripts. Throws `config` when it is not given. */
export async function confirm(command: string, word: string, yes: string | boolean | undefined): Promise<void> {
  if (yes !== undefined) {
    if (yes !== word) throw configError(`--yes: ${JSON.stringify(yes)} is not ${JSON.stringify(word)}`, `write --yes ${word}`);
    return;
  }
  if (process.stdin.isTTY !== true) throw configError(`${command} asks for a confirmation, and there is no terminal`, `write --yes ${word}`);
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  const typed = await prompt.question(`type ${word} to go on: `);
  prompt.close();
  if (typed.trim() !== word) throw configError('not confirmed', 'nothing was changed');
}
