/** What may be asked of the pruner on `tidemark.<source>.prune`, and what it answers. */

import { configError } from '../runtime/errors.js';
import type { PruneResult } from './run.js';

/** All tables when none is named; its reply is a PruneReply. */
export type PruneRequest = { readonly table?: string; readonly dryRun?: boolean };
export type PruneReply = { readonly ok: true; readonly result: PruneResult } | { readonly ok: false; readonly reason: string; readonly exitCode: number };

/** Reads a request; nothing at all asks for everything. Throws `config` for what is not one. */
export function parsePruneRequest(body: string): PruneRequest {
  const wrong = (): Error => configError(`not a request to prune: ${JSON.stringify(body.slice(0, 100))}`, 'send for instance {"table":"prices","dryRun":true}');
  let request: unknown;
  try {
    request = body.trim() === '' ? {} : JSON.parse(body);
  } catch {
    throw wrong();
  }
  if (request === null || typeof request !== 'object' || Array.isArray(request)) throw wrong();
  const { table, dryRun, ...rest } = request as Record<string, unknown>;
  if ((table !== undefined && typeof table !== 'string') || (dryRun !== undefined && typeof dryRun !== 'boolean') || Object.keys(rest).length > 0)
    throw wrong();
  return { ...(table === undefined ? {} : { table }), ...(dryRun === undefined ? {} : { dryRun }) };
}
