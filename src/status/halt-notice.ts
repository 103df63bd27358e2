/** What a person is told of a halt, and what the receipt of a prune run says of the tables that it halted. Pure. */
import type { RunReceipt } from '../archive/receipts.js';
import type { HaltName } from '../runtime/errors.js';

/** A halt as a person needs it. `where`: the service or table that stands still. `at`: ISO time, null when it is only seen from outside. */
export type HaltNotice = {
  /** Null: the service ended as halted and did not say more. */
  readonly halt: HaltName | null;
  readonly where: string;
  readonly seen: string;
  readonly safe: string;
  readonly remedy: string;
  readonly at: string | null;
};

/** A table halts with DIGEST: its receipt says so in one line, `DIGEST: seen. safe. → remedy`. */
export function tableHalts(run: RunReceipt | null): HaltNotice[] {
  return (run?.tables ?? []).flatMap(({ table, problem }) => {
    const [, text, remedy = ''] = /^DIGEST: (.*?)(?: → (.*))?$/s.exec(problem ?? '') ?? [];
    if (text === undefined || run === null) return [];
    const end = text.search(/ Nothing /);
    const [seen, safe] = end < 0 ? [text, ''] : [text.slice(0, end), text.slice(end + 1)];
    return [{ halt: 'DIGEST' as const, where: table, seen, safe, remedy, at: run.finishedAt }];
  });
}
