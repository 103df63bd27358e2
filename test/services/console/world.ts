/** Asking the console as a browser would, and as one would that means harm: any Host and Origin. And `tidemark run` and `tidemark console` as processes, ended with the scope. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import type { Picture } from '../../../services/console/picture.js';
import { cleanEnvironment, MAIN } from '../cli/command.js';

export type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly text: string };

export type Wanted = { method?: string; headers?: Record<string, string>; body?: string };

/** To 127.0.0.1, whatever the headers say. */
export async function ask(port: number, path: string, { method = 'GET', headers = {}, body }: Wanted = {}): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** The first line of the answer to a request that is written by hand. */
export async function askRaw(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.end(text);
  let answer = '';
  for await (const part of socket.setEncoding('utf8')) answer += part as string;
  return answer.split('\r\n')[0] as string;
}

/** A browser's stream of events: hears until it is left. */
export class Viewer implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #reading: Promise<void>;
  history: { fields: string[]; rows: (number | null)[][] } | undefined;
  readonly pictures: (Picture & { heardAt: number })[] = [];

  constructor(port: number) {
    this.#reading = this.#read(`http://127.0.0.1:${port}/api/live`).catch(() => undefined);
  }

  async #read(url: string): Promise<void> {
    const response = await fetch(url, { signal: this.#stop.signal });
    let text = '';
    for await (const part of (response.body as NonNullable<Response['body']>).pipeThrough(new TextDecoderStream())) {
      text += part;
      const events = text.split('\n\n');
      text = events.pop() as string;
      for (const event of events) this.#take(event);
    }
  }

  #take(event: string): void {
    const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(event) ?? [];
    if (name === 'history') this.history = JSON.parse(data as string) as { fields: string[]; rows: (number | null)[][] };
    if (name === 'picture') this.pictures.push({ ...(JSON.parse(data as string) as Picture), heardAt: Date.now() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#reading;
  }
}

/** A command of the CLI that goes on until it is ended. */
export class Running implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly ended: Promise<number | null>;
  text = '';

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.process = spawn(process.execPath, [MAIN, ...args], { env: { ...cleanEnvironment(), ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.text += bytes.toString();
      });
    }
    this.ended = once(this.process, 'exit').then(([code]) => code as number | null);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode === null) this.process.kill('SIGTERM');
    await this.ended;
  }
}
