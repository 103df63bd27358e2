/** A small file system of its own for the archive (loop-mounted ext4), whose power can be cut: what was not fsynced is gone, names too. Needs root and loop devices. */
import { execFile } from 'node:child_process';
import { mkdir, rm, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { until } from '../pipeline/pipeline.js';

const execute = promisify(execFile);
/** As harsh as a file system may be: neither names nor data reach the disk before somebody asks. ext4 otherwise writes truncated files back at their close, and its journal every 5 s. */
const OPTIONS = 'loop,noauto_da_alloc,data=writeback,commit=300';
/** EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: nothing more reaches the disk, not even the journal. */
const CUT = `open(my $f, "<", $ARGV[0]) or die $!; ioctl($f, 0x8004587D, my $flag = pack("L", 2)) or die $!`;

export class Volume implements AsyncDisposable {
  readonly dir: string;
  readonly #image: string;

  private constructor(base: string) {
    this.dir = `${base}.volume`;
    this.#image = `${base}.image`;
  }

  /** `base`: a path that is free; the volume is mounted at `base`.volume. Undefined where this machine has none, with the reason said to `refused`. */
  static async make(base: string, megabytes: number, refused: (reason: string) => void): Promise<Volume | undefined> {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) {
      refused('a volume of its own needs Linux and root');
      return undefined;
    }
    const volume = new Volume(base);
    try {
      await writeFile(volume.#image, '');
      await truncate(volume.#image, megabytes * 1024 * 1024);
      await execute('mkfs.ext4', ['-q', '-F', '-m', '0', volume.#image]);
      await mkdir(volume.dir);
      await volume.mount();
      await execute('perl', ['-e', '1']);
      return volume;
    } catch (error) {
      refused((error as Error).message.split('\n')[0] ?? '');
      await volume[Symbol.asyncDispose]();
      return undefined;
    }
  }

  async mount(): Promise<void> {
    await execute('mount', ['-o', OPTIONS, this.#image, this.dir]);
  }

  /** From here on nothing is written; what is asked for fails. */
  async cut(): Promise<void> {
    await execute('perl', ['-e', CUT, this.dir]);
  }

  /** When nobody has a file open there any more: as after switching on again. */
  async remount(): Promise<void> {
    await until('the volume is unmounted', () => execute('umount', [this.dir]).then(() => true), 20_000);
    await this.mount();
  }

  /** Leaves `bytes` of it free. */
  async fill(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.dir);
    const size = bavail * bsize - bytes;
    if (size > 0) await execute('fallocate', ['-l', String(size), `${this.dir}/filler`]).catch(() => undefined);
  }

  /** Gives so many bytes of it back. */
  async ease(bytes: number): Promise<void> {
    const filler = `${this.dir}/filler`;
    const { size } = await stat(filler);
    await truncate(filler, Math.max(0, size - bytes));
  }

  async free(): Promise<void> {
    await rm(`${this.dir}/filler`, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (let tries = 0; tries < 50; tries += 1) {
      const mounted = await execute('mountpoint', ['-q', this.dir]).then(
        () => true,
        () => false,
      );
      if (!mounted) break;
      await execute('umount', tries < 40 ? [this.dir] : ['-l', this.dir]).catch(() => new Promise((resolve) => setTimeout(resolve, 100)));
    }
    await rm(this.dir, { recursive: true, force: true });
    await rm(this.#image, { force: true });
  }
}
