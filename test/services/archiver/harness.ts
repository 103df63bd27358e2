/**
 * An archiver on a real nats-server with chunks made by hand: what Postgres and capture would have sent, to the byte. Owns server, archive folder and the running archiver.
 */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { headers } from 'nats';
import pino from 'pino';
import type { ReadyBatch } from '../../../services/archiver/flush.js';
import type { Intake } from '../../../services/archiver/intake.js';
import { runArchiver } from '../../../services/archiver/loop.js';
import { type NatsServer, startNats } from '../../../services/demo/engines/nats.js';
import { groupFiles, tableFiles } from '../../../src/archive/groups.js';
import { createArchive, readKey } from '../../../src/archive/identity.js';
import { isEmptyFile } from '../../../src/archive/layout.js';
import { ArchiveFollower, type ArchiveState } from '../../../src/archive/manifest.js';
import { encodeChunkHeader } from '../../../src/change/chunk.js';
import type { Epoch } from '../../../src/position/epoch.js';
import { formatPosition } from '../../../src/position/position.js';
import { type Config, parseConfig } from '../../../src/runtime/config.js';
import type { Log } from '../../../src/runtime/log.js';
import { DailyReader } from '../../../src/segment/daily-reader.js';
import { SegmentReader } from '../../../src/segment/reader.js';
import { connectStream, ensureStream, requestSubject, type StreamConnection } from '../../../src/stream/topology.js';
import { copyChunks, type TableDefinition, type Values, WalWriter, type WrittenChunk } from '../../change/pgoutput-writer.js';

/** Gives an intake chunks as a stream does, all of them new; the batches that were cut. */
export function taking(intake: Intake): (...chunks: readonly WrittenChunk[]) => Promise<ReadyBatch[]> {
  let sequence = 0;
  return async (...chunks) => {
    for (const chunk of chunks) {
      sequence += 1;
      assert.equal(await intake.take({ ...chunk, sequence, firstSequence: sequence, streamCreated: 'now' }), 'taken');
    }
    return intake.takeReady();
  };
}

export type Running = { stop(): Promise<void>; readonly ended: Promise<unknown> };

