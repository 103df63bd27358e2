/** The fault table: what can go wrong, by which oracle it is judged, and the cases that provoke it. Rows F1 to F51. */
import { BREAKS } from '../prune/query-breaker.js';
import { damagedSegments, failingCall, full, unmounted } from './archive.js';
import { badMedium } from './bad-medium.js';
import { byTest } from './by-test.js';
import { crashAt, POINTS } from './crash.js';
import { doubleStart } from './double-start.js';
import { failingQuery } from './failing-query.js';
import * as nats from './nats.js';
import { halfOpen, oneSided, unsteady } from './network.js';
import * as postgres from './postgres.js';
import { underPressure } from './pressure.js';
import { starved, stopped, stoppedPruner } from './processes.js';
import { drill } from './restore.js';
import { slotIdle, slotLost } from './slot-lost.js';
import { laggingStandby, plannedSwitchover } from './switchover.js';
import { jumped, suspended } from './time.js';
import { tornManifest, tornManifestWithoutStream } from './torn-manifest.js';

/** `seconds`: how long what takes as long as one likes. */
export type Case = { readonly name: string; run(major?: number, seconds?: number): Promise<string> };

export type Row = {
  readonly id: string;
  readonly fault: string;
  /** Of the list in docs/reliability.md. */
  readonly oracles: string;
  readonly cases: readonly Case[];
  /** Why it is not tried. */
  readonly waits?: string;
};

const test = (file: string, pattern: string): Case => ({ name: `test ${file}`, run: () => byTest(file, pattern) });

const kills = (letters: string): Case[] =>
  POINTS.filter((point) => letters.includes(point[0] as string)).map((point) => ({
    name: `SIGKILL at ${point}`,
    run: (major) => crashAt(point, 1, 'kill', major),
  }));

const cuts = (): Case[] =>
  POINTS.filter((point) => /^(A|K|P[4-7])/.test(point)).map((point, i) => {
    const fileSystem = i % 2 === 0 ? 'ext4' : 'xfs';
    return { name: `power cut of the archive (${fileSystem}) at ${point}`, run: (major) => crashAt(point, 1, { power: 'archive', fileSystem }, major) };
  });

