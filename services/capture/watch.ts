/** Looks after slot and stream while capture works: says when WAL that the slot needs grows short, and at a stop how much the slot holds from now on. */
import type pg from 'pg';
import type { Config } from '../../src/runtime/config.js';
import type { Log } from '../../src/runtime/log.js';
import { ensureStream, type StreamConnection } from '../../src/stream/topology.js';
import { slotName } from '../../src/wal/identifier.js';
import { readSlot } from '../../src/wal/slot.js';

/** Every so many looks the settings of the stream are asserted again. */
const ASSERT_EVERY = 12;

export class SlotWatch {
  readonly #control: pg.Client;
  readonly #config: Config;
  readonly #stream: StreamConnection;
  readonly #log: Log;
  #looks = 0;
  #status: string | null = 'reserved';

  constructor(control: pg.Client, config: Config, stream: StreamConnection, log: Log) {
    this.#control = control;
    this.#config = config;
    this.#stream = stream;
    this.#log = log;
  }

  async look(): Promise<void> {
    const slot = await readSlot(this.#control, slotName(this.#config.source.name));
    if (slot !== undefined && slot.walStatus !== this.#status) {
      this.#status = slot.walStatus;
      const level = slot.walStatus === 'reserved' ? 'info' : 'warn';
      this.#log[level]({ event: 'slot-health', walStatus: slot.walStatus, safeWalBytes: slot.safeWalSize === null ? null : Number(slot.safeWalSize) }, 'slot');
    }
    this.#looks += 1;
    if (this.#looks % ASSERT_EVERY === 0 && !this.#stream.connection.isClosed()) await this.#assertStream();
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
      const result = await this.#control.query<{ held: string }>(
        'SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), restart_lsn)::bigint::text AS held FROM pg_catalog.pg_replication_slots WHERE slot_name = $1',
        [slotName(this.#config.source.name)],
      );
      const held = Number(result.rows[0]?.held ?? 0);
      this.#log.info(
        { event: 'slot-holds', bytes: held },
        `the slot holds ${(held / 1024 ** 2).toFixed(1)} MB of WAL, and all that is written until capture runs again`,
      );
    } catch {
      // the server may be the reason of the stop
    }
  }
}
