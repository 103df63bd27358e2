/** How fast the stages go, from two looks at the pipeline. Pure. */
import { parseLsn } from '../../src/position/lsn.js';
import { parsePosition } from '../../src/position/position.js';
import type { PipelineStatus } from '../../src/status/pipeline-state.js';

/** By the second; null where one of the two looks does not know it, or it went back (a new epoch). */
export type Rates = {
  /** Between the two looks. */
  readonly seconds: number;
  /** Bytes of WAL: written by Postgres, and passed by the end of the stream, by the archived position and by the slot. */
  readonly writtenBytes: number | null;
  readonly publishedBytes: number | null;
  readonly archivedBytes: number | null;
  readonly confirmedBytes: number | null;
  readonly archivedRows: number | null;
  readonly prunedRows: number | null;
  readonly tables: readonly { readonly table: string; readonly archivedRows: number | null; readonly prunedRows: number | null }[];
};

/** Null when no time lies between them. */
export function ratesBetween(before: PipelineStatus, after: PipelineStatus): Rates | null {
  const seconds = (Date.parse(after.at) - Date.parse(before.at)) / 1000;
  if (!(seconds > 0)) return null;
  const rate = (read: (look: PipelineStatus) => number | null): number | null => {
    const [from, to] = [read(before), read(after)];
    return from === null || to === null || to < from ? null : Math.round(((to - from) / seconds) * 10) / 10;
  };
  const rows = (pick: (table: PipelineStatus['tables'][number]) => number) => (look: PipelineStatus) =>
    look.tables.reduce((sum, table) => sum + pick(table), 0);
  const ofTable = (name: string, pick: (table: PipelineStatus['tables'][number]) => number) => (look: PipelineStatus) => {
    const table = look.tables.find((one) => one.table === name);
    return table === undefined ? null : pick(table);
  };
  return {
    seconds,
    writtenBytes: rate(({ postgres }) => ('problem' in postgres ? null : Number(parseLsn(postgres.insertLsn)))),
    publishedBytes: rate(({ stream }) => ('problem' in stream || stream.tail === null ? null : Number(parseLsn(stream.tail)))),
    archivedBytes: rate(({ archive }) => ('problem' in archive || archive.position === null ? null : Number(parsePosition(archive.position).lsn))),
    confirmedBytes: rate(({ slot }) => (slot?.confirmedLsn == null ? null : Number(parseLsn(slot.confirmedLsn)))),
    archivedRows: rate(rows(({ archivedRows }) => archivedRows)),
    prunedRows: rate(rows(({ prunedRows }) => prunedRows)),
    tables: after.tables.map(({ table }) => ({
      table,
      archivedRows: rate(ofTable(table, ({ archivedRows }) => archivedRows)),
      prunedRows: rate(ofTable(table, ({ prunedRows }) => prunedRows)),
    })),
  };
}

/** The looks of the last minute: a rate between the first and the last of them does not jump with every flush. */
export class Looks {
  readonly #windowMs: number;
  readonly #looks: PipelineStatus[] = [];

  constructor(windowMs = 60_000) {
    this.#windowMs = windowMs;
  }

  /** Takes the newest look, and says how fast things went up to it; null for the first. */
  add(look: PipelineStatus): Rates | null {
    this.#looks.push(look);
    const since = Date.parse(look.at) - this.#windowMs;
    while (this.#looks.length > 2 && Date.parse((this.#looks[1] as PipelineStatus).at) <= since) this.#looks.shift();
    return this.#looks[0] === look ? null : ratesBetween(this.#looks[0] as PipelineStatus, look);
  }
}
