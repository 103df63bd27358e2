/** Where the programs that come with Postgres are: beside a server, or among the system's packages, newest first. */
import { access } from 'node:fs/promises';
import path from 'node:path';
import { findExecutable } from '../../services/demo/engines/process.js';
import type { Pipeline } from './pipeline.js';

const FOLDERS = [18, 17, 16, 15].map((major) => `/usr/lib/postgresql/${major}/bin`);

/** Undefined where there is none. */
export async function findClientTool(name: 'pg_recvlogical' | 'pgbench' | 'psql', { postgres }: Pipeline): Promise<string | undefined> {
  const own = path.join(postgres.binDir, name);
  return await access(own).then(
    () => own,
    () => findExecutable(name, FOLDERS),
  );
}
