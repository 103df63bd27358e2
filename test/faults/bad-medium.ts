/** The disk has lost what the page cache still holds (F42): `verify` reads past it. A file system in an image, whose bytes are changed behind its back. Needs root, losetup and mkfs.ext4. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { hashFile } from '../../src/segment/durable-file.js';
import { Pipeline } from '../pipeline/pipeline.js';
import { TICKS_SCHEMA, TICKS_TABLES, Ticks } from '../pipeline/ticks.js';

export async function badMedium(major?: number): Promise<string> {
  if (process.getuid?.() !== 0) return 'not tried: needs root';
  const home = mkdtempSync(path.join(tmpdir(), 'tidemark-medium-'));
  const image = path.join(home, 'image');
  const mounted = path.join(home, 'mounted');
  mkdirSync(mounted);
  const run = (program: string, ...args: string[]): void => void execFileSync(program, args, { stdio: 'pipe' });
  try {
    run('truncate', '-s', '64M', image);
    run('mkfs.ext4', '-q', '-F', image);
    run('mount', '-o', 'loop', image, mounted);
    try {
      await using pipeline = await Pipeline.start({
        schema: TICKS_SCHEMA,
        tables: TICKS_TABLES,
        archiveDir: path.join(mounted, 'archived_data'),
        ...(major === undefined ? {} : { major }),
      });
      const ticks = new Ticks(pipeline);
      await ticks.insert(500, 48);
      await pipeline.doctorFix();
      const services = (['archiver', 'capture'] as const).map((name) => pipeline.service(name));
      const state = await pipeline.archived();
      for (const service of services) await service.stop();
      run('sync', '-f', mounted);
      const entry = [...state.files.values()].find((file) => file.table === 'ticks' && file.kind === 'segment');
      assert.ok(entry);
      const file = path.join(pipeline.archiveDir, entry.file);
      const sound = readFileSync(file); // now in the page cache
      const at = readFileSync(image).indexOf(sound.subarray(64, 512));
      assert.ok(at > 0, 'the file is found in the image');
      const medium = openSync(image, 'r+');
      writeSync(medium, Buffer.from([(sound[264] as number) ^ 1]), 0, 1, at + 200);
      closeSync(medium);
      assert.equal(await hashFile(file), entry.sha256, 'the page cache still holds the good bytes');
      const { code, stdout } = await pipeline.cli(['verify', '-c', pipeline.configFile]);
      assert.equal(code, 4, stdout);
      assert.match(stdout, new RegExp(`DAMAGED +${entry.file}: its SHA-256`));
      return `${entry.file} is named, while the page cache calls it sound`;
    } finally {
      run('umount', mounted);
    }
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}
