/** Hands a day that is empty in Postgres to the archiver for sealing. */
import { type NatsConnection, StringCodec } from 'nats';
import type { SealRequest } from '../../src/prune/empty-days.js';
import type { Config } from '../../src/runtime/config.js';
import { requestSubject } from '../../src/stream/topology.js';

const text = StringCodec();

/** Sealing a large day takes its time. */
const REPLY_MS = 30 * 60_000;

/** Answer of the archiver. */
export type SealReply = { readonly ok: boolean; readonly file?: string | null; readonly rows?: number; readonly reason?: string };

export async function requestSeal(connection: NatsConnection, config: Config, request: SealRequest): Promise<SealReply> {
  const message = await connection.request(requestSubject(config.source.name, 'seal'), text.encode(JSON.stringify(request)), { timeout: REPLY_MS });
  return JSON.parse(text.decode(message.data)) as SealReply;
}

/** For runPrune: resolves when the day is sealed, throws with the archiver's reason when not. */
export function sealRequester(connection: NatsConnection, config: Config): (request: SealRequest) => Promise<void> {
  return async (request) => {
    const reply = await requestSeal(connection, config, request);
    if (!reply.ok) throw new Error(reply.reason ?? 'the archiver gave no reason');
  };
}
