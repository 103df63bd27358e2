/** The archive as an outside reader sees it: hyparquet, which neither writes nor verifies segments, and lives worked out here, row by row. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import type { Pipeline } from './pipeline.js';

export type Version = Record<string, unknown> & { _op?: string; _lsn?: bigint; _ordinal?: bigint };

/** The last version of each life of the rows of a table whose key is `id`, by id; of files that the manifest names. */
export async function archiveView(pipeline: Pipeline, table: string): Promise<Map<string, Version[]>> {
  const state = await pipeline.state();
  assert.ok(state, 'there is a manifest');
  const files = [...state.files.values()].filter((file) => file.table === table && file.pendingCopy === null);
  const view = new Map<string, Version[]>();
  const events = new Map<string, Version[]>();
  const truncates: Version[] = [];
  for (const file of files) {
    if (file.kind === 'history' || file.kind === 'changes' || file.kind === 'restored') continue;
    for (const row of await readRows(pipeline, file)) {
      const id = String(row['id']);
      if (file.kind === 'daily') view.set(id, [...(view.get(id) ?? []), row]);
      else if (row._op === 'truncate' || row._op === 'copied') truncates.push({ ...row, _keys: true, _oid: file.oid });
      else events.set(id, [...(events.get(id) ?? []), { ...row, _keys: file.kind === 'keys', _oid: file.oid }]);
    }
  }
  for (const [id, versions] of events) {
    const survivors = lastOfEachLife([...versions, ...truncates]);
    if (survivors.length > 0) view.set(id, [...(view.get(id) ?? []), ...survivors]);
  }
  return view;
}

/** The rows of one file. */
export async function readRows(pipeline: Pipeline, file: FileEntry): Promise<Version[]> {
  return (await parquetReadObjects({ file: await asyncBufferFromFile(path.join(pipeline.archiveDir, file.file)), compressors })) as Version[];
}

/** Versions of one key, in commit order: one survives unless an update, another insert or a user's delete follows it, or a copy of the whole table that does not hold it. */
function lastOfEachLife(events: Version[]): Version[] {
  const order = (event: Version): [bigint, bigint] => [BigInt(event._lsn ?? 0), BigInt(event._ordinal ?? 0)];
  const versions = events.filter((event) => !event['_keys']);
  return versions.filter((version) => {
    const [lsn, ordinal] = order(version);
    const after = events
      .filter((event) => order(event)[0] > lsn || (order(event)[0] === lsn && order(event)[1] > ordinal))
      .filter((event) => event['_oid'] === version['_oid'] || (event._op !== 'truncate' && event._op !== 'copied'))
      .sort((a, b) => Number(order(a)[0] - order(b)[0]) || Number(order(a)[1] - order(b)[1]));
    const [next] = after.filter((event) => event._op !== 'copied');
    if (after[0]?._op === 'copied') return next?._op === 'prune';
    return next === undefined || next._op === 'prune';
  });
}
