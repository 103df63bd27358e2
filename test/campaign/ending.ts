/** How a campaign comes to rest: everything is archived, pruned and sealed, and a person deletes what the pruner leaves. Then what the receipts say. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { until } from '../pipeline/pipeline.js';
import type { Scene } from './faults.js';
import { dayText, type Journal } from './journal.js';
import { addCounts } from './load.js';
import { KINDS, type Kind } from './tables.js';

export type Ending = {
  readonly kinds: readonly Kind[];
  readonly journal: Journal;
  readonly retentionS: number;
  readonly patienceMs: number;
  /** Something is wrong already: there is nothing more to wait for. */
  readonly bad: () => boolean;
  readonly say: (what: string) => void;
};

/** Everything archived, old rows pruned, days that are over empty and sealed. Returns the first day that is still open. */
export async function comeToRest(scene: Scene, ending: Ending): Promise<string> {
  const { kinds: all, journal, retentionS, patienceMs, bad, say } = ending;
  const { pipeline, traffic } = scene;
  const unlessHalted = async <T>(what: string, condition: () => Promise<T | undefined | false>, ms: number): Promise<T> =>
    await until(
      what,
      async () => {
        if (bad()) return 'something is wrong' as T;
        return await condition();
      },
      ms,
    );
  await traffic.end();
  await pipeline.archived(patienceMs);
  say('archived');
  await emptyByHand(scene, journal);
  const kinds = all.filter((kind) => !kind.keyless).map(({ name }) => name);
  const old = kinds.map((name) => `SELECT FROM ${name} WHERE at < now() - interval '${retentionS + 20} seconds'`).join(' UNION ALL ');
  await unlessHalted('every old row is pruned', async () => (await pipeline.query(`SELECT 1 FROM (${old}) o LIMIT 1`)).length === 0, patienceMs);
  say('pruned');
  const { stdout, stderr, code } = await pipeline.cli(['seal', 'f_none', '-c', pipeline.configFile]);
  if (code !== 0) scene.problems.push(`seal f_none: ${stdout}${stderr}`);
  const firstOpen = new Date(Date.now() - retentionS * 1000).toISOString().slice(0, 10);
  await unlessHalted(
    'every finished day is sealed',
    async () => {
      const state = await pipeline.state();
      return [...(state?.files.values() ?? [])].every(({ kind, day, table }) => kind !== 'segment' || table === 'beat' || (day !== null && day >= firstOpen));
    },
    patienceMs,
  );
  return firstOpen;
}

/** Somebody deletes what the pruner leaves: rows without a day, rows without a key, and rows that stand in the way of their parents. */
async function emptyByHand(scene: Scene, journal: Journal): Promise<void> {
  const { pipeline, traffic } = scene;
  await traffic.reconcile();
  const there = await pipeline.query<{ id: string }>('SELECT id FROM f_child');
  if (there.length !== traffic.children.length) scene.problems.push(`${traffic.children.length - there.length} rows of f_child are gone`);
  const parents = await pipeline.query<{ id: string }>('SELECT id FROM f_parent WHERE id IN (SELECT parent FROM f_child)');
  if (parents.length !== traffic.children.length) scene.problems.push('rows that others refer to are gone');
  await pipeline.query('DELETE FROM f_child');
  for (const kind of KINDS) {
    const going = journal.of(kind, 'live').filter((version) => kind.keyless || dayText(version) === 'undated');
    const id = journal.name('t');
    await pipeline.query(
      `BEGIN; INSERT INTO marks VALUES ('${id}'); DELETE FROM ${kind.name} ${kind.keyless ? '' : `WHERE at IS NULL OR at = 'infinity'`}; COMMIT`,
    );
    journal.commit({ id, lane: -1, entries: going.map((end) => ({ end, as: 'deleted' })), asynchronous: false }, 0n);
  }
}

/** Rows that prune runs left, by reason, as their receipts say. */
export async function leftByPruner(archiveDir: string): Promise<Record<string, number>> {
  const folder = path.join(archiveDir, '_tidemark', 'receipts');
  const parts: Record<string, number>[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    for (const line of (await readFile(path.join(folder, name), 'utf8')).split('\n')) {
      if (!line.startsWith('{"type":"run"')) continue;
      for (const { left } of (JSON.parse(line) as { tables: { left: Record<string, number> }[] }).tables) parts.push(left);
    }
  }
  return addCounts(parts);
}
