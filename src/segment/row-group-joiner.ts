/**
 * Parquet files of one form, one behind the other in one file: their row groups are copied as they are, only the footer is written anew. So a file of any size is sorted a part at a time.
 * Source: Apache Parquet, parquet.thrift: FileMetaData, RowGroup, ColumnMetaData.
 */
import { open } from 'node:fs/promises';
import parquetTypes from '@dsnp/parquetjs/dist/gen-nodejs/parquet_types.js';
import { cloneInteger, decodeThrift, serializeThrift } from '@dsnp/parquetjs/dist/lib/util.js';

type FileHandle = Awaited<ReturnType<typeof open>>;
type Footer = InstanceType<typeof parquetTypes.FileMetaData>;
type Int64 = Parameters<typeof cloneInteger>[0];

const MAGIC = Buffer.from('PAR1');
const PIECE = 1024 * 1024;
/** Length of the footer and magic. */
const TAIL = 8;

export class RowGroupJoiner {
  readonly #target: FileHandle;
  readonly #piece = Buffer.allocUnsafe(PIECE);
  #footer: Footer | undefined;
  #at = MAGIC.length;

  private constructor(target: FileHandle) {
    this.#target = target;
  }

  /** `file`: is there, and empty. */
  static async into(file: string): Promise<RowGroupJoiner> {
    const target = await open(file, 'r+');
    const joiner = new RowGroupJoiner(target);
    await target.write(MAGIC, 0, MAGIC.length, 0).catch(async (error: unknown) => {
      await target.close();
      throw error;
    });
    return joiner;
  }

  /** Copies the row groups of `file`. Throws an Error when its columns are not those of the files before, or it is no Parquet file. */
  async append(file: string): Promise<void> {
    const source = await open(file, 'r');
    try {
      const { size } = await source.stat();
      const tail = await read(source, size - TAIL, TAIL);
      if (!tail.subarray(4).equals(MAGIC)) throw new Error(`${file} is not a Parquet file`);
      const end = size - TAIL - tail.readUInt32LE(0);
      const footer = new parquetTypes.FileMetaData();
      decodeThrift(footer, await read(source, end, tail.readUInt32LE(0)));
      this.#take(file, footer);
      for (let at = MAGIC.length; at < end; ) {
        const { bytesRead } = await source.read(this.#piece, 0, Math.min(PIECE, end - at), at);
        if (bytesRead === 0) throw new Error(`${file} became shorter while it was read`);
        await this.#write(this.#piece.subarray(0, bytesRead));
        at += bytesRead;
      }
    } finally {
      await source.close();
    }
  }

  #take(file: string, footer: Footer): void {
    const shift = this.#at - MAGIC.length;
    for (const group of footer.row_groups) {
      delete group.ordinal; // optional, and an i16
      move(group, ['file_offset'], shift);
      for (const column of group.columns) {
        move(column, ['file_offset', 'offset_index_offset', 'column_index_offset'], shift);
        if (column.meta_data !== undefined)
          move(column.meta_data, ['data_page_offset', 'dictionary_page_offset', 'index_page_offset', 'bloom_filter_offset'], shift);
      }
    }
    const before = this.#footer;
    if (before === undefined) {
      this.#footer = footer;
      return;
    }
    if (JSON.stringify(before.schema) !== JSON.stringify(footer.schema)) throw new Error(`${file} has other columns than the files before it`);
    before.row_groups.push(...footer.row_groups);
    before.num_rows = int64(Number(before.num_rows) + Number(footer.num_rows));
  }

  async #write(bytes: Buffer): Promise<void> {
    let written = 0;
    while (written < bytes.length) written += (await this.#target.write(bytes, written, bytes.length - written, this.#at + written)).bytesWritten;
    this.#at += bytes.length;
  }

  /** Writes the footer and closes the file; it is not durable yet. */
  async finish(): Promise<void> {
    try {
      if (this.#footer === undefined) throw new Error('a file of no parts');
      const footer = serializeThrift(this.#footer);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(footer.length);
      await this.#write(Buffer.concat([footer, length, MAGIC]));
    } catch (error) {
      await this.close();
      throw error;
    }
    await this.#target.close();
  }

  /** Closes the file as it is, for want of a part. */
  async close(): Promise<void> {
    await this.#target.close().catch(() => undefined);
  }
}

/** Moves offsets that are there; 0 says that there is none. */
function move<K extends string>(of: Partial<Record<K, Int64>>, names: readonly K[], shift: number): void {
  for (const name of names) {
    const offset = Number(of[name] ?? 0);
    if (offset > 0) of[name] = int64(offset + shift);
  }
}

/** It takes whatever has a value. */
function int64(value: number): Int64 {
  return cloneInteger(value as unknown as Int64);
}

async function read(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  const { bytesRead } = await file.read(bytes, 0, length, position);
  if (bytesRead < length) throw new Error('a Parquet file ends in its footer');
  return bytes;
}
