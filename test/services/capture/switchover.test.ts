/** A planned switchover opens a new epoch by itself: capture goes on, nothing is lost or double, pruning goes on (F11, laws 1, 3, 4, 11). */
import { test } from 'node:test';
import { availablePostgresMajors } from '../../../services/demo/engines/postgres.js';
import { plannedSwitchover } from '../../faults/switchover.js';

const major = (await availablePostgresMajors()).at(-1) ?? 0;

test(`a standby takes over behind everything archived, Postgres ${major}`, { skip: major < 17 ? 'no Postgres with failover slots here' : false }, async (t) => {
  t.diagnostic(await plannedSwitchover(major));
});
