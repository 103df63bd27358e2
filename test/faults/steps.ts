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

/** Cases in the order in which a reader looks for them; a passage that the workload does not have twice is left out by the count, not by hope. */
export async function stepCases({ points, endings, passages, major }: StepOptions): Promise<{ id: string; case: Case }[]> {
  const counts = passages.includes('last') ? await countPassages(major) : new Map<FaultPoint, number>();
  return points.flatMap((point) =>
    endings.flatMap((ending) =>
      passages.map((passage) => {
        const last = counts.get(point) ?? 0;
        if (passage === 'last' && last < 3) throw new Error(`the workload passes ${point} only ${last} times: first, second and last are not three passages`);
        const number = { first: 1, second: 2, last }[passage];
        const how = ending === 'kill' ? 'SIGKILL' : `power cut (${ending.fileSystem})`;
        return { id: point, case: { name: `${how} at the ${passage} passage (${number})`, run: (of?: number) => crashAt(point, number, ending, of) } };
      }),
    ),
  );
}
