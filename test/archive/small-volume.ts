/** A small volume in memory, to be filled. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export type SmallVolume = { readonly dir: string; readonly unmount: () => void };

/** Mounts a tmpfs of `bytes`; the reason where that is not allowed. */
export function smallVolume(bytes: number): SmallVolume | string {
  const dir = mkdtempSync(path.join(tmpdir(), 'tidemark-small-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', dir], { stdio: 'pipe' });
  } catch (error) {
    rmSync(dir, { recursive: true });
    return `no small volume can be mounted here (${String((error as { stderr?: Buffer }).stderr ?? error).trim()})`;
  }
  return {
    dir,
    unmount: () => {
      execFileSync('umount', ['-l', dir], { stdio: 'pipe' });
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
