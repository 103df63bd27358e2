/** `tidemark resync`: the archive goes on with a new slot and a new copy, on the server it was made from: after a lost, dropped or advanced slot, a promotion, a restored backup. */
import { loadConfig } from '../../../src/runtime/config.js';
import { TidemarkError } from '../../../src/runtime/errors.js';
import { beginNewEpoch } from '../new-epoch.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const config = loadConfig(String(options['config']));
  await beginNewEpoch(config, {
    command: 'resync',
    yes: options['yes'],
    judge: async ({ server, state }) => {
      if (state.epoch !== null && state.epoch.systemId !== server.systemId) {
        throw new TidemarkError('failed', `this server has the system identifier ${server.systemId}, the archive is of ${state.epoch.systemId}`, {
          remedy: 'correct source.url; if this server carries the data on (pg_upgrade, a restored backup): tidemark adopt',
        });
      }
      return config.source.name;
    },
  });
  return 0;
}
