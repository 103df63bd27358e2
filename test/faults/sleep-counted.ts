/** Preloaded (`node --import`) into a service whose clock libfaketime takes from a file: the time since boot goes on by the same hours, as when the machine slept. */
import { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';

const uptime = os.uptime;
os.uptime = () => uptime() + Number.parseFloat(readFileSync(process.env['FAKETIME_TIMESTAMP_FILE'] as string, 'utf8')) * 3600;
syncBuiltinESMExports();
