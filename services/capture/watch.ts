/** Looks after slot and stream while capture works: says when WAL that the slot needs grows short, and at a stop how much the slot holds from now on. */
import type pg from 'pg';
import type { Config } from '../../src/runtime/config.js';
import type { Log } from '../../src/runtime/log.js';
import { ensureStream, type StreamConnection } from '../../src/stream/topology.js';
import { slotName } from '../../src/wal/identifier.js';
import { readSlot, type SlotReading } from '../../src/wal/slot.js';
import { slotAlarm } from '../../src/wal/slot-health.js';

/** Every so many looks the settings of the stream are asserted again. */
const ASSERT_EVERY = 12;

export class SlotWatch {
  readonly #control: pg.Client;
  readonly #config: Config;
  readonly #stream: StreamConnection;
  readonly #log: Log;
  readonly #seen: (slot: SlotReading) => void;
  #looks = 0;
  #status: string | null = 'reserved';
  #level = 0;

  /** `seen` hears of every look. */
  constructor(control: pg.Client, config: Config, stream: StreamConnection, log: Log, seen: (slot: SlotReading) => void = () => undefined) {
    this.#control = control;
    this.#config = config;
    this.#stream = stream;
    this.#log = log;
    this.#seen = seen;
  }

  async look(): Promise<void> {
    const slot = await readSlot(this.#control, slotName(this.#config.source.name));
    if (slot !== undefined) {
      this.#seen(slot);
      this.#say(slot);
    }
    this.#looks += 1;
    if (this.#looks % ASSERT_EVERY === 0 && !this.#stream.connection.isClosed()) await this.#assertStream();
  }

  /** Each alarm once, and when it is over. */
  #say(slot: SlotReading): void {
    const { level, seen } = slotAlarm(slot);
    if (level === this.#level && slot.walStatus === this.#status) return;
    const { walStatus, heldBytes, safeBytes: safeWalBytes } = slot;
    this.#level = level;
    this.#status = walStatus;
    this.#log[level === 0 ? 'info' : 'warn'](
      { event: 'slot-health', level, walStatus, heldBytes, safeWalBytes },
      level === 0 ? 'the slot is well' : `slot: ${seen}`,
    );
  }

  async #assertStream(): Promise<void> {
    try {
      await ensureStream(this.#stream.manager, this.#config);
    } catch (error) {
      // Publishing finds out by itself when NATS does not answer; what counts here are settings that somebody changed.
      if ((error as { kind?: string }).kind === 'config') throw error;
    }
  }

  /** After a stop: the slot holds WAL until capture runs again. */
  async sayHeld(): Promise<void> {
    try {
      const held = (await readSlot(this.#control, slotName(this.#config.source.name)))?.heldBytes ?? 0;
      this.#log.info(
        { event: 'slot-holds', bytes: held },
        `the slot holds ${(held / 1024 ** 2).toFixed(1)} MB of WAL, and all that is written until capture runs again`,
      );
    } catch {
      // the server may be the reason of the stop
    }
  }
}
