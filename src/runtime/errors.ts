/**
 * Every failure a person or the supervisor has to act on: its kind, what was seen and the remedy. The kind fixes the exit code and
 * whether trying again is right; the record is exhaustive, so a new kind fails to compile until both are said.
 */

/** Named halts of the design: stops that need a person. */
export const HALTS = [
  'TIMELINE',
  'IDENTITY',
  'LSN_BACKWARD',
  'SLOT_MISSING',
  'SLOT_LOST',
  'SLOT_AHEAD',
  'STREAM_GAP',
  'MANIFEST',
  'POISON',
  'WRONG_VOLUME',
  'DIGEST',
  'SUPERSEDED',
] as const;
export type HaltName = (typeof HALTS)[number];

export type ErrorKind = 'transient' | 'failed' | 'config' | 'halt' | 'difference';

/** Exit codes of design.md: 0 done · 1 failed · 2 usage or configuration · 3 halted · 4 verification found a difference. */
const POLICY: Record<ErrorKind, { exitCode: number; retry: boolean }> = {
  transient: { exitCode: 1, retry: true },
  failed: { exitCode: 1, retry: false },
  config: { exitCode: 2, retry: false },
  halt: { exitCode: 3, retry: false },
  difference: { exitCode: 4, retry: false },
};

export class TidemarkError extends Error {
  override readonly name: string = 'TidemarkError';
  readonly kind: ErrorKind;
  /** What a person should do, one sentence, or undefined when trying again is all there is to do. */
  readonly remedy: string | undefined;

  constructor(kind: ErrorKind, message: string, options: { remedy?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.remedy = options.remedy;
  }

  get exitCode(): number {
    return POLICY[this.kind].exitCode;
  }
}

/** A named stop. `seen` says what was found, `safe` what is certain to be unharmed, `remedy` how to go on. */
export class Halt extends TidemarkError {
  override readonly name = 'Halt';
  readonly halt: HaltName;
  readonly seen: string;
  readonly safe: string;

  constructor(halt: HaltName, detail: { seen: string; safe: string; remedy: string; cause?: unknown }) {
    super('halt', `${halt}: ${detail.seen} ${detail.safe}`, { remedy: detail.remedy, cause: detail.cause });
    this.halt = halt;
    this.seen = detail.seen;
    this.safe = detail.safe;
  }
}

/** Wrong configuration or command line: the field, what was seen, what to do. */
export function configError(message: string, remedy?: string): TidemarkError {
  return new TidemarkError('config', message, remedy === undefined ? {} : { remedy });
}

/** True when the same call may succeed later without anybody's doing: broken connections, time-outs, a server that starts up. */
export function mayRetry(error: unknown): boolean {
  if (error instanceof TidemarkError) return POLICY[error.kind].retry;
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code !== 'string') return /Connection terminated|timeout|TIMEOUT|CONNECTION_|DISCONNECT/.test(String(error));
  // SQLSTATE classes 08 (connection), 57P0x (shutdown, starting up), 53 (resources), 40 (serialization), 55P03 (lock timeout).
  return (
    /^(08|57P0|53|40|55P03|55006|57014|25P03)/.test(code) ||
    /^E(CONN|PIPE|TIMEDOUT|HOST|NET|AI_AGAIN)/.test(code) ||
    code === 'ENOTFOUND' ||
    /^[0-9]{3}$/.test(code) ||
    /^(CONNECTION|TIMEOUT|NO_RESPONDERS|DISCONNECT)/.test(code)
  );
}

export function exitCodeOf(error: unknown): number {
  return error instanceof TidemarkError ? error.exitCode : 1;
}

/** One line for a person: message, then remedy. Never a stack. */
export function describeError(error: unknown): string {
  if (error instanceof TidemarkError) return error.remedy ? `${error.message} → ${error.remedy}` : error.message;
  if (error instanceof AggregateError && error.errors.length > 0) return describeError(error.errors[0]);
  return error instanceof Error ? messageOf(error) || error.name : String(error);
}

/** SQLSTATE class 22, data exceptions: Postgres quotes the value. */
const DATA_EXCEPTION = /^22[0-9A-Z]{3}$/;

/** What an error says, without the value that some quote: rows have no place in logs, receipts and answers. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { message } = error;
  if (DATA_EXCEPTION.test(String((error as { code?: unknown }).code))) return message.replace(/".*"/s, '"…"').replace(/: 0x.*$/s, ': …');
  if (error instanceof SyntaxError && /JSON/.test(message)) return 'it is not valid JSON'; // Node quotes its beginning
  return message;
}

/** Where an error was thrown: its stack without the message. */
export function placeOf(error: Error): string {
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return [error.name, ...frames].join('\n');
}
