/**
 * Bugs planted into a copy of the compiled program to see whether they are caught: each one edit of one file, whose text must be there exactly once. The program itself knows nothing of
 * them. What catches a plant is a campaign with the faults that provoke it or, where no campaign can see it or only with luck, a named test run in the patched copy.
 */
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The clone, and its compiled program. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

export type Plant = {
  readonly name: string;
  /** Below `dist`. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Faults of the campaign that provokes it (empty: none), or the file and title of the test that finds it. */
  readonly by: { readonly faults: readonly string[]; readonly volume?: true } | { readonly test: string; readonly title: string };
};

export const PLANTS: readonly Plant[] = [
  {
    name: 'no-file-fsync',
    file: 'src/segment/durable-file.js',
    find: '            await this.#handle.sync();\n',
    replace: '',
    by: { faults: ['power-cut'], volume: true },
  },
  {
    name: 'no-folder-fsync',
    file: 'src/archive/put.js',
    find: '    const handle = await open(dir, constants.O_RDONLY);\n    try {\n        await handle.sync();\n',
    replace: '    const handle = await open(dir, constants.O_RDONLY);\n    try {\n',
    by: { test: 'archive/manifest.test.js', title: 'F38: what a writer linked itself' },
  },
  {
    name: 'short-write-ignored',
    file: 'src/archive/put.js',
    find: '    while (at < bytes.length) {',
    replace: '    if (at < bytes.length) {',
    by: { test: 'archive/put.test.js', title: 'a write that the volume takes only a part of' },
  },
  {
    name: 'failed-fsync-retried',
    file: 'src/segment/durable-file.js',
    find: 'await this.#handle.sync();',
    replace: 'await this.#handle.sync().catch(() => this.#handle.sync());',
    by: { test: 'segment/durable-file.test.js', title: 'whichever call fails' },
  },
  {
    name: 'rename-instead-of-link',
    file: 'src/archive/put.js',
    find: 'await link(temporary, file)',
    replace: `await (await import('node:fs/promises')).rename(temporary, file)`,
    by: { faults: ['two-archivers'] },
  },
  {
    name: 'slot-confirmed-at-puback',
    file: 'services/capture/streaming.js',
    find: 'const lsn = confirmable({ archive, epoch, archived: ours, received: this.#replication.received, confirmed: this.#confirmed, anchored: anchor.proved });',
    replace: 'const lsn = anchor.proved && this.#boundary.lsn > this.#confirmed ? this.#boundary.lsn : undefined;',
    by: { faults: [] },
  },
  {
    name: 'slot-confirmed-on-keepalive',
    file: 'src/wal/replication.js',
    find: '        if (asked)\n            this.#send(LSN_ZERO);',
    replace: '        this.#send(walEnd);',
    by: { faults: [] },
  },
  {
    name: 'acknowledge-end-plus-1',
    file: 'src/wal/replication.js',
    find: 'this.#send(position);',
    replace: 'this.#send(position + 1n);',
    by: { faults: ['kill-capture'] },
  },
  {
    name: 'slot-ahead-unchecked',
    file: 'src/wal/slot.js',
    find: 'if (!atStart && (limit === undefined || slot.confirmed > limit)) {',
    replace: 'if (false) {',
    by: { test: 'services/capture/halts.test.js', title: 'named halts: slot dropped, slot advanced' },
  },
  {
    name: 'timeline-ignored',
    file: 'src/wal/slot.js',
    find: 'const found = server.timeline === epoch.timeline ? undefined : judgeFork(',
    replace: 'const found = true ? undefined : judgeFork(',
    by: {
      test: 'services/capture/halts.test.js',
      title: 'a server in recovery is waited for; promoted, it carries the epoch on only when its fences come again',
    },
  },
  {
    name: 'dedupe-by-change-lsn',
    file: 'src/position/span.js',
    find: 'if (comparePositions(span.end, mine) <= 0)',
    replace: 'if (span.end.lsn <= mine.lsn)',
    by: { faults: [] },
  },
  {
    name: 'xmin-condition-dropped',
    file: 'src/prune/eligible.js',
    find: 'return `age(xmin) > age(${quoteLiteral(horizon)}::xid8::xid)`;',
    replace: `return 'true';`,
    by: { faults: [] },
  },
  {
    name: 'comparison-skipped',
    file: 'src/prune/compare.js',
    find: 'if (target.columns.every(isEqual))',
    replace: 'if (target.columns.length > 0)',
    // A campaign sees it only when a table is rewritten at the right moment.
    by: { test: 'prune/decide.test.js', title: 'a row is equal only when every column is' },
  },
  {
    name: 'foreign-key-cascade-allowed',
    file: 'src/prune/eligible.js',
    find: `return ['true', ...target.references.map(({ refers }) => \`NOT \${refers}\`)].join(' AND ');`,
    replace: `return 'true';`,
    by: { faults: [] },
  },
  {
    name: 'prune-taken-for-user-delete',
    file: 'services/archiver/transactions.js',
    find: `if (op === 'delete' && this.#pruned === oid)`,
    replace: 'if (false)',
    by: { faults: [] },
  },
  {
    name: 'unchanged-toast-as-null',
    file: 'src/segment/builder.js',
    find: 'const found = resolved?.get(i);',
    replace: 'const found = null;',
    by: { faults: [] },
  },
  {
    name: 'int8-as-a-javascript-number',
    file: 'src/segment/columns.js',
    find: `[OID.int8]: plain('BIGINT', String, PLACES.integers),`,
    replace: `[OID.int8]: { ...plain('BIGINT', (raw) => String(Number(raw))), places: undefined, select: (c) => \`CAST(CAST(\${c} AS DOUBLE) AS BIGINT)\` },`,
    by: { faults: [] },
  },
  {
    name: 'milliseconds-for-microseconds',
    file: 'src/segment/columns.js',
    find: `[OID.timestamptz]: plain('TIMESTAMPTZ', utcText, PLACES.moments('+00', utcText), momentUtc, '±infinity, BC, years above 9999'),`,
    replace: `[OID.timestamptz]: { ...plain('TIMESTAMPTZ', utcText, PLACES.moments('+00', utcText), momentUtc, ''), select: (c) => \`date_trunc('milliseconds', \${c})\` },`,
    by: { faults: [] },
  },
];

