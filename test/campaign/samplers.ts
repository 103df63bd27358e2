/**
 * What is looked at from outside while everything runs, by reading alone, without the archive's code: the manifests on disk (a chain that only grows, whose files have their hashes), the slot
 * against the archived position (S ≤ W), and how far the archive lags behind.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import type { Pipeline } from '../pipeline/pipeline.js';
import { connect } from './load.js';

type Named = { readonly file: string; readonly sha256: string; readonly bytes: number };
type ManifestFile = {
  readonly number: number;
  readonly previous: string | null;
  readonly position: string | null;
  readonly committedAt: string | null;
  readonly add: readonly Named[];
  readonly drop: readonly string[];
};

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** A connection that is made again when the server was away. */
class Asker {
  readonly #url: string;
  #client: pg.Client | undefined;
  constructor(url: string) {
    this.#url = url;
  }

  async ask<T extends pg.QueryResultRow>(text: string): Promise<T[]> {
    try {
      if (this.#client === undefined) {
        this.#client = await connect(this.#url);
        this.#client.on('error', () => undefined);
      }
      return (await this.#client.query<T>(text)).rows;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => undefined);
  }
}

export class Samplers {
  readonly #pipeline: Pipeline;
  readonly #folder: string;
  readonly #slot: Asker;
  readonly #beats: Asker;
  /** Hash of every manifest seen, by number from 1. */
  readonly #hashes: string[] = [];
  readonly #live = new Map<string, Named>();
  readonly #unread = new Set<string>();
  #newest: ManifestFile | undefined;
  #going = true;
  #resting = false;
  #busy: Promise<void> = Promise.resolve();
  readonly #loops: Promise<void>[] = [];
  /** Where the slot stood when it was made: the copy is not a confirmation. */
  #made: bigint | undefined;
  /** S ≤ W. */
  readonly law3 = { samples: 0, violations: [] as string[] };
  /** Manifests and files that are not what they were or should be. */
  readonly violations: string[] = [];
  filesHashed = 0;
  maxLagSeconds = 0;
  /** No lag is measured while there is nothing that could be behind. */
  measuring = false;

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline;
    this.#slot = new Asker(pipeline.databaseUrl);
    this.#beats = new Asker(pipeline.databaseUrl);
    this.#folder = path.join(pipeline.archiveDir, '_tidemark', 'manifest');
  }

  start(): void {
    this.#loops.push(
      this.#loop(60, () => this.#law3()),
      this.#loop(300, () => this.#files()),
      this.#loop(500, () => this.#beat()),
    );
  }

  async #loop(ms: number, look: () => Promise<void>): Promise<void> {
    while (this.#going) {
      await pause(ms);
      if (!this.#resting) await look().catch((error: unknown) => this.#said(error));
    }
  }

