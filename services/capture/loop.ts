/**
 * capture from start to stop: checks → archive there → alone → stream there → slot decided → copy or resume → streaming. Thin: every decision is made in src/.
 * Anything that may pass is tried again from the start, checks included: another server may answer next time.
 */
import { createHash } from 'node:crypto';
import type pg from 'pg';
import { ArchiveFollower, openIdentity, readKey } from '../../src/archive/manifest.js';
import type { ForkFound } from '../../src/change/chunk.js';
import { type Epoch, formatEpoch, sameEpoch } from '../../src/position/epoch.js';
import type { Fork } from '../../src/position/fork.js';
import type { Config } from '../../src/runtime/config.js';
import { configError, Halt, TidemarkError } from '../../src/runtime/errors.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { Log } from '../../src/runtime/log.js';
import { type Monitor, unwatched } from '../../src/runtime/monitor.js';
import { runWithRetry, sleep } from '../../src/runtime/service.js';
import { sayDenied } from '../../src/stream/denied.js';
import { tellHalt } from '../../src/stream/events.js';
import { ChunkPublisher } from '../../src/stream/publish.js';
import { connectStream, ensureStream } from '../../src/stream/topology.js';
import { AnchorCheck } from '../../src/wal/anchor.js';
import type { ArchivedState } from '../../src/wal/confirm.js';
import { readHistory } from '../../src/wal/fork.js';
import { applicationName, slotName } from '../../src/wal/identifier.js';
import { readServerIdentity } from '../../src/wal/identity.js';
import { capturePreflight, PRIMARY_CHECK, requireNotSynchronous } from '../../src/wal/preflight.js';
import { closeClient, connectClient, endWhenSilent } from '../../src/wal/session.js';
import { decideSlot, dropSlot, readSlot, readSlotArchive, refuseForeignSlot, type SlotDecision, type SlotRow } from '../../src/wal/slot.js';
import { type CaptureContext, type CapturedArchive, runInitialCopy, tailBeginOf } from './initial-copy.js';
import { CaptureMetrics } from './metrics.js';
import { Recopier } from './recopier.js';
import { LAST_WORDS_MS, Streaming } from './streaming.js';
import { SlotWatch } from './watch.js';

/** The control session is used every few seconds while changes are streamed. */
const SILENT_S = 120;

/** Runs until the signal aborts. Throws halts and mistakes of the configuration; tries everything else again. */
export async function runCapture(config: Config, log: Log, signal: AbortSignal, monitor: Monitor = unwatched()): Promise<void> {
  const metrics = new CaptureMetrics(monitor);
  await tellHalt(config, 'capture', () => capture(config, log, signal, metrics));
}

async function capture(config: Config, log: Log, signal: AbortSignal, metrics: CaptureMetrics): Promise<void> {
  const said = new Set<string>();
  const attempt = async (healthy: () => void): Promise<void> => {
    const control = await connectClient(config.source.url.reveal(), {
      applicationName: applicationName(config.source.name, 'control'),
      statementTimeoutMs: 30_000,
    });
    try {
      await checkBeforeStart(control, config, log, said);
      const archive = await waitForArchive(config, log, signal, metrics);
      if (archive === undefined) return;
      await takeLock(control, config.source.name);
      const stream = await connectStream(config, `tidemark_${config.source.name}_capture`, sayDenied(log));
      metrics.connected(stream.connected);
      try {
        await captureOnce({ config, log, signal, control, stream, metrics, ...archive }, healthy);
      } finally {
        await stream.connection.close();
      }
    } finally {
      await closeClient(control);
    }
  };
  await runWithRetry(log, signal, attempt, (error) => metrics.failed(error));
}

/** Throws a `config` error that names every failed check; says warnings once. */
async function checkBeforeStart(control: pg.Client, config: Config, log: Log, said: Set<string>): Promise<void> {
  await control.query('SET synchronous_commit = local');
  const checks = await capturePreflight(control, config);
  for (const check of checks) {
    const text = `${check.name}: ${check.seen}`;
    if (check.status !== 'warning' || said.has(text)) continue;
    said.add(text);
    log.warn({ event: 'preflight', check: check.name, seen: check.seen, remedy: check.remedy }, 'check');
  }
  const failed = checks.filter((check) => check.status === 'failed');
  // In the middle of a switchover the name may lead to a standby for a while.
  if (failed.some((check) => check.name === PRIMARY_CHECK))
    throw new TidemarkError('transient', `the server is a standby in recovery`, { remedy: 'promote it, or let source.url name the primary' });
  if (failed.length > 0) {
    const lines = failed.map((check) => `  - ${check.name}: ${check.seen}${check.remedy === undefined ? '' : ` → ${check.remedy}`}`);
    throw configError(`${failed.length === 1 ? 'a precondition fails' : `${failed.length} preconditions fail`}\n${lines.join('\n')}`);
  }
  faultPoint('C1');
}

