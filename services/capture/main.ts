/** capture as a process of its own: `node services/capture/main.js -c tidemark.yaml`. */
import { runServiceMain } from '../../src/runtime/service-main.js';
import { runCapture } from './loop.js';

await runServiceMain('capture', runCapture);
