/** The pruner as a process of its own: `node services/pruner/main.js -c tidemark.yaml`. */
import { runServiceMain } from '../../src/runtime/service-main.js';
import { runPruner } from './loop.js';

await runServiceMain('pruner', runPruner);
