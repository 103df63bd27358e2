/**
 * The interactive shell of `tidemark query`: statements over several lines until their semicolon, a few commands that begin with a dot, and a history in the user's state folder. Owns the prompt; what a
 * statement does is runner.ts's. One statement at a time; Ctrl-C ends it, not the shell.
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { splitStatements } from '../../../src/query/statements.js';
import { describeError } from '../../../src/runtime/errors.js';

export type ShellOptions = {
  /** Runs a statement; prints its result. */
  readonly run: (sql: string, signal: AbortSignal) => Promise<void>;
  /** Names of the tables. */
  readonly tables: () => Promise<readonly string[]>;
  /** SELECT whose result is the columns of a table; throws for an unknown one. */
  readonly schema: (table: string) => Promise<string>;
  readonly historyFile: string;
};

const PROMPT = 'tidemark> ';
const MORE = '     ...> ';
const HISTORY_LINES = 1000;
const HELP = `SQL of DuckDB over hot and cold rows, each statement ended by ; (over several lines if you like)
.tables          the tables
.schema TABLE    its columns
.help            this
.quit            leave (as does Ctrl-D); Ctrl-C ends a running statement
`;

/** Runs until its input ends or .quit. */
export async function runShell(options: ShellOptions): Promise<void> {
  const history = await readHistory(options.historyFile);
  const terminal = process.stdin.isTTY === true;
  const prompt = createInterface({
    input: process.stdin,
    output: process.stdout,
    terminal,
    prompt: PROMPT,
    history: [...history].reverse(),
    historySize: HISTORY_LINES,
  });
  const shell = new Shell(options, prompt);
  const interrupt = (): void => shell.interrupt();
  prompt.on('SIGINT', interrupt);
  process.on('SIGINT', interrupt);
  try {
    if (terminal) process.stdout.write('Each statement sees one moment of Postgres and the archive together. .help says more.\n');
    prompt.prompt();
    for await (const line of prompt) {
      if (!(await shell.take(line))) break;
      prompt.prompt();
    }
    if (terminal) process.stdout.write('\n');
  } finally {
    process.off('SIGINT', interrupt);
    prompt.close();
  }
}

class Shell {
  readonly #options: ShellOptions;
  readonly #prompt: Interface;
  #typed = '';
  #running: AbortController | undefined;

  constructor(options: ShellOptions, prompt: Interface) {
    this.#options = options;
    this.#prompt = prompt;
  }

  /** Ends what runs; without anything, forgets what was typed. */
  interrupt(): void {
    if (this.#running !== undefined) return this.#running.abort();
    this.#typed = '';
    process.stdout.write('\n');
    this.#prompt.setPrompt(PROMPT);
    if (this.#prompt.terminal) this.#prompt.write(null, { ctrl: true, name: 'u' });
    this.#prompt.prompt();
  }

  /** False: the end. */
  async take(line: string): Promise<boolean> {
    if (this.#typed === '' && line.trim().startsWith('.')) {
      await this.#remember(line);
      return await this.#command(line.trim());
    }
    const { statements, rest, blank } = splitStatements(`${this.#typed}${line}\n`);
    this.#typed = blank ? '' : rest;
    for (const statement of statements) {
      await this.#remember(`${statement};`);
      await this.#guarded((signal) => this.#options.run(statement, signal));
    }
    this.#prompt.setPrompt(this.#typed === '' ? PROMPT : MORE);
    return true;
  }

  async #command(line: string): Promise<boolean> {
    const [name = '', ...others] = line.split(/\s+/);
    const argument = others.join(' ').replace(/;$/, '');
    if (/^\.(quit|exit|q)$/.test(name)) return false;
    await this.#guarded(async (signal) => {
      if (name === '.help') process.stdout.write(HELP);
      else if (name === '.tables') process.stdout.write((await this.#options.tables()).map((table) => `${table}\n`).join(''));
      else if (name === '.schema' && argument !== '') await this.#options.run(await this.#options.schema(argument), signal);
      else process.stderr.write(`${name === '.schema' ? '.schema wants a table' : `${name} is no command`} → .help lists what there is\n`);
    });
    return true;
  }

  async #guarded(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const controller = new AbortController();
    this.#running = controller;
    try {
      await work(controller.signal);
    } catch (error) {
      process.stderr.write(`${describeError(error)}\n`);
    } finally {
      this.#running = undefined;
    }
  }

  /** One line each, only for the user to read. A history that cannot be written is none. */
  async #remember(text: string): Promise<void> {
    const { historyFile } = this.#options;
    try {
      await mkdir(path.dirname(historyFile), { recursive: true, mode: 0o700 });
      await appendFile(historyFile, `${text.replace(/\s*\n\s*/g, ' ').trim()}\n`, { mode: 0o600 });
    } catch {
      // the statement counts, not its memory
    }
  }
}

async function readHistory(file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.split('\n').filter(Boolean).slice(-HISTORY_LINES);
}
