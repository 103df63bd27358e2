/** A slot that the server gives up is alarmed before, halts by name, and is mended by `resync` (F14, F15, laws 3, 10). */
import { test } from 'node:test';
import { availablePostgresMajors } from '../../../services/demo/engines/postgres.js';
import { slotLost } from '../../faults/slot-lost.js';

const majors = await availablePostgresMajors();

test('more WAL than the slot may hold, on the oldest version here', async (t) => t.diagnostic(await slotLost(majors[0])));
