/**
 * The JetStream side of a source: one stream, one ordered subject, and the two request subjects. Owns their names and the settings they must have.
 * Must never loosen a setting of a stream it finds: a stream that may drop unarchived chunks by itself is refused, not repaired in silence.
 */
import { connect, type JetStreamClient, type JetStreamManager, type NatsConnection, NatsError, StorageType, type StreamInfo } from 'nats';
import type { Check } from '../runtime/check.js';
import type { Config } from '../runtime/config.js';
import { configError, describeError, messageOf, type TidemarkError } from '../runtime/errors.js';
import { watchConnected } from './connected.js';
import { type Denied, deniedError, watchDenied } from './denied.js';
import { addressOf, connectError, connectionOptions, encryptionCheck } from './login.js';
import { streamName, walSubject } from './names.js';
import { settingProblems, wantedSettings } from './settings.js';

export { requestSubject, streamName, walSubject } from './names.js';

/** A connection with what it is for. Close `connection` when done. */
export type StreamConnection = {
  readonly connection: NatsConnection;
  readonly jetstream: JetStreamClient;
  readonly manager: JetStreamManager;
  readonly denied: Denied;
  /** False while it is broken and connects again. */
  readonly connected: () => boolean;
  readonly source: string;
  /** The stream's name. */
  readonly name: string;
  readonly subject: string;
};

/** Time a single request to the server may take. */
const REQUEST_MS = 5000;

/**
 * Connects; reconnects for ever by itself. `name` is shown by the server; `denied` hears once of each subject that this login may not use. Fails transiently when the server is not there,
 * with `config` when it refuses us.
 */
export async function connectStream(config: Config, name: string, denied?: (error: TidemarkError) => void): Promise<StreamConnection> {
  let connection: NatsConnection;
  try {
    connection = await connect({
      ...connectionOptions(config),
      name,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      pingInterval: 10_000,
      timeout: REQUEST_MS,
    });
  } catch (error) {
    throw connectError(config, error);
  }
  const manager = await connection.jetstreamManager({ timeout: REQUEST_MS, checkAPI: false });
  const jetstream = connection.jetstream({ timeout: REQUEST_MS });
  const { name: source } = config.source;
  const watched = { denied: watchDenied(connection, denied), connected: watchConnected(connection) };
  return { connection, jetstream, manager, ...watched, source, name: streamName(source), subject: walSubject(source) };
}

/** The stream as it is, undefined when there is none. */
export async function findStream(manager: JetStreamManager, source: string): Promise<StreamInfo | undefined> {
  try {
    return await manager.streams.info(streamName(source));
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw deniedError(error) ?? error;
  }
}

/** JetStream's "stream not found" or "no message found". */
export function isNotFound(error: unknown): boolean {
  return error instanceof NatsError && (error.api_error?.code === 404 || error.code === '404');
}

/** Creates the stream, or asserts its settings; only `max_bytes` follows the configuration. Throws a `config` error that names what differs. */
export async function ensureStream(manager: JetStreamManager, config: Config): Promise<StreamInfo> {
  const found = await findStream(manager, config.source.name);
  if (found === undefined) return await addStream(manager, config);
  const problems = settingProblems(found.config, config);
  if (problems.length > 0) {
    throw configError(`stream ${found.config.name} has settings that can lose chunks: ${problems.join('; ')}`, settingsRemedy(found.config.name));
  }
  if (found.config.max_bytes === config.stream.replay.bytes) return found;
  return await manager.streams.update(found.config.name, { max_bytes: config.stream.replay.bytes }).catch((error: unknown) => {
    throw spaceError(config, error);
  });
}

/** Not teardown: it would take the slot too, and end the archive. */
function settingsRemedy(name: string): string {
  return `set them back (nats stream edit ${name}); or stop the services, \`tidemark repair --stream\`, and start them: capture publishes again what is not archived`;
}

async function addStream(manager: JetStreamManager, config: Config): Promise<StreamInfo> {
  try {
    return await manager.streams.add(wantedSettings(config));
  } catch (error) {
    throw spaceError(config, error);
  }
}

function spaceError(config: Config, error: unknown): unknown {
  const text = error instanceof Error ? error.message : String(error);
  if (!/insufficient|exceed|resource/i.test(text)) return deniedError(error) ?? error;
  const gigabytes = (config.stream.replay.bytes / 1024 ** 3).toFixed(1);
  return configError(
    `stream.replay.bytes: NATS cannot promise ${gigabytes} GB (${text})`,
    'lower stream.replay.bytes, or raise max_file_store of the NATS server (max_file of its account)',
  );
}

/** Oldest server with everything we use. */
const OLDEST = [2, 9] as const;
const LEAST_PAYLOAD = 64 * 1024;
const MONITOR_MS = 500;