type Archive = { readonly archive: string; readonly key: Buffer; readonly archived: () => Promise<CapturedArchive | undefined> };

/** The archive's id and key are made by the archiver; without them nothing may be captured. undefined: stopped meanwhile. */
async function waitForArchive(config: Config, log: Log, signal: AbortSignal, metrics: CaptureMetrics): Promise<Archive | undefined> {
  const follower = new ArchiveFollower(config.archive.dir);
  for (let tries = 0; !signal.aborted; tries += 1) {
    const identity = await openIdentity(config.archive.dir);
    if (identity !== undefined && (await follower.refresh()) !== undefined) {
      if (identity.source !== config.source.name) {
        throw configError(
          `archive.dir: ${config.archive.dir} is the archive of source ${JSON.stringify(identity.source)}`,
          'correct archive.dir or source.name',
        );
      }
      return { archive: identity.archive, key: await readKey(config.archive.dir), archived: () => follower.refresh() };
    }
    metrics.at('waiting for an archiver to make the archive');
    if (tries % 150 === 0) log.info({ event: 'waiting-for-archive', dir: config.archive.dir }, 'no archiver has made this archive yet: start the archiver');
    await sleep(200, signal);
  }
  return undefined;
}

/** One capture for a source: the second waits as a standby. Held by the control connection. */
async function takeLock(control: pg.Client, source: string): Promise<void> {
  const key = createHash('sha256').update(`tidemark:${source}:capture`).digest().readBigInt64BE(0);
  const result = await control.query<{ got: string }>('SELECT pg_catalog.pg_try_advisory_lock($1)::text AS got', [String(key)]);
  if (result.rows[0]?.got !== 'true') throw new TidemarkError('transient', 'another capture of this source is running: standing by');
}

async function captureOnce(context: Omit<CaptureContext, 'publisher'>, healthy: () => void): Promise<void> {
  const { config, log, control, stream } = context;
  const publishing = new AbortController();
  // A stop must not hang on a stream that takes nothing: what was not stored is sent again by the slot.
  const stopSoon = (): void => void setTimeout(() => publishing.abort(), LAST_WORDS_MS).unref();
  context.signal.addEventListener('abort', stopSoon, { once: true });
  try {
    context.metrics.at('looking at stream and slot');
    await ensureStream(stream.manager, config);
    const publisher = await openPublisher(context, publishing.signal);
    context.metrics.publishes(publisher);
    const archived = await context.archived();
    const decision = await decide(context, publisher, archived);
    const start = decision.act === 'copy' ? await copy({ ...context, publisher }, decision.drop) : decision;
    if (start === undefined) return; // stopped during the copy
    const anchor = new AnchorCheck({
      key: context.key,
      archive: context.archive,
      slotAt: start.slotAt,
      anchored: start.anchored,
      fences: decision.act === 'copy' ? [] : (archived?.fences ?? []),
      tailBegin: decision.act === 'copy' ? undefined : tailBeginOf(publisher.tail),
    });
    const { fork } = start;
    if (fork !== undefined)
      log.info(
        { event: 'switchover', from: formatEpoch(fork.from), to: formatEpoch(start.epoch), at: fork.at },
        'another server carries the history on: its fences must come again',
      );
    const server = await readServerIdentity(control);
    const watch = new SlotWatch(control, config, stream, log, (slot) => context.metrics.seen(slot));
    await endWhenSilent(control, SILENT_S);
    const streaming = new Streaming({
      ...context,
      publisher,
      anchor,
      flushMs: config.archive.flush.every,
      epoch: start.epoch,
      resumeAt: start.resumeAt,
      slotAt: start.slotAt,
      fork: fork === undefined ? undefined : forkFound(fork, start.epoch, context.archive, archived),
      replication: {
        url: config.source.url.reveal(),
        applicationName: applicationName(config.source.name, 'capture'),
        slot: slotName(config.source.name),
        publication: slotName(config.source.name),
        server,
      },
      watch: async () => {
        await requireNotSynchronous(control, config.source.name);
        await watch.look();
        await publisher.look();
      },
    });
    context.metrics.streams(streaming);
    const recopier = new Recopier({ ...context, epoch: start.epoch, publish: (chunk) => streaming.publishBeside(chunk) });
    await streaming.run(healthy, decision.act === 'copy' || !start.anchored || fork !== undefined, (until) => recopier.run(until));
    await watch.sayHeld();
  } finally {
    context.signal.removeEventListener('abort', stopSoon);
    publishing.abort();
  }
}

