/**
 * Finds what the archive holds of nominated rows: the newest archived version of each key, decoded from the durable segments by the reader that did not write them. Reads only row
 * groups whose timestamps can match. Never decides: comparing is compare.ts.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { ArchiveState } from '../archive/manifest.js';
import type { FileEntry } from '../archive/manifest-format.js';
import { Halt, messageOf } from '../runtime/errors.js';
import { dayOf } from '../segment/day.js';
import { SegmentReader } from '../segment/reader.js';
import type { SegmentRows } from '../segment/segment-rows.js';
import type { RowTexts } from '../segment/value-texts.js';
import { KeyIndex, KeyTexts } from './key-index.js';
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
  /** Has the column the text at [start, end) of `bytes`, or, with a start of -1, is it NULL? A column that the version did not have is. */
  is(column: string, bytes: Uint8Array, start: number, end: number): boolean;
  /** Whether the version had the column. */
  has(column: string): boolean;
};

/** One string for the key texts of a row. */
export function keyOf(texts: readonly string[]): string {
  return texts.length === 1 ? (texts[0] as string) : JSON.stringify(texts);
}

/** Thrown when a file of the manifest is gone, merged or sealed since, or was touched while it was read: read the manifest again. */
export class FileGone extends Error {
  override readonly name = 'FileGone';
}

type Range = { readonly min: string; readonly max: string };

/** `ranges`: where the timestamps of each row group lie. `stat`: it is this very file, and untouched, as long as these are the same. */
type WholeFile = { readonly ranges: readonly (Range | undefined)[]; readonly stat: string };

type Group = {
  readonly rows: SegmentRows;
  readonly newest: KeyIndex;
  readonly signature: string;
  /** Of the file's columns. */
  readonly texts: ReadonlyMap<string, RowTexts>;
};

/** Bytes of decoded row groups that may be kept for the next batches. */
const KEPT_BYTES = 40 * 1024 * 1024;

