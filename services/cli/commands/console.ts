/** `tidemark console [--port N]`: the console alone, in the foreground. */

import { loadConfig } from '../../../src/runtime/config.js';
import { configError } from '../../../src/runtime/errors.js';
import { createLog } from '../../../src/runtime/log.js';
import { runMain } from '../../../src/runtime/service.js';
import { runConsole } from '../../console/loop.js';

export async function run(_: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>): Promise<number> {
  const port = options['port'] === undefined ? undefined : Number(options['port']);
  if (port !== undefined && !(Number.isInteger(port) && port > 0 && port < 65_536))
    throw configError(`--port: ${JSON.stringify(options['port'])} is not a port`, 'give a number from 1 to 65535');
  const config = loadConfig(String(options['config']), port === undefined ? {} : { consolePort: port });
  const log = createLog('console', { level: config.log.level });
  return runMain(log, (signal) =>
    runConsole(config, log, signal, {
      ...(port === undefined ? {} : { field: '--port' }),
      listening: (address) => process.stdout.write(`${address}\n`),
    }),
  );
}
