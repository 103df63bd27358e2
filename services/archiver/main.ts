/** archiver as a process of its own: `node services/archiver/main.js -c tidemark.yaml`. */
import { runServiceMain } from '../../src/runtime/service-main.js';
import { runArchiver } from './loop.js';

await runServiceMain('archiver', runArchiver);
