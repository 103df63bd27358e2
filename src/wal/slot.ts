/**
 * The replication slot: what state it is in, and what may be done with it. The decision is pure; creating and dropping are thin. Must never create a slot where
 * an archive already counts on one, nor drop one whose copy an archive has completed: that is for a person.
 */
import type pg from 'pg';
import type { ChunkKind } from '../change/chunk.js';
import { FENCE_PREFIX, type FencePayload } from '../change/fence.js';
import { readLsn, readMessage, TAG } from '../change/pgoutput.js';
import { type Epoch, formatEpoch, sameEpoch } from '../position/epoch.js';
import { type Fork, liesBefore } from '../position/fork.js';
import { formatLsn, type Lsn, parseLsn } from '../position/lsn.js';
import { boundary, formatPosition, maxPosition, type Position, parsePosition } from '../position/position.js';
import { configError, type HaltName } from '../runtime/errors.js';
import { sleep } from '../runtime/service.js';
import type { ArchivedState } from './confirm.js';
import { type Ancestor, judgeFork } from './fork.js';
import { quoteIdentifier } from './identifier.js';
import type { ServerIdentity } from './identity.js';
import { type SlotHealth, slotAlarm } from './slot-health.js';

export type SlotRow = {
  readonly plugin: string | null;
  readonly database: string | null;
  readonly active: boolean;
  readonly confirmed: Lsn | null;
  /** The slot is to be on standbys too; null where the server knows no such slots. */
  readonly failover: boolean | null;
} & SlotHealth;

/** With where the server writes at that moment. */
export type SlotReading = SlotRow & {
  /** null on a server in recovery. */
  readonly insertLsn: Lsn | null;
  /** Transactions since the oldest catalog rows that the slot keeps vacuum from. */
  readonly catalogXminAge: number | null;
};

/** The row of pg_replication_slots, undefined when there is none. */
export async function readSlot(client: pg.Client, name: string): Promise<SlotReading | undefined> {
  const result = await client.query<
    Record<'plugin' | 'database' | 'confirmed' | 'status' | 'safe' | 'held' | 'reason' | 'failover' | 'insert' | 'age', string | null> & { active: string }
  >(
    `SELECT plugin::text, database::text, active::text, confirmed_flush_lsn::text AS confirmed, wal_status AS status, safe_wal_size::text AS safe,
            CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), restart_lsn)::int8 END::text AS held,
            CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END::text AS insert, pg_catalog.age(catalog_xmin)::text AS age,
            pg_catalog.to_jsonb(s) ->> 'invalidation_reason' AS reason, pg_catalog.to_jsonb(s) ->> 'failover' AS failover
       FROM pg_catalog.pg_replication_slots s WHERE slot_name = $1`,
    [name],
  );
  const row = result.rows[0];
  if (row === undefined) return undefined;
  return {
    plugin: row.plugin,
    database: row.database,
    active: row.active === 'true',
    confirmed: row.confirmed === null ? null : parseLsn(row.confirmed),
    walStatus: row.status,
    invalidation: row.reason,
    heldBytes: Number(row.held ?? 0),
    safeBytes: row.safe === null ? null : Number(row.safe),
    failover: row.failover === null ? null : row.failover === 'true',
    insertLsn: row.insert === null ? null : parseLsn(row.insert),
    catalogXminAge: row.age === null ? null : Number(row.age),
  };
}

const AT_REST_MS = 5000;

/** The slot when its walsender has gone: that of a capture which was just stopped takes a moment. Still active after five seconds: somebody reads it. */
export async function readSlotAtRest(client: pg.Client, name: string): Promise<SlotRow | undefined> {
  for (const until = Date.now() + AT_REST_MS; ; await sleep(100)) {
    const slot = await readSlot(client, name);
    if (slot?.active !== true || Date.now() >= until) return slot;
  }
}

export type SlotFacts = {
  readonly database: string;
  readonly server: ServerIdentity;
  /** The timelines that the server's comes from; asked only when it is another than the archive's. */
  readonly history?: readonly Ancestor[];
  readonly slot: SlotRow | undefined;
  readonly archived: ArchivedState | undefined;
  /** Last chunk of the stream; `position`: the boundary behind which nothing of it is missing. */
  readonly tail: { readonly kind: ChunkKind; readonly whole: boolean; readonly epoch: Epoch; readonly prev: Position; readonly end: Position } | undefined;
};

