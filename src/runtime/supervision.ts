/**
 * What passes between a service, its supervisor and the console over their IPC channels: the last words of a service that ends for good, and the supervisor's report of all of them. Owns the form of
 * these messages. Must never carry a secret or a row: the texts are those of errors.
 */
import { describeError, Halt, type HaltName, messageOf, TidemarkError } from './errors.js';

/** Why a service ended. `safe` and `halt`: of a halt only. */
export type LastWords = {
  /** ISO time of the service's clock. */
  readonly at: string;
  readonly halt: HaltName | null;
  readonly seen: string;
  readonly safe: string | null;
  readonly remedy: string | null;
};

/** running · waiting: it died and starts again soon · halted: it needs a person · refused: as it is configured it cannot run · stopped. */
export type ServiceState = 'running' | 'waiting' | 'halted' | 'refused' | 'stopped';

/** One service as its supervisor knows it. `since`: ISO time at which it came into `state`. `restarts`: since the supervisor began. */
export type ServiceReport = {
  readonly service: string;
  readonly state: ServiceState;
  readonly since: string;
  readonly restarts: number;
  readonly last: LastWords | null;
};

/** A pipe takes this much at once, so that a process that ends right after it has still said it. */
const LONGEST_TEXT = 3000;

const LAST_WORDS = 'tidemark-last-words';
const REPORT = 'tidemark-services';

export function lastWordsOf(error: unknown, now = new Date()): LastWords {
  const cut = (text: string): string => (text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)} …` : text);
  const at = now.toISOString();
  if (error instanceof Halt) return { at, halt: error.halt, seen: cut(error.seen), safe: cut(error.safe), remedy: cut(error.remedy ?? '') };
  if (error instanceof TidemarkError) return { at, halt: null, seen: cut(messageOf(error)), safe: null, remedy: error.remedy ? cut(error.remedy) : null };
  return { at, halt: null, seen: cut(describeError(error)), safe: null, remedy: null };
}

/** Tells the supervisor, when there is one, why this process ends. Never throws. */
export function sayLastWords(error: unknown): void {
  try {
    process.send?.({ type: LAST_WORDS, words: lastWordsOf(error) });
  } catch {
    // the supervisor is gone: it is in the log
  }
}

/** The last words in an IPC message, undefined in any other. */
export function readLastWords(message: unknown): LastWords | undefined {
  const { type, words } = (message ?? {}) as { type?: unknown; words?: LastWords };
  return type === LAST_WORDS ? words : undefined;
}

/** The IPC message that carries the reports. */
export function reportMessage(services: readonly ServiceReport[]): { readonly type: string; readonly services: readonly ServiceReport[] } {
  return { type: REPORT, services };
}

/** The reports in an IPC message, undefined in any other. */
export function readReport(message: unknown): readonly ServiceReport[] | undefined {
  const { type, services } = (message ?? {}) as { type?: unknown; services?: readonly ServiceReport[] };
  return type === REPORT ? services : undefined;
}
