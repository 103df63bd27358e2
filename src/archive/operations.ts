/** The record that operations of a person leave in the archive folder, and the brake on pruning: one JSON line each, one small file. Decides nothing. */
import { readFile, rm } from 'node:fs/promises';
import { appendLines } from './json-lines.js';
import { archivePaths } from './layout.js';
import { putIfAbsent, storageError, syncFolder } from './put.js';

/** What was done, beside its `type` and when. Never a secret or a row. */
export type OperationRecord = {
  readonly type: 'teardown' | 'resync' | 'adopt' | 'repair' | 'pause' | 'resume' | 'accept' | 'restore' | 'undo-prune';
} & Readonly<Record<string, unknown>>;

/** Appends to `_tidemark/operations.jsonl`, durable when it resolves. */
export async function recordOperation(dir: string, record: OperationRecord): Promise<void> {
  const { type, ...more } = record;
  await appendLines(archivePaths(dir).operations, [{ type, at: new Date().toISOString(), ...more }]);
}

/** Pruning stands still since then. */
export type Pause = { readonly at: string; readonly reason: string };

/** The brake that is on; undefined: none. A file that cannot be read is a brake too. */
export async function readPause(dir: string): Promise<Pause | undefined> {
  let text: string;
  try {
    text = await readFile(archivePaths(dir).pause, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw storageError(error);
  }
  try {
    const { at, reason } = JSON.parse(text) as Partial<Pause>;
    return { at: String(at), reason: String(reason) };
  } catch {
    return { at: 'some time', reason: 'its file cannot be read' };
  }
}

/** Puts the brake on, durable when it resolves. False: it was on already. */
export async function putPause(dir: string, reason: string): Promise<boolean> {
  const { pause, temporary } = archivePaths(dir);
  const set: Pause = { at: new Date().toISOString(), reason };
  if (!(await putIfAbsent(pause, Buffer.from(`${JSON.stringify(set)}\n`), { temporary }))) return false;
  await recordOperation(dir, { type: 'pause', reason });
  return true;
}

/** Takes it off. */
export async function removePause(dir: string): Promise<void> {
  await recordOperation(dir, { type: 'resume' });
  await rm(archivePaths(dir).pause, { force: true });
  await syncFolder(archivePaths(dir).own);
}

/** What a person sees of a brake. */
export function describePause({ at, reason }: Pause): string {
  return `paused since ${at}${reason === '' ? '' : ` (${reason})`}`;
}
