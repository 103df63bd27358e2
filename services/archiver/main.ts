/** archiver as a process: configuration → log → run. */
import { parseArgs } from 'node:util';
import { type Config, loadConfig } from '../../src/runtime/config.js';
import { configError, describeError, exitCodeOf } from '../../src/runtime/errors.js';
import { createLog } from '../../src/runtime/log.js';
import { runMain } from '../../src/runtime/service.js';
import { runArchiver } from './loop.js';

function readConfig(): Config {
  try {
    const { values } = parseArgs({ options: { config: { type: 'string', short: 'c', default: 'tidemark.yaml' } } });
    return loadConfig(values.config);
  } catch (error) {
    const known = error instanceof TypeError ? configError(error.message, 'usage: archiver -c FILE') : error;
    process.stderr.write(`${describeError(known)}\n`);
    process.exit(exitCodeOf(known));
  }
}

const config = readConfig();
const log = createLog('archiver', { level: config.log.level });
for (const notice of config.notices) log.info({ event: 'notice' }, notice);
await runMain(log, (signal) => runArchiver(config, log, signal));
