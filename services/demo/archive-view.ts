/**
 * The archive as an outside reader sees it: by hyparquet, from the files that the newest manifest names. Neither the writer nor the verifier of segments, and
 * none of their code.
 */
import path from 'node:path';
import { asyncBufferFromFile, type FileMetaData, parquetMetadataAsync, parquetRead } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import { fingerprint } from './journal.js';
import type { DemoTable } from './rows.js';

/** One archived row or event of a key. */
type Event = {
  readonly lsn: bigint;
  readonly ordinal: bigint;
  readonly op: string /** Undefined for events without a row (keys files). */;
  readonly print: string | undefined;
};

export type TableView = {
  /** Key → fingerprints of its surviving versions: the last version of each life, those that the user deleted taken out. */
  readonly rows: ReadonlyMap<string, readonly string[]>;
  readonly segments: number;
  /** Bytes of all files with rows. */
  readonly bytes: number;
  /** Rows in a file of another day than that of their timestamp. */
  readonly wrongDay: number;
};

/** What is read of a file's entry in the manifest. */
export type ViewedFile = Pick<FileEntry, 'file' | 'table' | 'kind' | 'day' | 'bytes' | 'pendingCopy'>;

/** Values as the reader finds them: whole microseconds, bytes of texts and decimals. */
const PARSERS = {
  timestampFromMilliseconds: (value: bigint) => value * 1000n,
  timestampFromMicroseconds: (value: bigint) => value,
  timestampFromNanoseconds: (value: bigint) => value / 1000n,
  dateFromDays: (value: number) => value,
  stringFromBytes: (value: Uint8Array) => Buffer.from(value).toString('utf8'),
};

/** Not what a reader of the table sees. */
const HIDDEN: ReadonlySet<string> = new Set(['history', 'changes', 'restored']);

export async function readTableView(dir: string, files: Iterable<ViewedFile>, table: DemoTable): Promise<TableView> {
  const rows = new Map<string, string[]>();
  const events = new Map<string, Event[]>();
  let segments = 0;
  let bytes = 0;
  let wrongDay = 0;
  for (const entry of files) {
    if (entry.table !== table.name || entry.pendingCopy !== null || HIDDEN.has(entry.kind)) continue;
    const keys = entry.kind === 'keys';
    if (!keys) bytes += entry.bytes;
    if (entry.kind === 'segment') segments += 1;
    await readRows(path.join(dir, entry.file), (get) => {
      const key = table.key.map((name) => String(get(name))).join('|');
      if (!keys && dayOf(get(table.timestamp)) !== entry.day) wrongDay += 1;
      const print = keys ? undefined : fingerprint(table.columns.map((column) => normalValue(column.type, get(column.name))));
      if (entry.kind === 'daily') push(rows, key, print as string);
      else push(events, key, { lsn: BigInt(get('_lsn') as bigint), ordinal: BigInt(get('_ordinal') as bigint), op: String(get('_op')), print });
    });
  }
  for (const [key, list] of events) for (const print of survivors(list)) push(rows, key, print);
  return { rows, segments, bytes, wrongDay };
}

/** UTC day of microseconds since 1970; null for none. */
function dayOf(micros: unknown): string | null {
  return typeof micros === 'bigint' ? new Date(Number(micros / 1000n)).toISOString().slice(0, 10) : null;
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

/** A version survives when nothing follows it, or a prune does. */
function survivors(events: Event[]): string[] {
  const order = (a: Event, b: Event): number => (a.lsn < b.lsn ? -1 : a.lsn > b.lsn ? 1 : a.ordinal < b.ordinal ? -1 : a.ordinal > b.ordinal ? 1 : 0);
  const sorted = [...events].sort(order);
  return sorted.flatMap((event, i) => {
    if (event.print === undefined) return [];
    const next = sorted.slice(i + 1).find((later) => order(event, later) < 0);
    return next === undefined || next.op === 'prune' ? [event.print] : [];
  });
}

type Get = (column: string) => unknown;

async function readRows(file: string, row: (get: Get) => void): Promise<void> {
  const buffer = await asyncBufferFromFile(file);
  const footer = await parquetMetadataAsync(buffer);
  const metadata = plainDecimals(footer);
  const columns = footer.schema.filter((element) => element.num_children === undefined).map((element) => element.name);
  const scales = new Map(footer.schema.filter((element) => element.scale !== undefined).map((element) => [element.name, element.scale as number]));
  let start = 0;
  for (const group of footer.row_groups) {
    const count = Number(group.num_rows);
    const data = new Map<string, unknown[]>(columns.map((name) => [name, new Array(count).fill(null)]));
    await parquetRead({
      file: buffer,
      metadata,
      rowStart: start,
      rowEnd: start + count,
      compressors,
      parsers: PARSERS as never,
      utf8: false,
      onChunk: (chunk) => {
        const target = data.get(chunk.columnName) as unknown[];
        for (let i = 0; i < chunk.columnData.length; i += 1) {
          const at = chunk.rowStart + i - start;
          const value: unknown = chunk.columnData[i];
          if (at >= 0 && at < count) target[at] = scales.has(chunk.columnName) ? decimal(value, scales.get(chunk.columnName) as number) : value;
        }
      },
    });
    for (let i = 0; i < count; i += 1) row((column) => data.get(column)?.[i] ?? null);
    start += count;
  }
}

/** Without the annotation the reader leaves decimals as integers or bytes instead of making doubles of them. */
function plainDecimals(footer: FileMetaData): FileMetaData {
  return {
    ...footer,
    schema: footer.schema.map((element) => {
      if (element.scale === undefined) return element;
      const { converted_type: _c, logical_type: _l, ...bare } = element;
      return bare;
    }),
  };
}

/** An integer, or big-endian two's complement, with `scale` digits behind the point. */
function decimal(value: unknown, scale: number): string | null {
  if (value === null || value === undefined) return null;
  const unscaled =
    value instanceof Uint8Array ? BigInt.asIntN(value.length * 8, BigInt(`0x${Buffer.from(value).toString('hex')}`)) : BigInt(value as number | bigint);
  const text = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0');
  const point = scale === 0 ? text : `${text.slice(0, -scale)}.${text.slice(-scale)}`;
  return unscaled < 0n ? `-${point}` : point;
}

/** The counterpart of normalText for values that the reader decoded. */
function normalValue(type: string, value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (type === 'boolean') return value ? 't' : 'f';
  return String(value);
}
