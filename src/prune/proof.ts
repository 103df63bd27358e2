/**
 * Finds what the archive holds of nominated rows: the newest archived version of each key, decoded from the durable segments by the reader that did not write them. Reads only row
 * groups whose timestamps can match. Never decides: comparing is compare.ts.
 */
import path from 'node:path';
import type { ArchiveState } from '../archive/manifest.js';
import type { FileEntry } from '../archive/manifest-format.js';
import { Halt, messageOf } from '../runtime/errors.js';
import { dayOf } from '../segment/day.js';
import { hashFile } from '../segment/durable-file.js';
import { SegmentReader } from '../segment/reader.js';
import type { SegmentRows } from '../segment/segment-rows.js';
import type { Nominated } from './nominate.js';
import type { Target } from './target.js';

/** An archived row version. */
export type Archived = {
  readonly file: string;
  /** relationSignature of the version's columns. */
  readonly signature: string;
  readonly op: string;
  /** 32-bit id of its transaction; 0 for copied rows. */
  readonly xid: number;
  /** A value was not in the stream: this version proves nothing. */
  readonly unresolved: boolean;
  /** Signed 64-bit row digest. */
  readonly digest: bigint;
  /** Text of a column, null for NULL and for one that the version did not have. */
  text(column: string): string | null;
};

/** One string for the key texts of a row. */
export function keyOf(texts: readonly string[]): string {
  return texts.length === 1 ? (texts[0] as string) : JSON.stringify(texts);
}

/** Thrown when a file of the manifest is gone: merged or sealed since; read the manifest again. */
export class FileGone extends Error {
  override readonly name = 'FileGone';
}

type Range = { readonly min: string; readonly max: string };

type Group = {
  readonly rows: SegmentRows;
  /** Key → its newest row in the group. */
  readonly newest: ReadonlyMap<string, number>;
  /** Of the timestamps, where the file tells. */
  readonly within: Range | undefined;
  readonly signature: string;
  readonly columns: ReadonlySet<string>;
};

/** Bytes of decoded row groups that may be kept for the next batches. */
const KEPT_BYTES = 96 * 1024 * 1024;
/** What an entry of `newest` takes, about. */
const KEY_BYTES = 120;

class ArchivedRow implements Archived {
  readonly file: string;
  readonly #group: Group;
  readonly #row: number;

  constructor(file: string, group: Group, row: number) {
    this.file = file;
    this.#group = group;
    this.#row = row;
  }

  get signature(): string {
    return this.#group.signature;
  }

  get op(): string {
    return this.#group.rows.op(this.#row);
  }

  get xid(): number {
    return this.#group.rows.xid(this.#row);
  }

  get unresolved(): boolean {
    return this.#group.rows.unresolved(this.#row);
  }

  get digest(): bigint {
    return this.#group.rows.digest(this.#row);
  }

  text(column: string): string | null {
    return this.#group.columns.has(column) ? this.#group.rows.text(column, this.#row) : null;
  }

  /** True when it was written after `other`. */
  isNewerThan(other: ArchivedRow): boolean {
    return isNewer(this.#group.rows, this.#row, other.#group.rows, other.#row);
  }
}

export class ArchiveLookup {
  readonly #dir: string;
  readonly #groups = new Map<string, Group>();
  /** Files whose bytes were found to be those that the manifest says. */
  readonly #whole = new Set<string>();
  #bytes = 0;

  /** `dir`: the archive folder. */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Forgets what was decoded, so that the next look reads the files again. */
  forget(): void {
    this.#groups.clear();
    this.#whole.clear();
    this.#bytes = 0;
  }

  /** Newest archived version by keyOf. Throws FileGone, Halt DIGEST for a file that cannot be decoded, or what the volume says. */
  async find(state: ArchiveState, target: Target, rows: readonly Nominated[]): Promise<Map<string, Archived>> {
    const wanted = new Set(rows.map((row) => keyOf(row.key)));
    const times = rows.map((row) => row.at).sort();
    const range = { min: times[0] as string, max: times.at(-1) as string };
    const days = new Set(rows.map((row) => dayOf(row.at)));
    const found = new Map<string, ArchivedRow>();
    for (const entry of state.files.values()) {
      if ((entry.kind !== 'segment' && entry.kind !== 'restored') || entry.oid !== target.oid || entry.pendingCopy !== null) continue;
      if (!days.has(entry.day) || !overlaps(entry, range)) continue;
      await this.#search(entry, target, range, wanted, found);
    }
    return found;
  }

