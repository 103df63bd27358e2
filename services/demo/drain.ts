/** The end of the load: everything archived, every old row pruned in at most two runs, their deletes archived too. */
import type pg from 'pg';
import { sleep } from '../../src/runtime/service.js';
import { quoteIdentifier } from '../../src/wal/identifier.js';
import type { TableJournal } from './journal.js';
import type { Load } from './load.js';
import { runCli } from './supervised.js';
import type { Watch } from './watch.js';

export type DrainParts = {
  readonly admin: pg.Client;
  readonly configFile: string;
  readonly journals: readonly TableJournal[];
  readonly watch: Watch;
  readonly load: Load;
};

const DRAIN_MS = 120_000;

/** Waits until all is archived, prunes until no old row is left (twice at most), waits until the deletes are in the archive too. What did not come about in time. */
export async function drain(parts: DrainParts): Promise<string[]> {
  const { admin, configFile, journals, watch, load } = parts;
  const problems: string[] = [];
  const archived = async (what: string): Promise<void> => {
    if (!(await everythingArchived(admin, journals, watch))) problems.push(`not archived within ${DRAIN_MS / 1000} s: ${what}`);
  };
  process.stdout.write('\nload stopped; waiting until everything is archived, then pruning what is left\n');
  await archived('the load');
  if (load.backdated === 0) {
    // The first prune came too late for the load: rows older than the retention shall still arrive after one.
    await runCli(['prune', '--json', '-c', configFile]);
    await load.arriveLate();
    await archived('rows that came late');
  }
  const cutoff = (await admin.query<{ at: string }>(`SELECT (now() AT TIME ZONE 'UTC' - interval '24 hours')::text AS at`)).rows[0]?.at as string;
  for (let run = 1; ; run += 1) {
    const { code, stdout, stderr } = await runCli(['prune', '--json', '-c', configFile]);
    if (code !== 0) problems.push(`prune ended with ${code}: ${(stderr || stdout).slice(0, 500)}`);
    const left = await oldRows(admin, journals, cutoff);
    if (left === 0) break;
    if (run === 2) {
      problems.push(`${left} old rows are still in Postgres after two runs`);
      break;
    }
  }
  await archived('the deletes of the last run');
  return problems;
}

async function oldRows(client: pg.Client, journals: readonly TableJournal[], cutoff: string): Promise<number> {
  let left = 0;
  for (const { table } of journals) {
    const { rows } = await client.query<{ n: string }>(
      `SELECT count(*)::text AS n FROM public.${quoteIdentifier(table.name)} WHERE ${quoteIdentifier(table.timestamp)} < $1`,
      [cutoff],
    );
    left += Number(rows[0]?.n);
  }
  return left;
}

/** One more row is written and journalled: once a fence behind it is archived, so is all before it. */
async function everythingArchived(admin: pg.Client, journals: readonly TableJournal[], watch: Watch): Promise<boolean> {
  const journal = journals.find(({ table }) => table.name === 'job_execution_metrics') as TableJournal;
  const { rows } = await admin.query<(string | null)[]>({
    text: `INSERT INTO public.job_execution_metrics (job_id, started_at, ended_at, duration_ms, status) SELECT 'drain', t, t, 0, 'ok' FROM (SELECT now() AT TIME ZONE 'UTC' AS t) s RETURNING *, xmin::text`,
    rowMode: 'array',
  });
  const row = rows[0] as (string | null)[];
  const xid = BigInt(row.pop() as string);
  journal.committed([row]);
  for (const deadline = Date.now() + DRAIN_MS; Date.now() < deadline; ) {
    const fence = watch.state?.fences.at(-1);
    if (fence && BigInt(fence.horizon) > xid) return true;
    await sleep(100);
  }
  return false;
}
