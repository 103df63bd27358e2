/**
 * A small file system of one's own, mounted from a file, whose power can be cut: EXT4_IOC_SHUTDOWN with flag 2 (no log flush) makes everything vanish that was not synced,
 * names included; it is mounted again afterwards as a machine would after a power cut. ext4 and xfs know the ioctl by the same number.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, open, rm, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { findExecutable } from '../../services/demo/engines/process.js';

const execute = promisify(execFile);

export type FileSystemKind = 'ext4' | 'xfs';

/** Mount options of ext4 as harsh as they may be: neither names nor data reach the disk before somebody asks. It otherwise writes truncated files back at their close, and its journal every 5 s. */
export const HARSH = 'noauto_da_alloc,data=writeback,commit=300';

/** Thrown when this machine cannot mount such a volume: the case is skipped, never passed. */
export class CannotInject extends Error {}

const MAKE: Readonly<Record<FileSystemKind, readonly string[]>> = {
  ext4: ['mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'lazy_itable_init=0,lazy_journal_init=0'],
  xfs: ['mkfs.xfs', '-q', '-f'],
};

export class Volume implements AsyncDisposable {
  readonly dir: string;
  readonly #home: string;
  readonly #options: string;
  #mounted = false;

  private constructor(home: string, options: string) {
    this.#home = home;
    this.#options = options;
    this.dir = path.join(home, 'volume');
  }

  /** `options`: of mount. Throws CannotInject. */
  static async create(kind: FileSystemKind, megabytes: number, options = 'defaults'): Promise<Volume> {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) throw new CannotInject('needs Linux and root to mount a volume');
    const [tool, ...more] = MAKE[kind] as [string, ...string[]];
    if (kind === 'xfs' && findExecutable(tool) === undefined) await execute('apt-get', ['install', '-y', 'xfsprogs']).catch(() => undefined);
    if (findExecutable(tool) === undefined) throw new CannotInject(`${tool} is not on this machine`);
    const volume = new Volume(await mkdtemp(path.join(tmpdir(), 'tidemark-volume-')), options);
    try {
      await writeFile(volume.#image, '');
      await truncate(volume.#image, megabytes * 1024 * 1024);
      await execute(tool, [...more, volume.#image]);
      await chmod(volume.#home, 0o755); // the database server runs as somebody else
      await mkdir(volume.dir);
      await volume.mount();
    } catch (error) {
      await volume[Symbol.asyncDispose]();
      throw new CannotInject(`no ${kind} volume can be mounted here (${String((error as { stderr?: string }).stderr ?? error).trim()})`);
    }
    return volume;
  }

  get #image(): string {
    return path.join(this.#home, 'image');
  }

  async mount(): Promise<void> {
    await execute('mount', ['-o', `loop,${this.#options}`, this.#image, this.dir]);
    this.#mounted = true;
  }

  /** From now on the volume answers with errors, and what was not synced is gone. */
  async cutPower(): Promise<void> {
    await execute('perl', ['-e', 'open(my $d, "<", $ARGV[0]) or die $!; my $flag = pack("L", 2); ioctl($d, 0x8004587D, $flag) or die $!;', this.dir]);
  }

  /** Waits until nobody uses the volume any more. */
  async unmount(): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await execute('umount', [this.dir]);
        this.#mounted = false;
        return;
      } catch (error) {
        if (attempt === 100) throw error;
        await pause(100);
      }
    }
  }

  get #filler(): string {
    return path.join(this.dir, 'filler');
  }

  /** Fills it but for `leave` bytes; with 0 to its last byte. */
  async fill(leave = 0): Promise<void> {
    if (leave > 0) {
      const { bavail, bsize } = await statfs(this.dir);
      const size = bavail * bsize - leave;
      if (size > 0) await execute('fallocate', ['-l', String(size), this.#filler]).catch(() => undefined);
      return;
    }
    const handle = await open(this.#filler, 'w');
    try {
      for (const size of [1 << 20, 4096]) {
        try {
          for (;;) await handle.write(Buffer.alloc(size));
        } catch (error) {
          if ((error as { code?: string }).code !== 'ENOSPC') throw error;
        }
      }
    } finally {
      await handle.close();
    }
  }

  /** Gives so many bytes of what was filled back. */
  async ease(bytes: number): Promise<void> {
    const { size } = await stat(this.#filler);
    await truncate(this.#filler, Math.max(0, size - bytes));
  }

  /** Gives all of it back, for good: what is removed and not synced would be there again after a power cut. */
  async free(): Promise<void> {
    await rm(this.#filler, { force: true });
    const folder = await open(this.dir, 'r');
    await folder.sync().finally(() => folder.close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#mounted) await execute('umount', ['-l', this.dir]).catch(() => undefined);
    await rm(this.#home, { recursive: true, force: true });
  }
}
