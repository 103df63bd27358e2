/** What a stream holds against what it may, and when it is full. Pure. */
import type { StreamInfo } from 'nats';
import { type Growth, secondsUntilFull } from '../runtime/forecast.js';

/** `growth`: what is in it, since its first message; null while it is empty. `fullInSeconds`: if nothing is taken out. */
export type StreamForecast = {
  readonly messages: number;
  readonly bytes: number;
  readonly limitBytes: number;
  readonly growth: Growth | null;
  readonly fullInSeconds: number | null;
};

/** `now`: milliseconds since 1970. A stream without a limit is never full. */
export function streamForecast({ state, config }: Pick<StreamInfo, 'state' | 'config'>, now: number): StreamForecast {
  const { messages, bytes } = state;
  const first = Date.parse(String(state.first_ts));
  const last = Date.parse(String(state.last_ts));
  // From the first message to now, not to the last: an hour of silence is part of the rate.
  const growth = messages === 0 || Number.isNaN(first) ? null : { amount: bytes, seconds: Math.max(0, Math.max(now, last) - first) / 1000 };
  const limitBytes = config.max_bytes;
  return { messages, bytes, limitBytes, growth, fullInSeconds: limitBytes > 0 ? secondsUntilFull(limitBytes - bytes, growth) : null };
}
