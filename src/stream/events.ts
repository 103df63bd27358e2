/**
 * What the services tell whoever listens: one JSON message on `tidemark.<source>.events.<what>` for each segment commit, prune run, sealed day and halt. At most once: nobody waits for it,
 * nothing is kept, and a message that cannot be sent is given up. Must never throw, hold a service up, or carry a value of a row.
 */
import type { NatsConnection } from 'nats';
import type { Config } from '../runtime/config.js';
import { Halt } from '../runtime/errors.js';
import { sleep } from '../runtime/service.js';
import { eventSubject } from './names.js';
import { connectStream } from './topology.js';

/** What the archiver has archived with one manifest. */
export type SegmentEvent = {
  readonly manifest: number;
  /** The archived position W after it, null before the first copy is complete. */
  readonly position: string | null;
  /** Commit time of the newest archived transaction. */
  readonly committedAt: string | null;
  readonly rows: number;
  readonly bytes: number;
  readonly files: readonly { readonly file: string; readonly table: string; readonly day: string | null; readonly rows: number; readonly bytes: number }[];
};

/** One finished prune run. `left`: rows that stayed, by reason. */
export type PruneEvent = {
  readonly run: string;
  readonly trigger: string;
  readonly dryRun: boolean;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly deleted: number;
  readonly tables: readonly {
    readonly table: string;
    readonly nominated: number;
    readonly deleted: number;
    readonly left: Readonly<Record<string, number>>;
    readonly problem: string | null;
  }[];
  readonly problem: string | null;
};

/** A day that became a daily file. `file`: null when none of its rows is left for one. */
export type SealEvent = {
  readonly table: string;
  readonly day: string | null;
  readonly file: string | null;
  readonly rows: number;
  readonly history: number;
  readonly manifest: number;
};

/** A named stop that needs a person. `table`: only this table stands still. */
export type HaltEvent = { readonly service: string; readonly halt: string; readonly seen: string; readonly remedy: string | null; readonly table?: string };

export type Events = { readonly segment: SegmentEvent; readonly prune: PruneEvent; readonly seal: SealEvent; readonly halt: HaltEvent };
export type EventName = keyof Events;

/** Sends an event, or gives it up. */
export type Tell = <Name extends EventName>(name: Name, event: Events[Name]) => void;

/** Nobody is told: a replay into another folder, say. */
export const TELL_NOBODY: Tell = () => undefined;

/** Tells through a connection that is open anyway; while it is broken (`connected`) nothing is kept for later. */
export function tellThrough(connection: NatsConnection, source: string, connected: () => boolean): Tell {
  return (name, event) => {
    try {
      if (connected() && !connection.isClosed()) connection.publish(eventSubject(source, name), message(source, event));
    } catch {
      // at most once
    }
  };
}

function message(source: string, event: object): string {
  return JSON.stringify({ source, at: new Date().toISOString(), ...event });
}

/** A service that halts gets this long for its last word. */
const LAST_WORD_MS = 2000;

/** Runs a service; when it halts says so on a connection of its own, since the halt may be about the other one, and throws it on. */
export async function tellHalt(config: Config, service: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (error instanceof Halt) await Promise.race([lastWord(config, service, error), sleep(LAST_WORD_MS)]);
    throw error;
  }
}

async function lastWord(config: Config, service: string, { halt, message: seen, remedy }: Halt): Promise<void> {
  try {
    const { connection } = await connectStream(config, `tidemark-${config.source.name}-halt`);
    const said: HaltEvent = { service, halt, seen, remedy: remedy ?? null };
    connection.publish(eventSubject(config.source.name, 'halt'), message(config.source.name, said));
    await connection.drain();
  } catch {
    // at most once
  }
}