/** Key texts by keyOf. */
type Wanted = ReadonlyMap<string, readonly string[]>;

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

  is(column: string, bytes: Uint8Array, start: number, end: number): boolean {
    const texts = this.#group.texts.get(column);
    return texts === undefined ? start < 0 : texts.is(this.#row, bytes, start, end);
  }

  has(column: string): boolean {
    return this.#group.texts.has(column);
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
  readonly #whole = new Map<string, WholeFile>();
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
    const wanted = new Map(rows.map(({ key }) => [keyOf(key), key]));
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

  /** Are the files of what was found still those that were read? */
  async areUntouched(found: Iterable<Archived>): Promise<boolean> {
    for (const file of new Set(Array.from(found, (row) => row.file))) {
      const seen = await this.#stat({ file }).catch((error: unknown) => {
        if (error instanceof FileGone) return undefined;
        throw error;
      });
      if (seen === undefined || seen !== this.#whole.get(file)?.stat) return false;
    }
    return true;
  }

  async #search(entry: FileEntry, target: Target, range: Range, wanted: Wanted, found: Map<string, ArchivedRow>): Promise<void> {
    let reader: SegmentReader | undefined;
    try {
      let whole = await this.#known(entry);
      if (whole === undefined) {
        const before = await this.#stat(entry);
        reader = await this.#open(entry);
        whole = await this.#prove(entry, reader, before);
      }
      for (const [index, times] of whole.ranges.entries()) {
        if (isApart(times, range)) continue;
        let group = this.#kept(`${entry.file}#${index}`);
        if (group === undefined) {
          reader ??= await this.#open(entry);
          group = await this.#load(entry, reader, index, target);
          await this.#requireSame(entry, whole.stat);
          this.#keep(`${entry.file}#${index}`, group);
        }
        collect(entry, group, wanted, found);
      }
    } catch (error) {
      throw unreadable(entry, error);
    } finally {
      await reader?.close();
    }
  }

  async #open(entry: FileEntry): Promise<SegmentReader> {
    return await SegmentReader.open(path.join(this.#dir, entry.file)).catch((error: unknown) => {
      throw gone(entry, error);
    });
  }

  /** A file proves nothing unless all of it is what was written: one flipped bit may lie where no column of ours is. */
  async #prove(entry: FileEntry, reader: SegmentReader, stat: string): Promise<WholeFile> {
    if ((await reader.sha256()) !== entry.sha256) throw new Error('its bytes are not those that were written: SHA-256 differs');
    const ranges = Array.from({ length: reader.rowGroupCount }, (_, index) => reader.timestampRange(index));
    await this.#requireSame(entry, stat);
    const whole = { ranges, stat };
    this.#whole.set(entry.file, whole);
    return whole;
  }

  /** What was found of it, when it is the same file still; else it is forgotten: what was decoded proves nothing when its file was taken away or changed. */
  async #known(entry: FileEntry): Promise<WholeFile | undefined> {
    const whole = this.#whole.get(entry.file);
    if (whole === undefined || whole.stat === (await this.#stat(entry))) return whole;
    this.#whole.delete(entry.file);
    for (const [name, group] of this.#groups) {
      if (!name.startsWith(`${entry.file}#`)) continue;
      this.#groups.delete(name);
      this.#bytes -= keptBytes(group);
    }
    return undefined;
  }

  async #requireSame(entry: FileEntry, stat: string): Promise<void> {
    if ((await this.#stat(entry)) !== stat) throw new FileGone(`${entry.file} is being changed by somebody while it is read`);
  }

  /** What changes with a file, or with a write to it. */
  async #stat(entry: Pick<FileEntry, 'file'>): Promise<string> {
    const found = await stat(path.join(this.#dir, entry.file), { bigint: true }).catch((error: unknown) => {
      throw gone(entry, error);
    });
    return [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(' ');
  }

  async #load(entry: FileEntry, reader: SegmentReader, index: number, target: Target): Promise<Group> {
    const rows = await reader.readRowGroup(index);
    const texts = new Map(reader.columns.map((column) => [column, rows.texts(column)]));
    const columns = target.key.flatMap((column) => texts.get(column) ?? []);
    const keyed = columns.length === target.key.length; // else it is older than the key: nothing in it can be found by it
    const newest = new KeyIndex(columns, keyed ? rows.rowCount : 0, (row, other) => isNewer(rows, row, rows, other));
    return { rows, newest, signature: entry.signature, texts };
  }

  /** A group that is decoded; it is the last to go now. */
  #kept(name: string): Group | undefined {
    const group = this.#groups.get(name);
    if (group === undefined) return undefined;
    this.#groups.delete(name);
    this.#groups.set(name, group);
    return group;
  }

  /** Those that were not looked at for longest go first: nominations walk along time. */
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

function gone(entry: Pick<FileEntry, 'file'>, error: unknown): unknown {
  return (error as NodeJS.ErrnoException).code === 'ENOENT' ? new FileGone(`${entry.file} is gone`) : error;
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

const keptBytes = ({ rows, newest }: Group): number => rows.bytes + newest.byteLength;

function overlaps(entry: FileEntry, range: Range): boolean {
  return entry.minTimestamp === null || entry.maxTimestamp === null || (entry.minTimestamp <= range.max && entry.maxTimestamp >= range.min);
}

function isNewer(a: SegmentRows, row: number, b: SegmentRows, other: number): boolean {
  const [mine, theirs] = [a.lsn(row), b.lsn(other)];
  return mine === theirs ? a.ordinal(row) > b.ordinal(other) : mine > theirs;
}

/** Takes the wanted keys of a group over, where they are newer than what was found before. */
function collect(entry: FileEntry, group: Group, wanted: Wanted, found: Map<string, ArchivedRow>): void {
  const texts = new KeyTexts();
  for (const [key, of] of wanted) {
    const row = group.newest.find(texts.takeTexts(of));
    if (row === undefined) continue;
    const archived = new ArchivedRow(entry.file, group, row);
    const before = found.get(key);
    if (before === undefined || archived.isNewerThan(before)) found.set(key, archived);
  }
}