export const ROWS: readonly Row[] = [
  { id: 'F1', fault: 'capture is killed', oracles: 'O1 O4', cases: kills('C') },
  { id: 'F2', fault: 'archiver is killed', oracles: 'O1 O4 O5', cases: [...kills('A'), test('services/archiver/faults', 'F2|F6')] },
  { id: 'F3', fault: 'archiver is killed while sealing', oracles: 'O1 O5', cases: [...kills('K'), test('services/archiver/faults', 'F3')] },
  { id: 'F4', fault: 'pruner is killed', oracles: 'O1 O2', cases: [...kills('P'), test('prune/run', 'outcome is not known')] },
  {
    id: 'F5',
    fault: 'power cut of the archive’s volume, of all volumes',
    oracles: 'O1 O2 O5',
    cases: [
      ...cuts(),
      ...(['A8', 'P6'] as const).map((point) => ({
        name: `power cut of the machine at ${point}`,
        run: (major?: number) => crashAt(point, 1, { power: 'machine', fileSystem: 'ext4' }, major),
      })),
    ],
  },
  {
    id: 'F6',
    fault: 'a process stands still, is replaced, and goes on',
    oracles: 'O1 O2',
    cases: [
      { name: 'each service stopped and replaced', run: stopped },
      { name: 'the pruner stopped inside its transaction', run: stoppedPruner },
      test('services/archiver/lifecycle', 'F6'),
      test('services/archiver/seal', 'F6'),
    ],
  },
  {
    id: 'F7',
    fault: 'no memory; an error that nobody awaits',
    oracles: 'O7',
    cases: [
      { name: 'capture starved', run: (major) => starved('capture', major) },
      { name: 'archiver starved', run: (major) => starved('archiver', major) },
      { name: 'pruner starved', run: (major) => starved('pruner', major) },
      test('runtime/service', 'nobody awaited'),
    ],
  },
  { id: 'F8', fault: 'two of each service at once', oracles: 'O1 O2', cases: [{ name: 'double start', run: doubleStart }] },
  { id: 'F9', fault: 'Postgres restarts, its walsender is ended', oracles: 'O7', cases: [{ name: 'restarts', run: postgres.restarted }] },
  {
    id: 'F10',
    fault: 'Postgres crashes and loses asynchronous commits',
    oracles: 'O1',
    cases: [
      { name: 'immediate stops', run: postgres.crashed },
      { name: 'power cut of the machine', run: (major) => crashAt('C5', 2, { power: 'machine', fileSystem: 'xfs' }, major) },
    ],
  },
  {
    id: 'F11',
    fault: 'failover to a standby, planned and too far behind',
    oracles: 'O1 O7',
    cases: [
      { name: 'planned switchover', run: (major) => plannedSwitchover(Math.max(major ?? 18, 17)) },
      { name: 'lagging standby', run: laggingStandby },
      test('services/capture/halts', 'in recovery is waited for'),
      test('services/cli/resync', 'TIMELINE'),
    ],
  },
  {
    id: 'F12',
    fault: 'the slot is dropped',
    oracles: 'O7',
    cases: [test('services/capture/halts', 'named halts'), test('services/cli/resync', 'SLOT_MISSING')],
  },
  {
    id: 'F13',
    fault: 'the slot is advanced, or dropped and made again',
    oracles: 'O7',
    cases: [test('services/capture/halts', 'named halts'), test('services/cli/resync', 'SLOT_AHEAD')],
  },
  {
    id: 'F14',
    fault: 'Postgres gives the slot up',
    oracles: 'O7',
    cases: [
      { name: 'beyond max_slot_wal_keep_size', run: slotLost },
      { name: 'idle for too long (Postgres 18)', run: (major) => slotIdle(Math.max(major ?? 18, 18)) },
    ],
  },
  {
    id: 'F15',
    fault: 'WAL that the slot holds fills the disk of Postgres',
    oracles: 'O4 O7',
    cases: [{ name: 'the disk is full, then larger', run: postgres.fullDisk }, test('services/cli/operate', 'forecasts the end of a slot')],
  },
  {
    id: 'F16',
    fault: 'the publication is changed',
    oracles: 'O1 O2',
    cases: [test('wal/preflight', 'a publication that'), test('pipeline/changes', 'publication'), test('prune/gap', 'out of the publication')],
  },
  { id: 'F17', fault: 'TRUNCATE', oracles: 'O1', cases: [test('pipeline/changes', 'TRUNCATE')] },
  {
    id: 'F18',
    fault: 'tables dropped, renamed, made again',
    oracles: 'O1',
    cases: [test('pipeline/changes', 'renamed is not archived|dropped and made again')],
  },
  {
    id: 'F19',
    fault: 'columns added, dropped, renamed, retyped',
    oracles: 'O1',
    cases: [test('pipeline/changes', 'a column|a timestamp given|values rewritten|enum')],
  },
  {
    id: 'F20',
    fault: 'replica identity and key changed; unchanged large values',
    oracles: 'O2',
    cases: [
      test('services/archiver/identity', 'key|REPLICA|identity|large'),
      test('services/archiver/earlier-values', 'P11|value'),
      test('pipeline/changes', 'large value'),
    ],
  },
  {
    id: 'F21',
    fault: 'tables that are unlogged, foreign, views, partitions',
    oracles: 'O2',
    cases: [test('wal/preflight', 'a table .* is refused'), test('pipeline/changes', 'partition')],
  },
  {
    id: 'F22',
    fault: 'cascades, triggers, rules, row security, inheritance',
    oracles: 'O2',
    cases: [test('prune/run', 'refuses the table'), test('prune/gap', 'cascad|refuses the batch'), test('prune/references', '.')],
  },
  {
    id: 'F23',
    fault: 'another server, a restored backup, an LSN that went back',
    oracles: 'O7',
    cases: [test('services/capture/halts', 'cold copy'), test('services/cli/resync', 'IDENTITY|LSN_BACKWARD|cold copy')],
  },
  { id: 'F24', fault: 'prepared, sub- and large transactions', oracles: 'O1', cases: [{ name: 'large transactions', run: postgres.largeTransactions }] },
  {
    id: 'F25',
    fault: 'a transaction that is open for long and commits late',
    oracles: 'O2',
    cases: [{ name: 'late commit', run: postgres.lateCommit }, test('services/capture/capture', 'a fence is owed')],
  },
  {
    id: 'F26',
    fault: 'rows move or change under the pruner',
    oracles: 'O2',
    cases: [test('prune/gap', 'VACUUM FULL|CLUSTER|in the gap'), test('pipeline/race', '.')],
  },
  {
    id: 'F27',
    fault: 'NATS is killed and restarted',
    oracles: 'O1 O7',
    cases: [{ name: 'killed five times', run: nats.killed }, test('stream/stream', 'killed again and again')],
  },
  {
    id: 'F28',
    fault: 'NATS loses its unsynced tail in a power cut',
    oracles: 'O1',
    cases: (['ext4', 'xfs'] as const).map((kind) => ({ name: `power cut of all servers on ${kind}`, run: (major) => nats.powerCut(kind, major) })),
  },
  {
    id: 'F29',
    fault: 'the stream’s folder is wiped',
    oracles: 'O1',
    cases: [{ name: 'wiped while down', run: nats.wiped }, test('services/archiver/intake', 'F29')],
  },
  { id: 'F30', fault: 'an older copy of the stream’s folder is put back', oracles: 'O1', cases: [{ name: 'rolled back', run: nats.rolledBack }] },
  {
    id: 'F31',
    fault: 'messages purged, erased, forged',
    oracles: 'O1 O7',
    cases: [
      { name: 'purged', run: (major) => nats.purged('purge', major) },
      { name: 'one erased', run: (major) => nats.purged('erase', major) },
      { name: 'published again by somebody', run: nats.forged },
    ],
  },
  {
    id: 'F32',
    fault: 'bits flip in the stream’s files',
    oracles: 'O1',
    cases: [1, 2, 3].map((seed) => ({ name: `bits of seed ${seed}`, run: (major) => nats.flipped(seed, major) })),
  },
  {
    id: 'F33',
    fault: 'messages delivered again, consumers deleted',
    oracles: 'O1',
    cases: [{ name: 'consumers deleted', run: nats.consumersDeleted }, test('services/archiver/intake', 'law 4')],
  },
  {
    id: 'F34',
    fault: 'the stream is full, its settings are changed',
    oracles: 'O1 O7',
    cases: [{ name: 'settings edited', run: nats.settingsEdited }, test('stream/stream', 'a full stream|settings that could lose')],
  },
  {
    id: 'F35',
    fault: 'rows larger than a message',
    oracles: 'O1',
    cases: [test('services/capture/capture', '8 MB'), test('stream/stream', 'larger than a message'), test('segment/round-trip', '20 MB')],
  },
  {
    id: 'F36',
    fault: 'a chunk that nobody can decode',
    oracles: 'O7',
    cases: [test('services/archiver/intake', 'F36'), test('services/cli/repair', 'POISON')],
  },
  {
    id: 'F37',
    fault: 'the archive’s volume is full',
    oracles: 'O1 O5 O7',
    cases: [
      ...(['ext4', 'xfs'] as const).map((kind) => ({ name: `full ${kind}`, run: (major?: number) => full(kind, major) })),
      test('services/archiver/faults', 'F37|takes claims'),
    ],
  },
  {
    id: 'F38',
    fault: 'the Nth call on the archive fails, N = 1, 2, …',
    oracles: 'O1 O5',
    cases: [
      ...(['open', 'read', 'write', 'short', 'fsync', 'link', 'unlink', 'close'] as const).map((call) => ({
        name: call === 'short' ? 'a write is short' : `${call} fails`,
        run: (major?: number) => failingCall(call, major),
      })),
      test('segment/durable-file', 'whichever call fails'),
      test('archive/receipts', 'F38'),
    ],
  },
  {
    id: 'F39',
    fault: 'the volume turns read-only, goes away, is another one',
    oracles: 'O7',
    cases: [{ name: 'unmounted', run: unmounted }, test('services/archiver/faults', 'F39'), test('archive/manifest', 'F39')],
  },
  {
    id: 'F40',
    fault: 'segments damaged, deleted, exchanged',
    oracles: 'O2 O5',
    cases: [
      { name: 'damaged segments', run: (major) => damagedSegments(1, major) },
      test('services/archiver/seal', 'F40'),
      test('services/archiver/lifecycle', 'F40'),
      test('services/archiver/earlier-values', 'F40'),
    ],
  },
  {
    id: 'F41',
    fault: 'manifests damaged, deleted, forked, older',
    oracles: 'O5',
    cases: [
      test('archive/manifest', 'F41|a gap that appears'),
      { name: 'the newest torn', run: tornManifest },
      { name: 'the newest torn, and no stream', run: tornManifestWithoutStream },
    ],
  },
  { id: 'F42', fault: 'a bad medium behind a good page cache', oracles: 'O5', cases: [{ name: 'bytes changed below the cache', run: badMedium }] },
  { id: 'F43', fault: 'object storage', oracles: '', cases: [], waits: 'the archive is a file system; object storage is not supported' },
  {
    id: 'F44',
    fault: 'clocks jump by two days',
    oracles: 'O2',
    cases: (['database', 'services', 'both'] as const).flatMap((whose) =>
      [48, -48].map((hours) => ({ name: `${whose} ${hours > 0 ? '+' : ''}${hours} h`, run: (major?: number) => jumped(whose, hours, major) })),
    ),
  },
  {
    id: 'F45',
    fault: 'time zones, repeated hours, infinities, BC',
    oracles: 'O2',
    cases: [test('prune/eligible', '.'), test('prune/run', 'without a usable day')],
  },
  { id: 'F46', fault: 'the machine sleeps for 30 hours', oracles: 'O1 O2', cases: [{ name: 'suspended', run: suspended }] },
  {
    id: 'F47',
    fault: 'networks stall, trickle, cut',
    oracles: 'O1 O7',
    cases: [
      { name: 'connections to Postgres half-open', run: (major) => halfOpen('postgres', major) },
      { name: 'connections to NATS half-open', run: (major) => halfOpen('nats', major) },
      { name: 'trickle, hold, cut', run: unsteady },
      test('prune/gap', 'COMMIT is cut'),
      test('wal/replication', 'falls silent'),
    ],
  },
  {
    id: 'F48',
    fault: 'NATS is reachable for one side only',
    oracles: 'O4 O7',
    cases: (['capture', 'archiver'] as const).map((service) => ({ name: `not for ${service}`, run: (major) => oneSided(service, major) })),
  },
  {
    id: 'U2',
    fault: 'the Nth query of a prune fails, N = 1, 2, …',
    oracles: 'O1 O2',
    cases: BREAKS.map((how) => ({ name: `each query ${how}`, run: (major?: number) => failingQuery(how, major) })),
  },
  { id: 'F49', fault: 'a configuration that would delete more, or of somebody else', oracles: 'O7', cases: [test('services/pruner/settings', '.')] },
  { id: 'F50', fault: 'archives of earlier and of later versions', oracles: 'O5', cases: [test('archive/golden', '.')] },
  {
    id: 'U1',
    fault: 'rows keep coming while a part is away, full, restarting or slow',
    oracles: 'O1 O7',
    cases: (['NATS is away', 'the archive is full', 'Postgres restarts', 'the archiver is ten times too slow'] as const).map((what) => ({
      name: what,
      run: (major?: number, seconds?: number) => underPressure(what, seconds ?? 60, major),
    })),
  },
  {
    id: 'F51',
    fault: 'restore drill',
    oracles: 'O1',
    cases: [{ name: 'the archive into an empty table', run: drill }, test('types/types', 'every value of every type')],
  },
];
