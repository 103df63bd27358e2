/** What the pruner asks of the others: a day that is empty in Postgres goes to the archiver for sealing, rows that it could not prove go to capture to be copied again. */
import type { NatsConnection } from 'nats';
import type { FlushWish } from '../../src/archive/reach.js';
import { archiveHere } from '../../src/archive/which-archive.js';
import type { SealRequest } from '../../src/prune/empty-days.js';
import type { Config } from '../../src/runtime/config.js';
import type { Log } from '../../src/runtime/log.js';
import { requestFlush } from '../../src/stream/flush-request.js';
import { type RecopyRequest, requestRecopy } from '../../src/stream/recopy-request.js';
import { requestReply } from '../../src/stream/request.js';
import { requestSubject } from '../../src/stream/topology.js';

/** Answer of the archiver. */
export type SealReply = {
  readonly ok: boolean;
  readonly file?: string | null;
  readonly rows?: number;
  readonly history?: number;
  readonly released?: number;
  readonly already?: boolean;
  readonly reason?: string;
};

/** Throws `transient` when no archiver answers, or it is gone before its answer. */
export async function requestSeal(connection: NatsConnection, config: Config, request: SealRequest, signal?: AbortSignal): Promise<SealReply> {
  const archive = await archiveHere(config.archive.dir);
  const reply = await requestReply<SealReply>(connection, requestSubject(config.source.name, 'seal'), request, { archive, signal });
  return reply ?? { ok: false, reason: 'no archiver is running' };
}

/** For runPrune. */
export function flushRequester(connection: NatsConnection, config: Config): FlushWish {
  return (upTo) => requestFlush(connection, config.source.name, upTo);
}

/** For runPrune: resolves when the day is sealed, throws with the archiver's reason when not. */
export function sealRequester(connection: NatsConnection, config: Config, signal: AbortSignal): (request: SealRequest) => Promise<void> {
  return async (request) => {
    const reply = await requestSeal(connection, config, request, signal);
    if (!reply.ok) throw new Error(reply.reason ?? 'the archiver gave no reason');
  };
}

/** Keys of more bytes than this do not go into one message: the whole table is copied then. */
const MOST_BYTES = 512 * 1024;

/** For runPrune. When nobody takes it, the next run asks again. */
export function recopyRequester(connection: NatsConnection, config: Config, log: Log): (request: RecopyRequest) => Promise<void> {
  return async ({ schema, table, keys }) => {
    const fits = keys !== undefined && JSON.stringify(keys).length <= MOST_BYTES;
    const taken = await requestRecopy(connection, config.source.name, fits ? { schema, table, keys } : { schema, table });
    const name = `${schema}.${table}`;
    if (taken) log.info({ event: 'recopy-asked', table: name, rows: fits ? keys.length : null }, 'rows that could not be proved are copied again');
    else log.warn({ event: 'recopy-asked', table: name, taken }, 'no capture took the wish to copy rows again; the next run repeats it');
  };
}