/**
 * absent, unfinished → copy (the second drops the slot first) · ready → resume · lost, ahead, missing and strangers → halt.
 * `anchored`: the slot stands at an archived fence, which must be the first thing it sends; otherwise it still stands where it was made.
 * `fork`: the epoch is new or the stream does not know it yet: to be said there, once every archived fence has come again.
 */
export type SlotDecision =
  | { readonly act: 'copy'; readonly drop: boolean }
  | { readonly act: 'resume'; readonly epoch: Epoch; readonly slotAt: Lsn; readonly resumeAt: Position; readonly anchored: boolean; readonly fork?: Fork }
  | { readonly act: 'halt'; readonly halt: HaltName; readonly seen: string; readonly safe: string; readonly remedy: string };

const NEW_START = 'stop the services, `tidemark resync`, and start them: the archive stays as it is and goes on with a copy of what Postgres holds';

/** Pure: from what is there to what to do. */
export function decideSlot(facts: SlotFacts): SlotDecision {
  const { archived } = facts;
  const complete = archived?.epoch != null && archived.copy?.state === 'complete';
  return complete ? decideResume(facts, archived, archived.epoch as Epoch) : decideUnfinished(facts);
}

/** The archive counts on this very slot. */
function decideResume(facts: SlotFacts, archived: ArchivedState, stood: Epoch): SlotDecision {
  const { server, slot, tail } = facts;
  const w = archived.position === null ? boundary(parseLsn(archived.copy?.consistentPoint ?? '0/0')) : parsePosition(archived.position);
  const switched = checkServer(facts, stood, w, archived.fences.length);
  if (switched !== undefined && 'act' in switched) return switched;
  const epoch = switched === undefined ? stood : { ...stood, timeline: server.timeline };
  if (slot === undefined || slot.confirmed === null) {
    return halt(
      'SLOT_MISSING',
      'the replication slot of this archive does not exist on this server.',
      `Everything up to ${formatPosition(w)} is archived; what was written since may be missing, so nothing is pruned.`,
    );
  }
  if (slot.walStatus === 'lost' || slot.invalidation !== null) {
    return halt(
      'SLOT_LOST',
      `${slotAlarm(slot).seen}: WAL that it still needed is gone or not kept.`,
      `Everything up to ${formatPosition(w)} is archived; what came after it is not.`,
    );
  }
  const { atStart, limit } = standing(slot.confirmed, archived);
  if (!atStart && (limit === undefined || slot.confirmed > limit)) {
    return halt(
      'SLOT_AHEAD',
      `the slot stands at ${formatLsn(slot.confirmed)}, beyond what is archived (${limit === undefined ? 'nothing' : formatLsn(limit)}): someone advanced it, or made it anew.`,
      `Everything up to ${formatPosition(w)} is archived; changes between the two are not in the archive.`,
    );
  }
  const fork = switched ?? archived.forked;
  const before = tail !== undefined && fork !== undefined && liesBefore(fork, tail);
  if (tail !== undefined && !sameEpoch(tail.epoch, epoch) && !before) {
    return halt(
      'STREAM_GAP',
      `the stream holds chunks of epoch ${formatEpoch(tail.epoch)}, the archive is of ${formatEpoch(epoch)}.`,
      'Nothing was published or confirmed.',
    );
  }
  const decision = resume(
    facts,
    epoch,
    slot.confirmed,
    switched === undefined ? !atStart : archived.fences.some(({ lsn }) => parseLsn(lsn) === slot.confirmed),
  );
  if (fork === undefined || decision.act !== 'resume' || !(before || (tail === undefined && switched !== undefined))) return decision;
  return { ...decision, resumeAt: maxPosition(decision.resumeAt, w), fork };
}

/** `limit`: what the slot may have been confirmed to at most. */
function standing(confirmed: Lsn, { fences, copy }: Pick<ArchivedState, 'fences' | 'copy'>): { readonly atStart: boolean; readonly limit: Lsn | undefined } {
  const made = copy === null ? undefined : parseLsn(copy.consistentPoint);
  const newest = fences.map(({ lsn }) => parseLsn(lsn)).reduce((a: Lsn | undefined, b) => (a === undefined || b > a ? b : a), undefined);
  return { atStart: confirmed === made, limit: newest ?? made };
}

