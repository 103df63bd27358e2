/**
 * Sealed days beyond `keep` leave the archive: receipts fsynced, then one manifest that drops their files, and only then, after the grace that every dropped file has, the files. Owns that order
 * and that no day goes which got rows again meanwhile. By itself it takes only what a person has confirmed once (`tidemark expire`).
 */
import {
  confirmedTables,
  confirmKeep,
  type ExpiredDay,
  type ExpireReply,
  type ExpireRequest,
  expiredDays,
  readConfirmedKeep,
  recordExpired,
} from '../../src/archive/expire.js';
import { describePause, readPause } from '../../src/archive/operations.js';
import type { TableConfig } from '../../src/runtime/config.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { ArchiverContext } from './context.js';

/** Days that one manifest drops. */
const DAYS_AT_ONCE = 500;

/** What a person asked for and confirmed. Throws only what also ends the archiver. */
export async function expireAsked(context: ArchiverContext, request: ExpireRequest): Promise<ExpireReply> {
  const pause = await readPause(context.dir);
  if (pause !== undefined) return { ok: false, reason: describePause(pause) };
  const asked = new Set(request.files);
  const days = expiredDays(context.state, context.config.tables, Date.now());
  const wanted = days.filter(({ files }) => files.every(({ file }) => asked.has(file)));
  const found = new Set(wanted.flatMap(({ files }) => files.map(({ file }) => file)));
  const other = request.files.find((file) => !found.has(file));
  if (other !== undefined)
    return {
      ok: false,
      reason: `${other} may not go by the configuration that the archiver was started with, or its day has changed: start the archiver again, or ask again`,
    };
  // Only what the person has seen days of: `expire prices` says nothing of the other tables.
  await confirmKeep(
    context.dir,
    context.config.tables.filter((table) => wanted.some(({ schema, table: name }) => table.schema === schema && table.table === name)),
  );
  return { ok: true, ...(await dropDays(context, wanted, 'command')) };
}

/** What may go by itself. Returns the number of days. */
export async function expireByItself(context: ArchiverContext): Promise<number> {
  const { archive, tables } = context.config;
  if (!archive.expire || (await readPause(context.dir)) !== undefined) return 0;
  const confirmed = confirmedTables(tables, await readConfirmedKeep(context.dir));
  sayUnconfirmed(context, tables, confirmed);
  const days = expiredDays(context.state, confirmed, Date.now());
  return days.length === 0 ? 0 : (await dropDays(context, days, 'schedule')).days;
}

const said = new Set<string>();

function sayUnconfirmed(context: ArchiverContext, tables: readonly TableConfig[], confirmed: readonly TableConfig[]): void {
  for (const { schema, table, keepMs } of expiredTables(
    context,
    tables.filter((table) => !confirmed.includes(table)),
  )) {
    const name = `${schema}.${table} ${keepMs}`;
    if (said.has(name)) continue;
    said.add(name);
    context.log.warn({ event: 'expire-unconfirmed', table: `${schema}.${table}` }, 'archive.expire: nobody has confirmed this keep yet: tidemark expire');
  }
}

function expiredTables(context: ArchiverContext, tables: readonly TableConfig[]): TableConfig[] {
  const names = new Set(expiredDays(context.state, tables, Date.now()).map(({ schema, table }) => `${schema}.${table}`));
  return tables.filter(({ schema, table }) => names.has(`${schema}.${table}`));
}

type Dropped = { readonly days: number; readonly files: number; readonly rows: number; readonly bytes: number };

async function dropDays(context: ArchiverContext, days: readonly ExpiredDay[], by: 'command' | 'schedule'): Promise<Dropped> {
  let dropped: Dropped = { days: 0, files: 0, rows: 0, bytes: 0 };
  for (let at = 0; at < days.length; at += DAYS_AT_ONCE) {
    const some = days.slice(at, at + DAYS_AT_ONCE);
    const gone = await context.housework(() => dropSome(context, some, by));
    const files = gone.flatMap((day) => day.files);
    dropped = {
      days: dropped.days + gone.length,
      files: dropped.files + files.length,
      rows: dropped.rows + files.reduce((sum, { rows, kind }) => sum + (kind === 'changes' ? 0 : rows), 0),
      bytes: dropped.bytes + files.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }
  return dropped;
}

/** Returns the days that went: not one that got rows, or other files, since it was chosen. */
async function dropSome(context: ArchiverContext, days: readonly ExpiredDay[], by: 'command' | 'schedule'): Promise<readonly ExpiredDay[]> {
  const { tables } = context.config;
  const keeps = new Map(tables.map((table) => [`${table.schema}.${table.table}`, table.keepMs ?? 0]));
  const at = new Date().toISOString();
  await recordExpired(
    context.dir,
    days.flatMap(({ files, day, schema, table }) =>
      files.map(({ file, kind, rows, bytes, sha256 }) => ({
        file,
        kind,
        schema,
        table,
        day,
        rows,
        bytes,
        sha256,
        at,
        by,
        keepMs: keeps.get(`${schema}.${table}`) ?? 0,
      })),
    ),
  );
  faultPoint('K6');
  let gone: readonly ExpiredDay[] = [];
  const state = await context.commit((before) => {
    const still = new Map(expiredDays(before, tables, Date.now()).map((day) => [nameOf(day), day]));
    gone = days.filter((day) => still.get(nameOf(day))?.files.length === day.files.length);
    const drop = gone.flatMap(({ files }) => files.map(({ file }) => file));
    return drop.length === 0 ? undefined : { reason: 'expire', drop };
  });
  faultPoint('K7');
  if (gone.length > 0)
    context.log.info(
      { event: 'expire', manifest: state.number, days: gone.length, files: gone.reduce((sum, { files }) => sum + files.length, 0), by },
      'sealed days left the archive by its retention',
    );
  return gone;
}

function nameOf({ schema, table, day }: ExpiredDay): string {
  return `${schema}.${table} ${day}`;
}
