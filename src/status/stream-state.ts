/** What the stream looks like now: how full it is, where it ends, and whether its last message is one of ours. */
import { formatLsn } from '../position/lsn.js';
import type { Config } from '../runtime/config.js';
import { describeError, type Halt } from '../runtime/errors.js';
import { type StreamForecast, streamForecast } from '../stream/forecast.js';
import { storedHeader, strayHalt, strayReason } from '../stream/stray.js';
import { connectStream, findStream, walSubject } from '../stream/topology.js';
import type { HaltNotice } from './halt-notice.js';

export type StreamState =
  | { readonly messages: number; readonly bytes: number; readonly tail: string | null; readonly limitBytes: number }
  /** `halt`: a message in it is no chunk, and whoever meets it halts. */
  | { readonly problem: string; readonly halt?: HaltNotice };

export async function streamOf(config: Config): Promise<{ stream: StreamState; forecast: StreamForecast | null }> {
  try {
    const { connection, manager } = await connectStream(config, `tidemark-${config.source.name}-status`);
    try {
      const info = await findStream(manager, config.source.name);
      if (info === undefined) return { stream: { problem: 'there is no stream yet' }, forecast: null };
      let tail: string | null = null;
      if (info.state.messages > 0) {
        const subject = walSubject(config.source.name);
        const last = await manager.streams.getMessage(info.config.name, { last_by_subj: subject });
        const stray = strayReason(last);
        if (stray !== undefined) return { stream: strayed(strayHalt({ name: info.config.name, subject }, last.seq, stray)), forecast: null };
        tail = formatLsn(storedHeader(last).end.lsn);
      }
      const { messages, bytes } = info.state;
      return { stream: { messages, bytes, tail, limitBytes: info.config.max_bytes }, forecast: streamForecast(info, Date.now()) };
    } finally {
      await connection.close();
    }
  } catch (error) {
    return { stream: { problem: describeError(error) }, forecast: null };
  }
}

function strayed({ halt, seen, safe, remedy = '' }: Halt): StreamState {
  return { problem: seen, halt: { halt, where: 'stream', seen, safe, remedy, at: null } };
}