async function openPublisher({ stream, log, metrics }: Omit<CaptureContext, 'publisher'>, signal: AbortSignal): Promise<ChunkPublisher> {
  const publisher: ChunkPublisher = await ChunkPublisher.open(stream, signal, {
    onRetry: (reason) => log.warn({ event: 'publish-retry', reason }, 'publishing again'),
    onStored: (bytes, ms) => {
      metrics.stored(bytes, ms);
      if (publisher.inFlight === 0) faultPoint('C5');
    },
  });
  return publisher;
}

type Resume = Extract<SlotDecision, { act: 'resume' }>;

/** Gathers the facts and asks. Throws the halt. */
async function decide(
  context: Omit<CaptureContext, 'publisher'>,
  publisher: ChunkPublisher,
  archived: ArchivedState | undefined,
): Promise<Exclude<SlotDecision, { act: 'halt' }>> {
  const { control, config } = context;
  const name = slotName(config.source.name);
  const database = (await control.query<{ name: string }>('SELECT pg_catalog.current_database()::text AS name')).rows[0]?.name ?? '';
  const slot = await readSlot(control, name);
  refuseForeignSlot(name, slot, database);
  const { tail } = publisher;
  const server = await readServerIdentity(control);
  const stood = archived?.epoch;
  const other = stood != null && stood.systemId === server.systemId && stood.timeline !== server.timeline;
  const decision = decideSlot({
    database,
    server,
    ...(other ? { history: await readHistory(config.source.url.reveal(), config.source.name, server) } : {}),
    slot,
    archived,
    tail:
      tail === undefined ? undefined : { kind: tail.header.kind, whole: tail.whole, epoch: tail.header.epoch, prev: tail.header.prev, end: tail.header.end },
  });
  if (decision.act === 'halt') {
    if (decision.halt === 'SLOT_AHEAD' && (await streamHoldsIt(context, slot, publisher, archived)))
      throw new TidemarkError('transient', `${decision.seen} The stream holds it: waiting for the archiver`);
    throw new Halt(decision.halt, decision);
  }
  if (archived?.copy?.state !== 'complete' && slot !== undefined) await refuseOwned(context, slot);
  return decision;
}

/** An archive that went back to a sound manifest: the slot stands at a fence of its own that it has to take from the stream again. */
async function streamHoldsIt(
  { control, config, archive }: Omit<CaptureContext, 'publisher'>,
  slot: SlotRow | undefined,
  { tail }: ChunkPublisher,
  archived: ArchivedState | undefined,
): Promise<boolean> {
  if (slot?.confirmed == null || tail === undefined || archived?.epoch == null) return false;
  if (!sameEpoch(tail.header.epoch, archived.epoch) || tail.header.end.lsn <= slot.confirmed) return false;
  return (await readSlotArchive(control, slotName(config.source.name), slot.confirmed)) === archive;
}

/** What the stream is told, and with it the archive. */
function forkFound(fork: Fork, to: Epoch, archive: string, archived: ArchivedState | undefined): ForkFound {
  const fence = archived?.fences.at(-1)?.lsn ?? 'none';
  const seen = `timeline ${to.timeline} left timeline ${fork.from.timeline} at ${fork.at}; archived then: ${archived?.position ?? 'nothing'}; the fences up to ${fence} came again from it`;
  return { archive, from: formatEpoch(fork.from), at: fork.at, seen };
}

async function copy(context: CaptureContext, drop: boolean): Promise<Resume | undefined> {
  if (drop) await dropUnfinished(context);
  return await runInitialCopy(context);
}

/** The archive in the folder counts on no slot yet. Halts when another one has confirmed this slot. */
async function refuseOwned({ control, config, archive }: Omit<CaptureContext, 'publisher'>, slot: SlotRow): Promise<void> {
  const name = slotName(config.source.name);
  const owner = slot.confirmed === null || slot.walStatus === 'lost' ? undefined : await readSlotArchive(control, name, slot.confirmed);
  if (owner !== undefined) {
    throw new Halt('IDENTITY', {
      seen: `the slot ${name} was confirmed by archive ${owner}; the folder ${config.archive.dir} holds ${owner === archive ? 'an older state of it' : `archive ${archive}`}.`,
      safe: 'The slot was left as it is.',
      remedy: `let archive.dir name the folder of that archive (mount its volume); to begin a new archive instead: \`tidemark teardown\`, then \`tidemark run\``,
    });
  }
}

/** Drops the slot of a copy that did not end. */
async function dropUnfinished(context: CaptureContext): Promise<void> {
  const { control, config, log } = context;
  const name = slotName(config.source.name);
  const slot = await readSlot(control, name);
  if (slot === undefined) return;
  await refuseOwned(context, slot);
  log.info({ event: 'copy-again' }, 'the last copy did not end: it starts again from the beginning');
  await dropSlot(control, name);
}
