/** An archiver as a process of its own, without capture and Postgres. Owns the process and what is known of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../services/archiver/main.js', import.meta.url));

export class ArchiverProcess implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  /** The last of what it has printed. */
  log = '';

  private constructor(configFile: string) {
    this.#process = spawn(process.execPath, [MAIN, '-c', configFile], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process.stderr?.on('data', (bytes: Buffer) => {
      this.log = (this.log + bytes.toString()).slice(-20_000);
    });
    this.#ended = once(this.#process, 'exit');
  }

  /** Resolves when it says that it archives: its claim is made, the folder swept. Throws with its log when it ends before. */
  static async start(configFile: string): Promise<ArchiverProcess> {
    const archiver = new ArchiverProcess(configFile);
    while (!archiver.log.includes('"event":"archiving"')) {
      if (archiver.#process.exitCode !== null) throw new Error(`the archiver ended: ${archiver.log}`);
      await Promise.race([once(archiver.#process.stderr as NodeJS.ReadableStream, 'data'), archiver.#ended]);
    }
    return archiver;
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null) this.#process.kill('SIGTERM');
    await this.#ended;
  }
}