/** Waits, without fixed sleeps, until `condition` gives something. */
export async function until<T>(what: string, condition: () => Promise<T | undefined | false>, timeoutMs = 20_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export class ArchiverBench implements AsyncDisposable {
  readonly nats: NatsServer;
  readonly config: Config;
  readonly dir: string;
  readonly epoch: Epoch;
  readonly archive: string;
  readonly key: Buffer;
  readonly stream: StreamConnection;
  readonly log: Log;
  readonly logged: Record<string, unknown>[] = [];
  readonly #root: string;
  readonly #running = new Set<Running>();
  readonly #children = new Set<ChildProcess>();

  private constructor(parts: Pick<ArchiverBench, 'nats' | 'config' | 'dir' | 'epoch' | 'archive' | 'key' | 'stream'> & { root: string }) {
    this.nats = parts.nats;
    this.config = parts.config;
    this.dir = parts.dir;
    this.epoch = parts.epoch;
    this.archive = parts.archive;
    this.key = parts.key;
    this.stream = parts.stream;
    this.#root = parts.root;
    const lines = { write: (line: string) => void this.logged.push(JSON.parse(line) as Record<string, unknown>) };
    this.log = pino({ level: 'debug' }, lines);
  }

  /** `yaml`: further lines of tidemark.yaml; `tables`: lines below `tables:`. */
  static async start(options: { yaml?: string; flush?: string; tables?: string; dir?: string } = {}): Promise<ArchiverBench> {
    const root = await mkdtemp(path.join(tmpdir(), 'tidemark-archiver-'));
    const dir = options.dir ?? path.join(root, 'archived_data');
    await mkdir(dir, { recursive: true });
    const nats = await startNats();
    const file = path.join(root, 'tidemark.yaml');
    const text = configText({ ...options, url: nats.url, dir });
    await writeFile(file, text);
    const config = parseConfig(text, { file });
    const { archive } = await createArchive(dir, 'test');
    const stream = await connectStream(config, 'test');
    await ensureStream(stream.manager, config);
    const epoch = { systemId: '7300000000000000001', timeline: 1, generation: randomUUID() };
    return new ArchiverBench({ nats, config, dir, epoch, archive, key: await readKey(dir), stream, root });
  }

  get scratch(): string {
    return this.#root;
  }

  /** A server whose slot starts at `start`. */
  wal(start = 0x1000n, epoch = this.epoch): WalWriter {
    return new WalWriter({ epoch, key: this.key, archive: this.archive, start });
  }

  copy(tables: readonly { definition: TableDefinition; rows: readonly Values[] }[], options: { epoch?: Epoch; consistentPoint?: bigint } = {}): WrittenChunk[] {
    return copyChunks(options.epoch ?? this.epoch, this.archive, options.consistentPoint ?? 0x1000n, tables);
  }

  async publish(...chunks: readonly WrittenChunk[]): Promise<void> {
    for (const { header, payload } of chunks) {
      const fields = headers();
      for (const [name, value] of Object.entries(encodeChunkHeader(header))) fields.set(name, value);
      await this.stream.jetstream.publish(this.stream.subject, payload, { headers: fields });
    }
  }

  /** Starts an archiver in this process. */
  run(config = this.config): Running {
    const controller = new AbortController();
    const ended = runArchiver(config, this.log, controller.signal).then(
      () => undefined,
      (error: unknown) => error ?? new Error('failed'),
    );
    const running: Running = {
      ended,
      stop: async () => {
        controller.abort();
        const error = await ended;
        if (error) throw error;
      },
    };
    this.#running.add(running);
    void ended.then(() => this.#running.delete(running));
    return running;
  }

  /** Starts an archiver as a process, with a fault armed; SIGUSR2 sets its clock an hour ahead. */
  spawn(fault?: string): { readonly process: ChildProcess; readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }> } {
    const main = fileURLToPath(new URL('../../../services/archiver/main.js', import.meta.url));
    const clock = new URL('./clock-ahead.js', import.meta.url).href;
    const child = spawn(process.execPath, ['--import', clock, main, '-c', this.config.file], {
      env: { ...process.env, ...(fault === undefined ? {} : { TIDEMARK_FAULT: fault }) },
      stdio: 'ignore',
    });
    this.#children.add(child);
    return { process: child, ended: once(child, 'exit').then(([code, signal]) => ({ code, signal }) as never) };
  }

  async state(): Promise<ArchiveState | undefined> {
    return await new ArchiveFollower(this.dir).refresh();
  }

  /** Waits until W is at the end of `chunks`. */
  async archived(end: WrittenChunk | undefined): Promise<ArchiveState> {
    const wanted = formatPosition((end as WrittenChunk).header.end);
    return await until(`W at ${wanted}`, async () => {
      const state = await this.state();
      return state?.position === wanted ? state : undefined;
    });
  }

  /** Every row version in open segments, as `op lsn:ordinal text|text|…`, in order. */
  async versions(state?: ArchiveState): Promise<string[]> {
    return await this.#rows(state, 'segment');
  }

  /** Every row of keys files, in the same form. */
  async keys(state?: ArchiveState): Promise<string[]> {
    return await this.#rows(state, 'keys');
  }

  async #rows(given: ArchiveState | undefined, kind: 'segment' | 'keys'): Promise<string[]> {
    const state = given ?? ((await this.state()) as ArchiveState);
    const found: { at: bigint; text: string }[] = [];
    for (const table of state.tables) {
      for (const group of await groupFiles(this.dir, tableFiles(state, table.oid, kind))) {
        for (const file of group.files) found.push(...(await readRows(file)));
      }
    }
    return found.sort((a, b) => (a.at < b.at ? -1 : 1)).map((row) => row.text);
  }

  /** Rows of a daily file, columns joined by `|`. */
  async daily(file: string): Promise<string[]> {
    const rows: string[] = [];
    await (await DailyReader.open(path.join(this.dir, file))).forEachRow((texts) => rows.push(texts.map((text) => text ?? '∅').join('|')));
    return rows;
  }

  /** Asks the archiver to seal a day. */
  async seal(request: {
    table?: string;
    day: string;
    asOf: bigint;
  }): Promise<{ ok: boolean; file?: string | null; rows?: number; history?: number; reason?: string }> {
    const asOf = `0/${request.asOf.toString(16).toUpperCase()}`;
    const body = JSON.stringify({ schema: 'public', table: request.table ?? 'prices', day: request.day, asOf });
    const reply = await this.stream.connection.request(requestSubject('test', 'seal'), body, { timeout: 30_000 });
    return reply.json();
  }

  /** Files below `_tidemark/<folder>`, relative to the archive. */
  async filesBelow(folder: string): Promise<string[]> {
    const base = path.join(this.dir, '_tidemark', folder);
    const entries = await readdir(base, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => path.relative(this.dir, path.join(entry.parentPath, entry.name)));
    return files.filter((file) => !isEmptyFile(file));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#running].map((running) => running.stop().catch(() => undefined)));
    for (const child of this.#children) child.kill('SIGKILL');
    await this.stream.connection.close();
    await this.nats[Symbol.asyncDispose]();
    await rm(this.#root, { recursive: true, force: true });
  }
}

function configText(options: { url: string; dir: string; yaml?: string; flush?: string; tables?: string }): string {
  return [
    'source: { url: "postgres://nobody@localhost/none", name: test }',
    options.yaml?.includes('stream:') ? '' : `stream: { url: "${options.url}", replay: { bytes: 256MB } }`,
    `archive: { dir: "${options.dir}", flush: ${options.flush ?? '{ every: 100ms }'} }`,
    'tables:',
    options.tables ?? '  prices: { timestamp: at }',
    (options.yaml ?? '').replace('NATS_URL', options.url),
  ].join('\n');
}

async function readRows(file: string): Promise<{ at: bigint; text: string }[]> {
  const reader = await SegmentReader.open(file);
  const rows: { at: bigint; text: string }[] = [];
  for (let group = 0; group < reader.rowGroupCount; group += 1) {
    const decoded = await reader.readRowGroup(group);
    for (let row = 0; row < decoded.rowCount; row += 1) {
      const texts = reader.columns.map((column) => decoded.text(column, row) ?? '∅');
      const at = (decoded.lsn(row) << 32n) + decoded.ordinal(row);
      rows.push({
        at,
        text: `${decoded.op(row)} ${decoded.lsn(row).toString(16)}:${decoded.ordinal(row)} ${texts.join('|')}${reader.metadata.kind !== 'keys' && decoded.unresolved(row) ? ' unresolved' : ''}`,
      });
    }
  }
  await reader.close();
  return rows;
}
