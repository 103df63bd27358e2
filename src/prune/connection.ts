/**
 * The pruner's one connection: it holds the lock that only one pruner of a source has, and everything of a run goes over it. Owns opening and testing it; a
 * server that hangs cannot hold us at any of these.
 */
import type pg from 'pg';
import type { Epoch } from '../position/epoch.js';
import type { Config } from '../runtime/config.js';
import { sleep } from '../runtime/service.js';
import { applicationName } from '../wal/identifier.js';
import { readServerIdentity } from '../wal/identity.js';
import { connectClient, endWhenSilent } from '../wal/session.js';

const PROBE_MS = 5000;
const LOCK_LOOK_MS = 200;
/** Between two statements of a run lies at most the reading of segments. */
const SILENT_S = 600;

/** Connects with the pruner's own role where there is one. */
export function connectPruner(config: Config): Promise<pg.Client> {
  const { url, prunerUrl } = config.source;
  const field = prunerUrl === undefined ? 'source.url' : 'source.prunerUrl';
  return connectClient((prunerUrl ?? url).reveal(), { field, applicationName: applicationName(config.source.name, 'pruner') });
}

/**
 * Takes the session lock that only one pruner of a source holds; it goes with the connection. False: another one has it, still after `patienceMs` (our own lost
 * connection is another one until the server has noticed).
 */
export async function takeLock(client: pg.Client, source: string, patienceMs: number, signal: AbortSignal): Promise<boolean> {
  for (const until = performance.now() + patienceMs; ; await sleep(LOCK_LOOK_MS, signal)) {
    const { rows } = await client.query<{ got: string }>('SELECT pg_try_advisory_lock(hashtextextended($1, 0))::text AS got', [`tidemark:${source}:pruner`]);
    if (rows[0]?.got === 'true') {
      await endWhenSilent(client, SILENT_S);
      return true;
    }
    if (signal.aborted || performance.now() >= until) return false;
  }
}

/** Is this the server, and the history of it, that the epoch names? Why not, or undefined. */
export async function otherServer(client: pg.Client, epoch: Epoch): Promise<string | undefined> {
  const server = await readServerIdentity(client);
  if (server.inRecovery) return 'the server is in recovery: it is a standby';
  if (server.systemId !== epoch.systemId) return `the archive belongs to the server with system identifier ${epoch.systemId}, this one is ${server.systemId}`;
  if (server.timeline !== epoch.timeline) return `the archive was made on timeline ${epoch.timeline}, the server is on ${server.timeline}`;
  return undefined;
}

/** Does it still answer? */
export async function isUsable(client: pg.Client): Promise<boolean> {
  try {
    await client.query({ text: 'SELECT 1', query_timeout: PROBE_MS } as pg.QueryConfig);
    return true;
  } catch {
    return false;
  }
}
