/** Every step × {SIGKILL, power cut} × {first, second, last passage}. The last one is counted in a run without faults. */
import type { FaultPoint } from '../../src/runtime/fault-point.js';
import { countPassages, crashAt, type Ending, type Passage } from './crash.js';
import type { Case } from './matrix.js';

export type StepOptions = {
  readonly points: readonly FaultPoint[];
  readonly endings: readonly Ending[];
  readonly passages: readonly Passage[];
  readonly major: number | undefined;
};

/** Cases in the order in which a reader looks for them. Throws when the workload does not come by a point at all. */
export async function stepCases({ points, endings, passages, major }: StepOptions): Promise<{ id: string; case: Case }[]> {
  const counts = passages.includes('last') ? await countPassages(major) : new Map<FaultPoint, number>();
  const missing = passages.includes('last') ? points.filter((point) => !counts.has(point)) : [];
  if (missing.length > 0) throw new Error(`the workload does not come by ${missing.join(', ')}`);
  return points.flatMap((point) =>
    endings.flatMap((ending) =>
      passages.flatMap((passage) => {
        const last = counts.get(point) ?? 0;
        const number = { first: 1, second: 2, last }[passage];
        // A step that a run passes once or twice has no third, or no second, passage: C1 is at the start of a process.
        if (passages.includes('last') && ((passage === 'second' && last < 2) || (passage === 'last' && last < 3))) return [];
        const how = ending === 'kill' ? 'SIGKILL' : `power cut (${ending.fileSystem})`;
        return [{ id: point, case: { name: `${how} at the ${passage} passage (${number})`, run: (of?: number) => crashAt(point, number, ending, of) } }];
      }),
    ),
  );
}
