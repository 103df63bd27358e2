/**
 * A small file system of one's own, mounted from a file, whose power can be cut: EXT4_IOC_SHUTDOWN with flag 2 (no log flush) makes everything vanish that was not synced,
 * names included; it is mounted again afterwards as a machine would after a power cut. ext4 and xfs know the ioctl by the same number.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { findExecutable } from '../../services/demo/engines/process.js';

const execute = promisify(execFile);

export type FileSystemKind = 'ext4' | 'xfs';

/** Thrown when this machine cannot mount such a volume: the case is skipped, never passed. */
export class CannotInject extends Error {}

const MAKE: Readonly<Record<FileSystemKind, readonly string[]>> = {
  ext4: ['mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0'],
  xfs: ['mkfs.xfs', '-q', '-f'],
};

export class Volume implements AsyncDisposable {
  readonly dir: string;
  readonly #home: string;
  #mounted = false;

  private constructor(home: string) {
    this.#home = home;
    this.dir = path.join(home, 'volume');
  }

  static async create(kind: FileSystemKind, megabytes: number): Promise<Volume> {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) throw new CannotInject('needs Linux and root to mount a volume');
    const [tool, ...options] = MAKE[kind] as [string, ...string[]];
    if (kind === 'xfs' && findExecutable(tool) === undefined) await execute('apt-get', ['install', '-y', 'xfsprogs']).catch(() => undefined);
    if (findExecutable(tool) === undefined) throw new CannotInject(`${tool} is not on this machine`);
    const volume = new Volume(await mkdtemp(path.join(tmpdir(), 'tidemark-volume-')));
    try {
      await writeFile(volume.#image, '');
      await truncate(volume.#image, megabytes * 1024 * 1024);
      await execute(tool, [...options, volume.#image]);
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
    await execute('mount', ['-o', 'loop', this.#image, this.dir]);
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

  /** Makes the volume larger while it is mounted (ext4). */
  async grow(megabytes: number): Promise<void> {
    await truncate(this.#image, megabytes * 1024 * 1024);
    const { stdout } = await execute('findmnt', ['-n', '-o', 'SOURCE', this.dir]);
    await execute('losetup', ['-c', stdout.trim()]);
    await execute('resize2fs', [stdout.trim()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#mounted) await execute('umount', ['-l', this.dir]).catch(() => undefined);
    await rm(this.#home, { recursive: true, force: true });
  }
}