/** doctor's checks of NATS. Never throws for what a check can say. */
export async function streamPreflight(config: Config): Promise<Check[]> {
  let stream: StreamConnection;
  try {
    stream = await connectStream(config, `tidemark_${config.source.name}_doctor`);
  } catch (error) {
    const { message, remedy } = error as TidemarkError;
    return [{ name: 'NATS', status: 'failed', seen: message, remedy: remedy ?? 'correct stream.url' }];
  }
  try {
    const server = serverChecks(stream);
    if (server.some((check) => check.status === 'failed')) return server;
    const encrypted = stream.connection.info?.tls_required === true || stream.connection.info?.tls_available === true;
    return [...server, encryptionCheck(config, encrypted), await fsyncCheck(config), await settingsCheck(stream, config), await storageCheck(stream, config)];
  } finally {
    await stream.connection.close();
  }
}

function serverChecks(stream: StreamConnection): Check[] {
  const info = stream.connection.info;
  const version = info?.version ?? '0';
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const old = major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]);
  const checks: Check[] = [
    old
      ? { name: 'NATS version', status: 'failed', seen: version, remedy: 'use nats-server 2.10 or newer (2.9 still works)' }
      : { name: 'NATS version', status: 'ok', seen: version },
    info?.jetstream === true
      ? { name: 'JetStream', status: 'ok', seen: 'on' }
      : { name: 'JetStream', status: 'failed', seen: 'off', remedy: 'start nats-server with -js, or put `jetstream {}` into its configuration' },
  ];
  const most = info?.max_payload ?? 0;
  if (most < LEAST_PAYLOAD)
    checks.push({ name: 'max_payload', status: 'failed', seen: `${most} bytes`, remedy: 'max_payload: 1MB in the configuration of nats-server' });
  return checks;
}

/** Only the monitoring port tells it. The slot holds what the archive lacks, so a stream that loses its tail costs time, not rows. */
async function fsyncCheck(config: Config): Promise<Check> {
  const name = 'NATS fsync';
  const remedy = 'jetstream { sync_interval: always } in the configuration of nats-server (2.10 or newer)';
  const host = addressOf(config.stream.url.reveal()).servers[0]?.replace(/:\d+$/, '') ?? 'localhost';
  try {
    const answer = await fetch(`http://${host}:8222/jsz?config=true`, { signal: AbortSignal.timeout(MONITOR_MS) });
    const { config: jetstream } = (await answer.json()) as { config?: { sync_always?: boolean; sync_interval?: number } };
    if (jetstream?.sync_always === true) return { name, status: 'ok', seen: 'every message' };
    return {
      name,
      status: 'warning',
      seen: `every ${Math.round((jetstream?.sync_interval ?? 120e9) / 1e9)} s: a power cut loses what was published since; capture publishes it again`,
      remedy,
    };
  } catch {
    return {
      name,
      status: 'warning',
      seen: 'not known (no monitoring port 8222); by default every 2 minutes: a power cut loses what was published since; capture publishes it again',
      remedy,
    };
  }
}

async function settingsCheck(stream: StreamConnection, config: Config): Promise<Check> {
  const name = `stream ${stream.name}`;
  try {
    const found = await findStream(stream.manager, config.source.name);
    if (found === undefined) return { name, status: 'ok', seen: 'not there yet: capture makes it' };
    const problems = settingProblems(found.config, config);
    if (problems.length > 0)
      return {
        name,
        status: 'failed',
        seen: problems.join('; '),
        remedy: settingsRemedy(stream.name),
      };
    return { name, status: 'ok', seen: `${found.state.messages} messages, ${Math.round(found.state.bytes / 1024 ** 2)} MB` };
  } catch (error) {
    return { name, status: 'failed', seen: describeError(error), remedy: 'see that this login may use JetStream' };
  }
}

/**
 * Whether NATS would promise what the stream still lacks of stream.replay.bytes. Only trying tells: an account's limits say nothing of the server's max_file_store. What is tried with is
 * an empty stream, which is gone again at once; its name, in capitals, cannot be that of another source.
 */
async function storageCheck({ manager, name: stream }: StreamConnection, config: Config): Promise<Check> {
  const name = 'NATS storage';
  const probe = `${stream}_PROBE`;
  const { bytes } = config.stream.replay;
  const seen = `${(bytes / 1024 ** 3).toFixed(1)} GB (stream.replay.bytes)`;
  try {
    const found = await findStream(manager, config.source.name);
    const more = bytes - Math.max(0, found?.config.max_bytes ?? 0);
    if (more <= 0) return { name, status: 'ok', seen: `${seen} promised` };
    await removeProbe(manager, probe); // before it is made: a login that may not remove it must not make it
    try {
      await manager.streams.add({ name: probe, storage: StorageType.File, max_bytes: more });
    } finally {
      await removeProbe(manager, probe);
    }
    return { name, status: 'ok', seen: `${seen} can be promised` };
  } catch (error) {
    const why = spaceError(config, error);
    const { message, remedy } = why as TidemarkError;
    if (why !== error && remedy !== undefined && deniedError(error) === undefined) return { name, status: 'failed', seen: message, remedy };
    return { name, status: 'warning', seen: `not known whether there is room for ${seen}: ${messageOf(why)}`, remedy: remedy ?? 'run doctor again' };
  }
}

async function removeProbe(manager: JetStreamManager, probe: string): Promise<void> {
  await manager.streams.delete(probe).catch((error: unknown) => {
    if (!isNotFound(error)) throw error;
  });
}
