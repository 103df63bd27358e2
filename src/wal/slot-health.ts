/** How near a slot is to being lost, or the disk of Postgres to being full: one judgement for capture, doctor and status. Pure. Nothing is ever confirmed early because of it. */

const GB = 1024 ** 3;
/** Alarms: shares of the WAL that max_slot_wal_keep_size lets the slot hold. */
const SHARES = [0.5, 0.75, 0.9] as const;
/** Alarms where nothing bounds it, bytes. */
const UNBOUNDED = [10 * GB, 50 * GB, 100 * GB] as const;

export const THRESHOLDS = 'alarms at 50, 75 and 90 % of max_slot_wal_keep_size; without one at 10, 50 and 100 GB';

export type SlotHealth = {
  readonly walStatus: string | null;
  /** Why the server gave it up: `wal_removed`, `idle_timeout` … (17 and newer). */
  readonly invalidation: string | null;
  readonly heldBytes: number;
  /** Bytes that may still be written before it is lost; null: unlimited. */
  readonly safeBytes: number | null;
};

/** 0: well. 1 to 3: an alarm that grows. 4: lost. */
export type SlotAlarm = { readonly level: number; readonly seen: string };

export function slotAlarm({ walStatus, invalidation, heldBytes, safeBytes }: SlotHealth): SlotAlarm {
  if (walStatus === 'lost' || invalidation !== null) {
    return { level: 4, seen: `the server has given the slot up (wal_status ${walStatus ?? 'unknown'}${invalidation === null ? '' : `, ${invalidation}`})` };
  }
  const held = `it holds ${(heldBytes / GB).toFixed(heldBytes < GB / 10 ? 3 : 1)} GB of WAL`;
  if (walStatus === 'unreserved') return { level: 3, seen: `${held}, more than max_slot_wal_keep_size: the next checkpoint may lose the slot` };
  const share = safeBytes === null ? 0 : heldBytes / Math.max(1, heldBytes + Math.max(0, safeBytes));
  const level = safeBytes === null ? UNBOUNDED.filter((most) => heldBytes >= most).length : SHARES.filter((most) => share >= most).length;
  if (level > 0)
    return {
      level,
      seen: safeBytes === null ? `${held} and nothing bounds it` : `${held}, ${Math.round(share * 100)} % of what max_slot_wal_keep_size allows`,
    };
  return walStatus === 'extended' ? { level: 1, seen: `${held}, more than max_wal_size` } : { level: 0, seen: held };
}
