/** `tidemark run [service]`. */
import { loadConfig } from '../../../src/runtime/config.js';
import { configError } from '../../../src/runtime/errors.js';
import { createLog } from '../../../src/runtime/log.js';
import { runService, type ServiceLoop } from '../../../src/runtime/service-main.js';
import { supervise } from '../supervisor.js';

const LOOPS: Readonly<Record<string, () => Promise<ServiceLoop>>> = {
  capture: async () => (await import('../../capture/loop.js')).runCapture,
  archiver: async () => (await import('../../archiver/loop.js')).runArchiver,
  pruner: async () => (await import('../../pruner/loop.js')).runPruner,
  console: async () => {
    const { runConsole } = await import('../../console/loop.js');
    return (config, log, signal) => runConsole(config, log, signal);
  },
};

export async function run([service]: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const file = String(options['config']);
  if (service === undefined) {
    const config = loadConfig(file);
    return supervise(config, createLog('supervisor', { level: config.log.level }));
  }
  const loop = LOOPS[service];
  if (loop === undefined) throw configError(`run: no service is named ${JSON.stringify(service)}`, `name one of: ${Object.keys(LOOPS).join(', ')}`);
  return runService(service, file, await loop());
}
