/** `repair --manifest`: a torn manifest costs nothing that the stream still holds, rows pruned on its word included (F41, laws 1, 3, 4). */
import { test } from 'node:test';
import { tornManifest } from '../../faults/torn-manifest.js';

test('back to the last sound manifest, and everything comes again from the stream', async (t) => t.diagnostic(await tornManifest()));