/** The text of a compiled file with the bug in it. Throws unless the place is there exactly once. */
export async function planted({ name, file, find, replace }: Plant): Promise<string> {
  const text = await readFile(path.join(ROOT, 'dist', file), 'utf8');
  const parts = text.split(find);
  if (parts.length !== 2) throw new Error(`${name}: its place is ${parts.length - 1} times in ${file}: ${find}`);
  return parts.join(replace);
}

/** A copy of the compiled program in a temporary folder, with the bug in it when there is one. */
export class PatchedCopy implements AsyncDisposable {
  static readonly #there = new Set<PatchedCopy>();
  readonly dir: string;
  private constructor(dir: string) {
    this.dir = dir;
    PatchedCopy.#there.add(this);
  }

  /** Leaves nothing behind when somebody stops us. */
  static async endAll(): Promise<void> {
    for (const copy of PatchedCopy.#there) await copy[Symbol.asyncDispose]();
  }

  static async of(plant: Plant | undefined): Promise<PatchedCopy> {
    const dir = await mkdtemp(path.join(tmpdir(), 'tidemark-planted-'));
    await cp(path.join(ROOT, 'dist'), path.join(dir, 'dist'), { recursive: true });
    for (const name of ['node_modules', 'package.json', 'infra', 'docs', 'test']) await symlink(path.join(ROOT, name), path.join(dir, name));
    if (plant !== undefined) await writeFile(path.join(dir, 'dist', plant.file), await planted(plant));
    return new PatchedCopy(dir);
  }

  get services(): string {
    return path.join(this.dir, 'dist/services');
  }

  /** A test that ran out of time may leave services behind. */
  async #endProcesses(): Promise<void> {
    for (const pid of await readdir('/proc').catch(() => [])) {
      const command = /^\d+$/.test(pid) ? await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '') : '';
      if (command.includes(`${this.dir}/dist/`)) process.kill(Number(pid), 'SIGKILL');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    PatchedCopy.#there.delete(this);
    await this.#endProcesses();
    await rm(this.dir, { recursive: true, force: true });
  }
}
