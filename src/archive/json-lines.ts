/** Records of the archive that only grow: a JSON line each, appended and fsynced. The reader's rule: what is not a whole line of JSON was never acknowledged as written, and counts for nothing. */
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { storageError, syncFolder, writeFully } from './put.js';

/** Appends a JSON line each, durable when it resolves; what a crash has torn ends before them. */
export async function appendLines(file: string, lines: readonly unknown[]): Promise<void> {
  if (lines.length === 0) return;
  try {
    const handle = await open(file, 'a+', 0o640);
    try {
      await writeLines(handle, lines);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await syncFolder(path.dirname(file));
  } catch (error) {
    throw storageError(error);
  }
}

/** Writes them at the end of a file that is open for reading and appending. What a crash has torn there is ended first, so that ours are lines of their own. */
export async function writeLines(handle: FileHandle, lines: readonly unknown[]): Promise<void> {
  const { size } = await handle.stat();
  const last = Buffer.alloc(1);
  if (size > 0) await handle.read(last, 0, 1, size - 1);
  const glue = size > 0 && last[0] !== 0x0a ? '\n' : '';
  await writeFully(handle, Buffer.from(`${glue}${lines.map((line) => `${JSON.stringify(line)}\n`).join('')}`));
}

/** Lines of a file of JSON lines, none when there is no such file. `worth`: what is not is not even parsed. */
export async function* readLines<T>(file: string, worth: (line: string) => boolean = () => true): AsyncGenerator<T> {
  const handle = await open(file, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw storageError(error);
  });
  if (handle === undefined) return;
  await handle.close();
  for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })) {
    if (!worth(line)) continue;
    let parsed: T;
    try {
      parsed = JSON.parse(line) as T;
    } catch {
      continue; // torn by a crash: never acknowledged
    }
    yield parsed;
  }
}
