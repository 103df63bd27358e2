/** Rules of tidemark.yaml that need two fields at once. Pure. */
import type { Parsed } from './config-schema.js';
import { DURATION_MS, keepOf } from './config-values.js';
import { isLoopback } from './loopback.js';
import { clash, placeOfFiles } from './table-files.js';
import { parseTableKey } from './table-key.js';

/** Tidemark's own folder inside the archive: no group may be it. Its layout is archive/layout.ts's. */
const RESERVED = '_tidemark';

/** One login, whole. */
function streamProblems({ user, password, token, nkey, credentials, tls }: Parsed['stream']): string[] {
  const ways = Object.entries({ user, token, nkey, credentials }).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  const problems: string[] = [];
  if (ways.length > 1) problems.push(`stream: ${ways.join(' and ')} are two logins; take one out`);
  if (password !== undefined && user === undefined) problems.push('stream.password: without stream.user; give both');
  if ((tls?.cert === undefined) !== (tls?.key === undefined)) problems.push('stream.tls: cert and key go together; give both, or neither');
  return problems;
}

/** A port is one service's. */
function metricsProblems({ metrics }: Parsed): string[] {
  const { host: _, ...ports } = metrics ?? { host: '' };
  const owners = new Map<number, string>();
  return Object.entries(ports).flatMap(([service, port]) => {
    const owner = owners.get(port);
    owners.set(port, service);
    return owner === undefined ? [] : [`metrics.${service}: ${port} is the port of ${owner} already; give each service its own`];
  });
}

/** Whoever reaches the console sees it all and can ask for a prune. */
function consoleProblems({ console: wanted }: Parsed): string[] {
  if (wanted === undefined || wanted.token !== undefined || isLoopback(wanted.host)) return [];
  return [`console.token: missing; console.host ${JSON.stringify(wanted.host)} can be reached from elsewhere: give a token, or listen on 127.0.0.1`];
}

/** Rules that need two fields at once. */
export function crossCheck(data: Parsed): string[] {
  const problems = [...streamProblems(data.stream), ...metricsProblems(data), ...consoleProblems(data)];
  if (data.prune.retention < 1000) problems.push('prune.retention: shorter than a second; the least is 1s');
  const qualified = (key: string): string => {
    const { schema, table } = parseTableKey(key);
    return `${schema}.${table}`;
  };
  const protectedTables = new Set(data.protected.map(qualified));
  const files = new Map<string, string>();
  const names = new Map<string, string>();
  for (const [key, table] of Object.entries(data.tables)) {
    if (protectedTables.has(qualified(key))) problems.push(`tables.${key}: this table is also listed under protected; take it out of one of the two`);
    const twin = names.get(qualified(key));
    if (twin !== undefined) problems.push(`tables.${key}: is the same table as ${twin}; take one out`);
    names.set(qualified(key), key);
    const name = parseTableKey(key).table;
    const group = table.group ?? name;
    const place = placeOfFiles(group, name);
    if (placeOfFiles(group, '') === `${RESERVED}/`) problems.push(`tables.${key}.group: ${RESERVED} is Tidemark's own folder; give it another group`);
    for (const [other, owner] of files) {
      const how = twin === undefined ? clash(place, other) : undefined;
      if (how === 'same') problems.push(`tables.${key}: would share the files ${group}/${name}_*.parquet with ${owner}; give one of them another group`);
      if (how === 'alike') problems.push(`tables.${key}: its files would look like those of ${owner}; give one of them another group`);
    }
    files.set(place, key);
    if (/[/\\\0]/.test(name) || name === '.' || name === '..') problems.push(`tables.${key}: the name cannot be a file name`);
    const retention = table.retention ?? data.prune.retention;
    const keep = keepOf(table.keep ?? data.archive.keep);
    if (keep !== undefined && keep < Math.max(retention, DURATION_MS.d))
      problems.push(`tables.${key}: keep is shorter than ${keep < retention ? 'its retention' : 'a day'}; keep sealed days longer, or leave keep out`);
    if (table.retention !== undefined && retention < 1000) problems.push(`tables.${key}.retention: shorter than a second; the least is 1s`);
  }
  return problems;
}
