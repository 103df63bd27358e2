/** The main that every service process shares: `-c FILE` → configuration → log → run, until a signal or the end of its supervisor. */
import { parseArgs } from 'node:util';
import { type Config, loadConfig } from './config.js';
import { configError, describeError, exitCodeOf } from './errors.js';
import { createLog, type Log } from './log.js';
import { type Monitor, openMonitor } from './monitor.js';
import { runMain } from './service.js';

export type ServiceLoop = (config: Config, log: Log, signal: AbortSignal, monitor: Monitor) => Promise<void>;

/** Ends the process: 0 after a signal, else with the exit code of what stopped it. */
export async function runServiceMain(name: string, loop: ServiceLoop): Promise<never> {
  let file: string;
  try {
    file = parseArgs({ options: { config: { type: 'string', short: 'c', default: 'tidemark.yaml' } } }).values.config;
  } catch (error) {
    return refuse(configError((error as Error).message, `usage: ${name} -c FILE`));
  }
  return runService(name, file, loop);
}

/** The same with the file already known. */
export async function runService(name: string, file: string, loop: ServiceLoop): Promise<never> {
  setUmask();
  let config: Config;
  try {
    config = loadConfig(file);
  } catch (error) {
    return refuse(error);
  }
  const log = createLog(name, { level: config.log.level });
  // A supervisor holds an IPC channel to us: when it dies, however it dies, we stop. It has said the notices already.
  if (process.channel) process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  else for (const notice of config.notices) log.info({ event: 'notice' }, notice);
  return runMain(log, async (signal) => loop(config, log, signal, await openMonitor(name, config, log)));
}

/** Files 0640 and folders 0750, whoever started us: also those that DuckDB makes, which takes no mode. */
export function setUmask(): void {
  process.umask(0o027);
}

function refuse(error: unknown): never {
  process.stderr.write(`${describeError(error)}\n`);
  process.exit(exitCodeOf(error));
}