  /** A server or a volume that is away says nothing against anybody. */
  #said(error: unknown): void {
    if (error instanceof SyntaxError || error instanceof TypeError) this.violations.push(String(error));
  }

  /** Newest manifest seen. */
  get number(): number {
    return this.#hashes.length;
  }

  /** Nothing is read while `body` runs: the volume is away. */
  async rest(body: () => Promise<void>): Promise<void> {
    this.#resting = true;
    await this.#busy.catch(() => undefined);
    await pause(50);
    await body().finally(() => {
      this.#resting = false;
    });
  }

  /** Reads what came since; one at a time. */
  #refresh(): Promise<void> {
    this.#busy = this.#busy.catch(() => undefined).then(() => this.#readNew());
    return this.#busy;
  }

  async #readNew(): Promise<void> {
    for (;;) {
      const bytes = await readFile(this.#fileOf(this.#hashes.length + 1)).catch(() => undefined);
      if (bytes === undefined) return;
      const manifest = JSON.parse(bytes.toString('utf8')) as ManifestFile;
      if (manifest.previous !== (this.#hashes.at(-1) ?? null)) this.violations.push(`manifest ${manifest.number} does not continue the one that was there`);
      this.#hashes.push(sha256(bytes));
      for (const name of manifest.drop) {
        this.#live.delete(name);
        this.#unread.delete(name);
      }
      for (const entry of manifest.add) {
        this.#live.set(entry.file, entry);
        this.#unread.add(entry.file);
      }
      this.#newest = manifest;
    }
  }

  #fileOf(number: number): string {
    return path.join(this.#folder, `${String(number).padStart(12, '0')}.json`);
  }

  async #law3(): Promise<void> {
    // S is read before W: W only rises.
    const rows = await this.#slot.ask<{ s: string | null }>(
      `SELECT (confirmed_flush_lsn - '0/0')::text AS s FROM pg_replication_slots WHERE slot_name = 'tidemark_test'`,
    );
    if (rows[0]?.s == null) return;
    const s = BigInt(rows[0].s);
    await this.#refresh();
    const position = this.#newest?.position;
    if (!position) {
      this.#made = s;
      return;
    }
    this.law3.samples += 1;
    if (s > lsnOf(position) && s !== this.#made) this.law3.violations.push(`slot at ${s}, archived ${lsnOf(position)} (${position})`);
    const committedAt = this.#newest?.committedAt;
    if (this.measuring && committedAt) this.maxLagSeconds = Math.max(this.maxLagSeconds, (Date.now() - Date.parse(committedAt)) / 1000);
  }

  async #beat(): Promise<void> {
    await this.#beats.ask('INSERT INTO beat DEFAULT VALUES');
  }

  /** Files that are new, whole; and manifests of the last while are what they were. */
  async #files(): Promise<void> {
    await this.#refresh();
    await this.#manifests(Math.max(0, this.#hashes.length - 12));
    for (const name of [...this.#unread]) {
      const entry = this.#live.get(name);
      if (entry === undefined || this.#resting) continue;
      await this.#check(entry);
      this.#unread.delete(name);
    }
  }

  async #manifests(from: number): Promise<void> {
    for (const [index, hash] of [...this.#hashes].entries()) {
      if (index < from) continue;
      const bytes = await readFile(this.#fileOf(index + 1));
      if (sha256(bytes) !== hash) this.violations.push(`manifest ${index + 1} is another one than it was`);
    }
  }

  async #check(entry: Named): Promise<void> {
    const bytes = await readFile(path.join(this.#pipeline.archiveDir, entry.file)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return undefined;
    });
    if (bytes === undefined) {
      await this.#refresh();
      if (this.#live.get(entry.file) === entry) this.violations.push(`${entry.file} is named and not there`);
      return;
    }
    this.filesHashed += 1;
    if (bytes.length !== entry.bytes || sha256(bytes) !== entry.sha256) this.violations.push(`${entry.file} is not what its manifest says`);
  }

  /** After a power cut: of what was seen, only the newest manifest may be gone, which was not said to be durable yet. */
  async afterCut(): Promise<void> {
    await this.#busy.catch(() => undefined);
    const seen = [...this.#hashes];
    for (const [index, hash] of seen.entries()) {
      const bytes = await readFile(this.#fileOf(index + 1)).catch(() => undefined);
      if (bytes !== undefined && sha256(bytes) === hash) continue;
      if (bytes === undefined && index === seen.length - 1) break;
      this.violations.push(`manifest ${index + 1} of ${seen.length} was ${bytes === undefined ? 'gone' : 'another one'} after the power cut`);
    }
    this.#hashes.length = 0;
    this.#live.clear();
    this.#unread.clear();
    this.#newest = undefined;
    await this.#refresh();
    for (const entry of this.#live.values()) await this.#check(entry);
    this.#unread.clear();
  }

  async stop(): Promise<void> {
    this.#going = false;
    await Promise.all([...this.#loops, this.#slot.close(), this.#beats.close()]);
    await this.#refresh().catch((error: unknown) => this.#said(error));
    await this.#manifests(0).catch((error: unknown) => this.violations.push(String(error)));
    for (const entry of this.#live.values()) await this.#check(entry).catch((error: unknown) => this.violations.push(String(error)));
  }
}

/** `16/B374D848:0` → its place in the WAL. */
function lsnOf(position: string): bigint {
  const [high, low] = (position.split(':')[0] as string).split('/');
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}
