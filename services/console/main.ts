/** The console as a process of its own: `node services/console/main.js -c tidemark.yaml`. */
import { runServiceMain } from '../../src/runtime/service-main.js';
import { runConsole } from './loop.js';

await runServiceMain('console', (config, log, signal) => runConsole(config, log, signal));
