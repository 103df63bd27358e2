/** What is said of a table that the configuration does not have, when the database has it: that it is not archived, why init leaves it out, and how it is added. */
import { stringify } from 'yaml';
import type { Config } from '../../src/runtime/config.js';
import { configError, type TidemarkError } from '../../src/runtime/errors.js';
import { parseTableKey } from '../../src/runtime/table-key.js';
import { applicationName } from '../../src/wal/identifier.js';
import { closeClient, connectClient } from '../../src/wal/session.js';
import { type Found, keyOf, readTables, refusal, timestampColumn } from './catalog-tables.js';

/** The error that says so; undefined when the database has no such table, or does not answer. */
export async function notConfigured(config: Config, name: string): Promise<TidemarkError | undefined> {
  try {
    const { schema, table } = parseTableKey(name);
    const client = await connectClient(config.source.url.reveal(), { applicationName: applicationName(config.source.name, 'control') });
    const all = await readTables(client).finally(() => closeClient(client));
    const found = all.find((one) => one.schema === schema && one.table === table);
    return found && reasonOf(config, found);
  } catch {
    return undefined; // that it is not in the configuration is known all the same
  }
}

function reasonOf(config: Config, found: Found): TidemarkError {
  const key = keyOf(found);
  if (config.protected.some((one) => one.schema === found.schema && one.table === found.table))
    return configError(
      `table ${key} is protected: it is neither archived nor pruned`,
      'take it out of `protected` and add it to `tables`, if it is to be archived',
    );
  const refused = refusal(found);
  const timestamp = timestampColumn(found);
  const line = `${stringify({ [key]: { timestamp: timestamp ?? 'COLUMN' } }, { collectionStyle: 'flow' })
    .trim()
    .slice(1, -1)
    .trim()}`;
  const add = `add \`${line}\` to tables in ${config.file}, then tidemark doctor --fix and start the services again`;
  if (refused === undefined) return configError(`table ${key} is not archived: it is in the database and not in the configuration`, add);
  return configError(
    `table ${key} is not archived: it is not in the configuration, and tidemark init leaves it out: ${refused.why}`,
    `once that has changed, ${add}`,
  );
}
