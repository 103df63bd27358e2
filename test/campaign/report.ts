/** What a campaign found, as it is printed and written. */
export type Report = {
  readonly ok: boolean;
  readonly seed: number;
  readonly seconds: number;
  /** Seconds from start to end, audit included. */
  readonly took: number;
  readonly major: number;
  /** Version of the nats-server. */
  readonly nats: string;
  /** The last one that changed the program. */
  readonly commit: string;
  readonly transactions: number;
  readonly versions: number;
  /** Rows that are in Postgres at the end. */
  readonly rows: number;
  readonly pruned: number;
  /** Asynchronous commits that a crash of the server took with it. */
  readonly lostByServer: number;
  readonly operations: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  /** Rows that prune runs left for later, by reason. */
  readonly left: Readonly<Record<string, number>>;
  /** What this machine cannot do, each with its reason. */
  readonly leftOut: readonly string[];
  readonly lost: number;
  readonly unexpected: number;
  readonly phantom: number;
  readonly duplicate: number;
  readonly torn: number;
  readonly outOfOrder: number;
  readonly law3: { readonly samples: number; readonly violations: number };
  readonly sampler: { readonly filesHashed: number; readonly violations: number };
  readonly witness: { readonly changes: number; readonly differences: number } | null;
  readonly rebuild: string;
  readonly maxLagSeconds: number;
  /** How often a service ended by itself and was started again. */
  readonly restarts: number;
  readonly halts: readonly string[];
  readonly problems: readonly string[];
};

/** How many faults there were: a period without one and a change of a table are none. */
export const faultsOf = ({ faults }: Report): number =>
  Object.entries(faults).reduce((sum, [name, count]) => sum + (name === 'none' || name === 'ddl' ? 0 : count), 0);

/** One line for a person. */
export function summary(report: Report): string {
  const { lost, unexpected, phantom, duplicate, torn, outOfOrder, law3, witness } = report;
  const violations = `lost ${lost}, unexpected ${unexpected}, phantom ${phantom}, duplicate ${duplicate}, torn ${torn}, out of order ${outOfOrder}`;
  const sampled = `law 3 ${law3.violations} of ${law3.samples}, witness ${witness === null ? 'none' : `${witness.differences} of ${witness.changes}`}, rebuild ${report.rebuild}`;
  return `seed ${report.seed} on Postgres ${report.major}, NATS ${report.nats}: ${report.ok ? 'clean' : 'NOT CLEAN'} in ${report.took} s; ${report.versions} versions, ${report.pruned} pruned, ${faultsOf(report)} faults; ${violations}; ${sampled}; greatest lag ${report.maxLagSeconds} s`;
}