/**
 * Why nothing may be deleted while the slot is like this, or undefined: deletes of ours are known by their marks in the stream, and those that are never read from this slot would pass for
 * somebody else's after the copy that follows. `archived`: read after the slot; without it only whether there is one is looked at.
 */
export function slotFlaw(slot: SlotRow | undefined, archived?: Pick<ArchivedState, 'fences' | 'copy'>): string | undefined {
  if (slot === undefined || slot.confirmed === null) return 'the replication slot of the archive is not on this server: capture says how to go on';
  if (slot.walStatus === 'lost' || slot.invalidation !== null) return `the replication slot of the archive is lost: ${slotAlarm(slot).seen}`;
  if (slot.walStatus === 'unreserved') return `the replication slot of the archive is about to be lost: ${slotAlarm(slot).seen}`;
  if (archived === undefined) return undefined;
  const { atStart, limit } = standing(slot.confirmed, archived);
  return atStart || (limit !== undefined && slot.confirmed <= limit)
    ? undefined
    : `the replication slot stands at ${formatLsn(slot.confirmed)}, beyond what is archived: capture says how to go on`;
}

/** No archive counts on the slot yet: it may be made again, unless the whole copy is already in the stream. */
function decideUnfinished(facts: SlotFacts): SlotDecision {
  const { slot, tail, server, archived } = facts;
  if (slot === undefined) return { act: 'copy', drop: false };
  const copied = tail?.whole === true && (tail.kind === 'changes' || tail.kind === 'copy-end') ? tail : undefined;
  if (copied === undefined || slot.confirmed === null || slot.walStatus === 'lost') return { act: 'copy', drop: true };
  const sameServer = copied.epoch.systemId === server.systemId && copied.epoch.timeline === server.timeline;
  const known = archived?.copy?.generation === copied.epoch.generation ? parseLsn(archived.copy.consistentPoint) : undefined;
  const made = copied.kind === 'copy-end' ? copied.end.lsn : known;
  const sameSlot = made === undefined ? slot.confirmed <= copied.end.lsn : slot.confirmed === made;
  if (!sameServer || !sameSlot) return { act: 'copy', drop: true };
  return resume(facts, copied.epoch, slot.confirmed, false);
}

function resume(facts: SlotFacts, epoch: Epoch, slotAt: Lsn, anchored: boolean): SlotDecision {
  const { tail, server } = facts;
  const end = tail === undefined ? undefined : tailPosition(tail);
  if (end !== undefined && end.lsn > server.insertLsn) {
    return halt(
      'LSN_BACKWARD',
      `the stream ends at ${formatPosition(end)}, the server only writes at ${formatLsn(server.insertLsn)}: it went back.`,
      'Nothing was published or confirmed.',
    );
  }
  const slotBoundary = boundary(slotAt);
  return { act: 'resume', epoch, slotAt, resumeAt: end === undefined ? slotBoundary : maxPosition(end, slotBoundary), anchored };
}

/** Where the stream's streamed changes end; undefined while it only holds a copy. A chunk whose last fragments are missing does not count. */
function tailPosition(tail: NonNullable<SlotFacts['tail']>): Position | undefined {
  if (tail.kind === 'fork' || tail.kind === 'recopy-begin' || tail.kind === 'recopy' || tail.kind === 'recopy-end') return tail.end; // the boundary that was reached before it
  if (tail.kind === 'changes') return tail.whole ? tail.end : tail.prev;
  return tail.kind === 'copy-end' && tail.whole ? boundary(tail.end.lsn) : undefined;
}

