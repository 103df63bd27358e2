/** Lists the files of a folder for the audit. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';

/** Paths relative to `dir`, `/`-separated, of all files outside the folder `except` at its top. */
export async function listFiles(dir: string, except: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      path
        .relative(dir, path.join(entry.parentPath ?? entry.path, entry.name))
        .split(path.sep)
        .join('/'),
    )
    .filter((file) => !file.startsWith(`${except}/`));
}
