/** Hands a day that is empty in Postgres to the archiver for sealing. */
import type { NatsConnection } from 'nats';
import type { SealRequest } from '../../src/prune/empty-days.js';
import type { Config } from '../../src/runtime/config.js';
import { requestReply } from '../../src/stream/request.js';
import { requestSubject } from '../../src/stream/topology.js';

/** Answer of the archiver. */
export type SealReply = { readonly ok: boolean; readonly file?: string | null; readonly rows?: number; readonly reason?: string };

/** Throws `transient` when no archiver answers, or it is gone before its answer. */
export async function requestSeal(connection: NatsConnection, config: Config, request: SealRequest, signal?: AbortSignal): Promise<SealReply> {
  const reply = await requestReply<SealReply>(connection, requestSubject(config.source.name, 'seal'), request, signal);
  return reply ?? { ok: false, reason: 'no archiver is running' };
}

/** For runPrune: resolves when the day is sealed, throws with the archiver's reason when not. */
export function sealRequester(connection: NatsConnection, config: Config, signal: AbortSignal): (request: SealRequest) => Promise<void> {
  return async (request) => {
    const reply = await requestSeal(connection, config, request, signal);
    if (!reply.ok) throw new Error(reply.reason ?? 'the archiver gave no reason');
  };
}
