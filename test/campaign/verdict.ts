/** What the end of a campaign comes to: the journal against Postgres and the files, counted by what is wrong. */
import type { Pipeline } from '../pipeline/pipeline.js';
import { auditFiles, type Difference, describeDifference } from './audit.js';
import { counted, type Journal, type Transaction, textOf } from './journal.js';
import type { Kind } from './tables.js';

export type Verdict = {
  lost: number;
  unexpected: number;
  phantom: number;
  duplicate: number;
  torn: number;
  outOfOrder: number;
  /** A few of each. */
  readonly examples: string[];
};

/** Everything archived, every finished day sealed, all services stopped. */
export async function judge(pipeline: Pipeline, journal: Journal, kinds: readonly Kind[], firstOpen: string): Promise<Verdict> {
  const verdict: Verdict = { lost: 0, unexpected: 0, phantom: 0, duplicate: 0, torn: 0, outOfOrder: 0, examples: [] };
  const say = (what: string): void => {
    if (verdict.examples.length < 20) verdict.examples.push(what);
  };
  const missing = new Set<string>();
  const orders = new Map<string, { readonly lsn: bigint; readonly ordinal: bigint }>();
  const committed = counted(journal.versions.map(textOf));
  for (const kind of kinds) {
    const audit = await auditFiles(pipeline, journal, kind, firstOpen);
    for (const problem of audit.problems) {
      verdict.unexpected += 1;
      say(problem);
    }
    for (const difference of [...audit.differences, ...(await hot(pipeline, journal, kind))]) {
      verdict[classOf(difference, committed, journal)] += 1;
      say(`${describeDifference(difference)}${historyOf(difference, kind, journal)}`);
      if (difference.there < difference.wanted) missing.add(`${kind.name} ${difference.text}`);
    }
    if (!kind.keyless) for (const [ver, place] of audit.order) orders.set(`${kind.name} ${ver}`, place);
  }
  for (const transaction of journal.transactions) if (isTorn(transaction, missing)) verdict.torn += 1;
  verdict.outOfOrder = outOfOrder(journal, orders, say);
  return verdict;
}

/** Rows in Postgres that should not be there: what is missing there counts as pruned, and is looked for in the files. */
async function hot(pipeline: Pipeline, journal: Journal, kind: Kind): Promise<Difference[]> {
  if (kind.keyless) return [];
  const rows = await pipeline.query<{ ver: string }>(`SELECT ver FROM ${kind.name}`);
  const live = new Set(journal.of(kind, 'live').map(({ ver }) => ver));
  return rows.filter(({ ver }) => !live.has(ver)).map(({ ver }) => ({ where: `${kind.name} in Postgres`, text: ver, there: 1, wanted: 0 }));
}

function classOf(
  { text, there, wanted }: Difference,
  committed: ReadonlyMap<string, number>,
  journal: Journal,
): 'lost' | 'duplicate' | 'phantom' | 'unexpected' {
  if (there < wanted) return 'lost';
  if (wanted > 0) return 'duplicate';
  return journal.wasTried(text) && !committed.has(text) ? 'phantom' : 'unexpected';
}

/** What became of the versions of the same key, for whoever looks into it. */
function historyOf({ text }: Difference, kind: Kind, journal: Journal): string {
  if (kind.keyless) return '';
  const version = journal.versions.find((one) => one.kind === kind && (one.ver === text || textOf(one) === text));
  const same = journal.versions.filter((one) => one.kind === kind && one.key.join('|') === version?.key.join('|'));
  return same
    .map((one) => `\n      ${one.ver} of ${one.by?.id}#${one.nth}, ${one.fate}, from 0x${one.made.toString(16)} to 0x${one.ended.toString(16)}`)
    .join('');
}

/** Partly there. */
function isTorn({ entries }: Transaction, missing: ReadonlySet<string>): boolean {
  let there = false;
  let gone = false;
  for (const entry of entries) {
    if (!('insert' in entry) || entry.insert.fate === 'superseded') continue;
    if (missing.has(`${entry.insert.kind.name} ${textOf(entry.insert)}`)) gone = true;
    else there = true;
  }
  return there && gone;
}

/** Changes of a transaction have one position and rising ordinals; transactions of one connection rising positions. */
function outOfOrder(journal: Journal, orders: ReadonlyMap<string, { readonly lsn: bigint; readonly ordinal: bigint }>, say: (what: string) => void): number {
  let wrong = 0;
  const last = new Map<number, bigint>();
  for (const { id, lane, entries } of journal.transactions) {
    let at: bigint | undefined;
    let ordinal = 0n;
    let fine = true;
    for (const entry of entries) {
      const place = 'insert' in entry ? orders.get(`${entry.insert.kind.name} ${entry.insert.ver}`) : undefined;
      if (place === undefined) continue;
      if (at === undefined) fine &&= place.lsn > (last.get(lane) ?? 0n);
      else fine &&= place.lsn === at && place.ordinal > ordinal;
      at = place.lsn;
      ordinal = place.ordinal;
    }
    if (at !== undefined) last.set(lane, at);
    if (fine) continue;
    wrong += 1;
    say(`transaction ${id} of connection ${lane} is out of order`);
  }
  return wrong;
}
