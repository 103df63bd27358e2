/**
 * The wall clock held against the time since boot, which goes on while the machine sleeps and which nobody can set: a clock that was set forward is not believed until a person says so (law 12),
 * also when that of Postgres went with it. Owns `_tidemark/clock.json`. Knows nothing of what was set while the machine was down, and nothing where there is no boot id (only Linux has one).
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import path from 'node:path';
import { archivePaths } from '../archive/layout.js';
import { replaceFile, storageError } from '../archive/put.js';
import { CLOCK_TOLERANCE_MS } from './brakes.js';

/** A boot of a machine, and when it was by the clock of now, milliseconds since 1970. */
export type Boot = { readonly id: string; readonly at: number };

const BOOT_ID = '/proc/sys/kernel/random/boot_id'; // random(4)
let bootId: string | undefined;

/** This boot; undefined where it has no name. */
export function thisBoot(): Boot | undefined {
  try {
    bootId ??= readFileSync(BOOT_ID, 'utf8').trim();
  } catch {
    return undefined;
  }
  return { id: bootId, at: Math.round(Date.now() - uptime() * 1000) };
}

/** Pure: why the clock is not believed; undefined: nothing is known against it. A clock that was set back lets no row leave early, nor does it when it returns. */
export function setForward(before: Boot | undefined, now: Boot | undefined): string | undefined {
  if (before === undefined || now === undefined || before.id !== now.id || now.at - before.at <= CLOCK_TOLERANCE_MS) return undefined;
  return `the clock of this machine was set forward by ${Math.round((now.at - before.at) / 1000)} s since a prune of this boot`;
}

/** What is recorded; undefined: nothing that can be read. */
export async function recordedBoot(dir: string): Promise<Boot | undefined> {
  try {
    const { id, at } = JSON.parse(await readFile(archivePaths(dir).clock, 'utf8')) as Partial<Boot>;
    return typeof id === 'string' && typeof at === 'number' ? { id, at } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw storageError(error);
  }
}

/** By the word of a person, or because nothing is known against it: the clock is right. */
export async function believeClock(dir: string, now: Boot): Promise<void> {
  const { own, clock } = archivePaths(dir);
  await replaceFile(own, path.basename(clock), `${JSON.stringify(now)}\n`);
}

/** Before rows are deleted: records a boot that is new, and gives back what tells before each batch why the clock is not believed. */
export async function takeClock(dir: string): Promise<() => string | undefined> {
  const [recorded, now] = [await recordedBoot(dir), thisBoot()];
  const isNew = now !== undefined && recorded?.id !== now.id;
  if (isNew) await believeClock(dir, now);
  const believed = isNew ? now : recorded;
  return () => {
    const seen = setForward(believed, thisBoot());
    return seen === undefined ? undefined : `${seen} → if it is right now: \`tidemark doctor --accept\``;
  };
}
