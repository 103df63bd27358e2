/** A table as a person names it on the command line: by its key in the configuration, or with its schema. */
import type { Config, TableConfig } from '../../src/runtime/config.js';
import { configError } from '../../src/runtime/errors.js';

/** Throws `config` when the configuration has no such table. */
export function configuredTable(config: Config, name: string): TableConfig {
  const table = config.tables.find((entry) => entry.key === name || `${entry.schema}.${entry.table}` === name);
  if (table === undefined)
    throw configError(`table ${JSON.stringify(name)} is not in the configuration`, `name one of: ${config.tables.map(({ key }) => key).join(', ')}`);
  return table;
}