  async #search(entry: FileEntry, target: Target, range: Range, wanted: ReadonlySet<string>, found: Map<string, ArchivedRow>): Promise<void> {
    let reader: SegmentReader | undefined;
    try {
      for (let index = 0; ; index += 1) {
        let group = this.#groups.get(`${entry.file}#${index}`);
        if (group === undefined) {
          reader ??= await this.#open(entry);
          if (index >= reader.rowGroupCount) return;
          const within = reader.timestampRange(index);
          if (isApart(within, range)) continue;
          group = await this.#load(entry, reader, index, target);
        }
        if (!isApart(group.within, range)) collect(entry, group, wanted, found);
      }
    } catch (error) {
      throw unreadable(entry, error);
    } finally {
      await reader?.close();
    }
  }

  /** A file proves nothing unless all of it is what was written: one flipped bit may lie where no column of ours is. */
  async #open(entry: FileEntry): Promise<SegmentReader> {
    const file = path.join(this.#dir, entry.file);
    try {
      if (!this.#whole.has(entry.file)) {
        if ((await hashFile(file)) !== entry.sha256) throw new Error('its bytes are not those that were written: SHA-256 differs');
        this.#whole.add(entry.file);
      }
      return await SegmentReader.open(file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new FileGone(entry.file);
      throw error;
    }
  }

  async #load(entry: FileEntry, reader: SegmentReader, index: number, target: Target): Promise<Group> {
    const rows = await reader.readRowGroup(index);
    const newest = new Map<string, number>();
    const keyed = target.key.every((column) => reader.columns.includes(column)); // else it is older than the key: nothing in it can be found by it
    for (let row = 0; keyed && row < rows.rowCount; row += 1) {
      const key = keyOf(target.key.map((column) => rows.text(column, row) ?? ''));
      const other = newest.get(key);
      if (other === undefined || isNewer(rows, row, rows, other)) newest.set(key, row);
    }
    const group: Group = { rows, newest, within: reader.timestampRange(index), signature: entry.signature, columns: new Set(reader.columns) };
    this.#keep(`${entry.file}#${index}`, group);
    return group;
  }

  /** The oldest groups go first: nominations walk along time. */
  #keep(name: string, group: Group): void {
    this.#groups.set(name, group);
    this.#bytes += keptBytes(group);
    for (const [oldest, other] of this.#groups) {
      if (this.#bytes <= KEPT_BYTES || oldest === name) return;
      this.#groups.delete(oldest);
      this.#bytes -= keptBytes(other);
    }
  }
}

/** A file that is there but does not decode is a DIGEST; FileGone and what the volume says (EIO, EMFILE …) stay what they are. */
function unreadable(entry: FileEntry, error: unknown): unknown {
  if (error instanceof FileGone || error instanceof Halt || typeof (error as NodeJS.ErrnoException).code === 'string') return error;
  return new Halt('DIGEST', {
    seen: `${entry.file} cannot be read back (${messageOf(error)}).`,
    safe: 'Nothing that rests on it was deleted; the other tables go on.',
    remedy: `run \`tidemark verify\` and bring the file back from a copy of the archive; \`tidemark repair ${entry.table}\` copies again what Postgres still holds`,
    cause: error,
  });
}

const isApart = (within: Range | undefined, range: Range): boolean => within !== undefined && (within.max < range.min || within.min > range.max);

const keptBytes = ({ rows, newest }: Group): number => rows.bytes + newest.size * KEY_BYTES;

function overlaps(entry: FileEntry, range: Range): boolean {
  return entry.minTimestamp === null || entry.maxTimestamp === null || (entry.minTimestamp <= range.max && entry.maxTimestamp >= range.min);
}

function isNewer(a: SegmentRows, row: number, b: SegmentRows, other: number): boolean {
  const [mine, theirs] = [a.lsn(row), b.lsn(other)];
  return mine === theirs ? a.ordinal(row) > b.ordinal(other) : mine > theirs;
}

/** Takes the wanted keys of a group over, where they are newer than what was found before. */
function collect(entry: FileEntry, group: Group, wanted: ReadonlySet<string>, found: Map<string, ArchivedRow>): void {
  for (const key of wanted) {
    const row = group.newest.get(key);
    if (row === undefined) continue;
    const archived = new ArchivedRow(entry.file, group, row);
    const before = found.get(key);
    if (before === undefined || archived.isNewerThan(before)) found.set(key, archived);
  }
}
