/** Where pg_recvlogical is: beside the server, or among the system's packages, newest first. */
import { access } from 'node:fs/promises';
import path from 'node:path';
import { findExecutable } from '../../services/demo/engines/process.js';
import type { Pipeline } from './pipeline.js';

/** Undefined where there is none. */
export async function findRecvlogical({ postgres }: Pipeline): Promise<string | undefined> {
  const own = path.join(postgres.binDir, 'pg_recvlogical');
  return await access(own).then(
    () => own,
    () =>
      findExecutable(
        'pg_recvlogical',
        [18, 17, 16, 15].map((major) => `/usr/lib/postgresql/${major}/bin`),
      ),
  );
}
