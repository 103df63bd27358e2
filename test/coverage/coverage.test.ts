/** Coverage as a table of cases: unknown means not covered (laws 10 and 11). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ArchiveState } from '../../src/archive/manifest.js';
import { type LiveTable, type Server, tableCoverage } from '../../src/coverage/coverage.js';

const server: Server = { systemId: '7', timeline: 1, nextXid: '1000' };
const state = {
  epoch: { systemId: '7', timeline: 1, generation: 'g' },
  position: '0/100:0',
  tables: [{ oid: 1, schema: 'public', table: 't', timestamp: 'at', coverage: { state: 'open', since: 3 }, copied: { snapshotXmax: '5', published: 'p' } }],
  fences: [{ lsn: '0/90', end: '0/100', nonce: 'n', horizon: '900' }],
} as unknown as ArchiveState;
const changed = (change: object): ArchiveState => ({ ...state, ...change });

const live: LiveTable = { oid: 1, schema: 'public', table: 't', published: 'p', timestamp: 'at' };
const CASES: [what: string, state: ArchiveState | undefined, server: Server, reason: RegExp | undefined][] = [
  ['all is well', state, server, undefined],
  ['no manifest', undefined, server, /no manifest/],
  ['no epoch', changed({ epoch: null }), server, /first copy/],
  ['copy not complete', changed({ position: null }), server, /first copy/],
  ['another server', state, { ...server, systemId: '8' }, /system identifier 7/],
  ['another timeline', state, { ...server, timeline: 2 }, /timeline 1/],
  ['table unknown', changed({ tables: [] }), server, /not archived yet/],
  [
    'coverage closed',
    changed({ tables: [{ oid: 1, schema: 'public', table: 't', timestamp: 'at', coverage: { state: 'closed', reason: 'columns changed' } }] }),
    server,
    /columns changed/,
  ],
  ['no fence', changed({ fences: [] }), server, /no fence/],
  ['fence of the future', state, { ...server, nextXid: '899' }, /another history/],
  ['fence just young enough', state, { ...server, nextXid: String(900n + 2n ** 30n - 1n) }, undefined],
  ['fence too old', state, { ...server, nextXid: String(900n + 2n ** 30n) }, /too old/],
];

for (const [what, given, on, reason] of CASES) {
  test(what, () => {
    const coverage = tableCoverage(given, live, on);
    if (reason === undefined) assert.equal(coverage.state, 'covered');
    else assert.match(coverage.state === 'not' ? coverage.reason : 'covered', reason);
  });
}

const LIVE: [what: string, live: LiveTable, reason: RegExp][] = [
  ['made again under its name', { ...live, oid: 2 }, /not archived yet/],
  ['renamed', { ...live, table: 'u' }, /it was public\.t/],
  ['another timestamp column', { ...live, timestamp: 'made' }, /timestamp column was at/],
  ['published anew', { ...live, published: 'q' }, /taken out of the publication/],
  ['not published', { ...live, published: null }, /taken out of the publication/],
];

for (const [what, table, reason] of LIVE) {
  test(what, () => {
    const coverage = tableCoverage(state, table, server);
    assert.match(coverage.state === 'not' ? coverage.reason : 'covered', reason);
  });
}
