/** Logs: pino JSON with stable event names in `event`; pretty on a terminal. No secret and no row value is ever passed in. */
import pino, { type Logger } from 'pino';
import pretty from 'pino-pretty';

export type Log = Logger;

/** A progress line may stand where a log line begins on a terminal. */
const CLEAR_LINE = process.stderr.isTTY === true ? '\u001b[K' : '';
const time = (at: string | object): string => `${CLEAR_LINE}[${String(at)}]`;

/** A reason that ends with its remedy needs no second line of it for a person; programs get both. */
function saidOnce(fields: Record<string, unknown>): Record<string, unknown> {
  const { reason, remedy, ...others } = fields;
  return typeof reason === 'string' && typeof remedy === 'string' && reason.endsWith(remedy) ? { ...others, reason } : fields;
}

/** `level`: pino's level names. Pretty output when stderr is a terminal or `pretty` is asked for; JSON lines otherwise. */
export function createLog(service: string, options: { level?: string; pretty?: boolean } = {}): Log {
  const base = { name: 'tidemark', service, pid: process.pid };
  const level = options.level ?? 'info';
  const fancy = options.pretty ?? process.stderr.isTTY === true;
  if (fancy) {
    return pino(
      { level, base, formatters: { log: saidOnce } },
      pretty({
        destination: 2,
        sync: true,
        ignore: 'pid,hostname,name',
        messageFormat: '{service} {event} {msg}',
        hideObject: false,
        customPrettifiers: { time },
      }),
    );
  }
  return pino({ level, base, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: true }));
}
