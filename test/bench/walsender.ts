/** What decoding costs the server, and which settings change it: pg_recvlogical, to /dev/null, reads the same WAL under each of them. No service of ours runs. */
import { findClientTool } from '../pipeline/client-tools.js';
import { alternate, type Benchmark, type Comparison, type Measured, ratio } from './frame.js';
import { type Decoding, decode } from './recvlogical.js';
import { MadeRows, TRADES } from './trades.js';

const ROWS = 500_000;
const ROUNDS = 3;

type Setting = {
  readonly name: string;
  /** What is in the WAL: one statement of all rows, or transactions of ten. */
  readonly load: 'one' | 'small';
  /** Of the plugin, beside its version and publication. */
  readonly options?: readonly string[];
  readonly version?: number;
  readonly publication?: string;
  /** Of the session. */
  readonly workMem?: string;
};

/** The first of each load is what the others are compared with: how capture reads, but for the server's own settings. */
const SETTINGS: readonly Setting[] = [
  { name: 'one transaction, as capture reads it', load: 'one' },
  { name: 'logical_decoding_work_mem = 1GB: no spilling to disk', load: 'one', workMem: '1GB' },
  { name: 'streaming of transactions that run (proto_version 2)', load: 'one', version: 2, options: ['streaming=on'] },
  { name: 'binary values', load: 'one', options: ['binary=true'] },
  { name: 'a publication without the table', load: 'one', publication: 'nothing' },
  { name: 'a publication of all tables', load: 'one', publication: 'everything' },
  { name: 'transactions of ten rows, as capture reads them', load: 'small' },
  { name: 'logical_decoding_work_mem = 1GB', load: 'small', workMem: '1GB' },
  { name: 'a publication without the table', load: 'small', publication: 'nothing' },
];

function decodingOf({ version = 1, publication = 'tidemark_test', options = [], workMem }: Setting): Pick<Decoding, 'options' | 'session'> {
  return {
    options: [`proto_version=${version}`, `publication_names=${publication}`, ...options],
    session: workMem === undefined ? undefined : `-c logical_decoding_work_mem=${workMem}`,
  };
}

export const walsender: Benchmark = {
  name: 'walsender',
  about: `decoding ${ROWS} trades under several settings`,
  run: async (_scratch, say): Promise<readonly Comparison[] | { readonly skipped: string }> => {
    await using made = await MadeRows.start(
      { ...TRADES, rows: ROWS, age: '1 hour' },
      { postgres: { max_wal_size: '16GB', max_replication_slots: '40', shared_buffers: '512MB' } },
    );
    const { pipeline } = made;
    const tool = await findClientTool('pg_recvlogical', pipeline);
    if (tool === undefined) return { skipped: 'there is no pg_recvlogical on this machine' };
    await pipeline.query('CREATE TABLE other (id int PRIMARY KEY)');
    await pipeline.query('CREATE PUBLICATION nothing FOR TABLE other');
    await pipeline.query('CREATE PUBLICATION everything FOR ALL TABLES');
    const comparisons: Comparison[] = [];
    for (const load of ['one', 'small'] as const) {
      // A slot is read once: each measurement has its own, made before the rows.
      const [usual, ...others] = SETTINGS.filter((setting) => setting.load === load) as [Setting, ...Setting[]];
      const slotOf = (side: string, index: number, round: number): string => `${side}_${index}_${round}`;
      for (const index of others.keys()) {
        for (let round = 0; round < ROUNDS; round += 1) {
          for (const side of ['usual', 'other']) await pipeline.query(`SELECT pg_create_logical_replication_slot('${slotOf(side, index, round)}', 'pgoutput')`);
        }
      }
      await pipeline.query('SET synchronous_commit = off');
      if (load === 'one') await pipeline.query(made.insert(1, ROWS));
      else {
        const ten = made.insert('i * 10 + 1', '(i + 1) * 10');
        await pipeline.query(`DO $$ BEGIN FOR i IN 0..${ROWS / 10 - 1} LOOP ${ten}; COMMIT; END LOOP; END $$`);
      }
      await pipeline.query('CHECKPOINT');
      const [{ lsn }] = (await pipeline.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn')) as [{ lsn: string }];
      await pipeline.query('INSERT INTO beat DEFAULT VALUES');
      for (const [index, setting] of others.entries()) {
        const runs = await alternate(
          ROUNDS,
          { name: usual.name, run: (round) => decode(pipeline, { tool, slot: slotOf('usual', index, round), end: lsn, rows: ROWS, ...decodingOf(usual) }) },
          { name: setting.name, run: (round) => decode(pipeline, { tool, slot: slotOf('other', index, round), end: lsn, rows: ROWS, ...decodingOf(setting) }) },
          say,
        );
        const cpu = (side: 'baseline' | 'tidemark'): Measured[] => runs.map((run) => ({ ...run[side], seconds: run[side].cpu?.['walsender'] ?? Number.NaN }));
        const ofCpu = ratio({
          of: 'seconds',
          runs: runs.map((_, i) => ({ baseline: cpu('baseline')[i] as Measured, tidemark: cpu('tidemark')[i] as Measured })),
        });
        comparisons.push({
          what: setting.name,
          of: 'seconds',
          target: 'none: it says what a setting costs',
          baseline: usual.name,
          runs,
          notes: [`${ofCpu.median.toFixed(2)} of the walsender's CPU (${ofCpu.least.toFixed(2)}–${ofCpu.most.toFixed(2)})`],
        });
      }
      await pipeline.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name ~ '^(usual|other)_'");
    }
    return comparisons;
  },
};