/** What is wrong with the server; the fork, when it took over the archive's history; undefined when it is the one that the archive is of. */
function checkServer({ server, history = [], tail }: SlotFacts, epoch: Epoch, w: Position, fences: number): SlotDecision | Fork | undefined {
  const safe = `Everything up to ${formatPosition(w)} of epoch ${formatEpoch(epoch)} is archived; nothing is pruned meanwhile.`;
  if (server.systemId !== epoch.systemId) {
    return halt(
      'IDENTITY',
      `this server is ${server.systemId}, the archive is of ${epoch.systemId}.`,
      safe,
      'let source.url name the server the archive was made from; if this one carries its data on (pg_upgrade, a restored backup): stop the services and `tidemark adopt`',
    );
  }
  const found = server.timeline === epoch.timeline ? undefined : judgeFork({ server, history, epoch, w, fences, tail });
  if (found?.verdict === 'lost') {
    return halt('TIMELINE', `the server writes timeline ${server.timeline}, the archive is of timeline ${epoch.timeline}: ${found.seen}.`, safe);
  }
  if (server.insertLsn < w.lsn) {
    return halt('LSN_BACKWARD', `the server writes at ${formatLsn(server.insertLsn)}, before the archived position ${formatPosition(w)}: it went back.`, safe);
  }
  return found === undefined ? undefined : { from: epoch, at: formatLsn(found.at) };
}

function halt(name: HaltName, seen: string, safe: string, remedy = NEW_START): SlotDecision {
  return { act: 'halt', halt: name, seen, safe, remedy };
}

/** Throws when a slot of our name is none of ours by its kind. */
export function refuseForeignSlot(name: string, slot: SlotRow | undefined, database: string): void {
  if (slot === undefined || (slot.plugin === 'pgoutput' && slot.database === database)) return;
  const seen = slot.plugin === null ? 'a physical slot' : `a slot of ${slot.plugin} in database ${slot.database ?? '?'}`;
  throw configError(`source.name: replication slot ${name} exists already and is ${seen}`, 'give source.name another value');
}

export type CreatedSlot = { readonly consistentPoint: Lsn /** Lives until the next command on the connection that made it. */; readonly snapshot: string };

/** Makes a slot on a replication connection, with an exported snapshot. Waits for every transaction that writes. `temporary`: it goes with the connection. */
export async function createSlot(replication: pg.Client, name: string, serverVersion: number, temporary = false): Promise<CreatedSlot> {
  const options = serverVersion >= 170_000 && !temporary ? `SNAPSHOT 'export', FAILOVER true` : `SNAPSHOT 'export'`;
  const result = await replication.query<{ consistent_point: string; snapshot_name: string }>(
    `CREATE_REPLICATION_SLOT ${quoteIdentifier(name)} ${temporary ? 'TEMPORARY ' : ''}LOGICAL pgoutput (${options})`,
  );
  const row = result.rows[0];
  if (row === undefined) throw new Error('the server made no slot');
  return { consistentPoint: parseLsn(row.consistent_point), snapshot: row.snapshot_name };
}

/**
 * The archive whose fence the slot stands at, undefined when it stands at none: only a slot that no archive has ever confirmed may be dropped by us.
 * Looks at the first transaction the slot would send, without taking it.
 */
export async function readSlotArchive(client: pg.Client, name: string, confirmed: Lsn): Promise<string | undefined> {
  const result = await client
    .query<{ data: string }>(
      `SELECT data::text AS data FROM pg_catalog.pg_logical_slot_peek_binary_changes($1, NULL, 1, 'proto_version', '1', 'publication_names', $2, 'messages', 'true') LIMIT 2`,
      [name, quoteIdentifier(name)],
    )
    .catch((error: { code?: string }) => {
      if (error.code === '42704') return { rows: [] }; // the publication is younger than the slot, so no archive has ever read it
      throw error;
    });
  const [begin, message] = result.rows.map((row) => Buffer.from(row.data.slice(2), 'hex'));
  if (begin?.[0] !== TAG.begin || readLsn(begin, 1) !== confirmed || message?.[0] !== TAG.message) return undefined;
  const found = readMessage(message, 0);
  if (found.prefix !== FENCE_PREFIX) return undefined;
  return (JSON.parse(found.content.slice(0, found.content.lastIndexOf('.'))) as FencePayload).archive;
}

export async function dropSlot(client: pg.Client, name: string): Promise<void> {
  await client.query('SELECT pg_catalog.pg_drop_replication_slot($1)', [name]);
}

/** `server_version_num`. */
export async function readServerVersion(client: pg.Client): Promise<number> {
  const result = await client.query<{ server_version_num: string }>('SHOW server_version_num');
  return Number(result.rows[0]?.server_version_num);
}
