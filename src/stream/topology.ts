/**
 * The JetStream side of a source: one stream, one ordered subject, and the two request subjects. Owns their names and the settings they must have.
 * Must never loosen a setting of a stream it finds: a stream that may drop unarchived chunks by itself is refused, not repaired in silence.
 */
import {
  type ConnectionOptions,
  connect,
  DiscardPolicy,
  type JetStreamClient,
  type JetStreamManager,
  type NatsConnection,
  NatsError,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from 'nats';
import type { Config } from '../runtime/config.js';
import { configError, TidemarkError } from '../runtime/errors.js';

/** `TIDEMARK_goat`. */
export function streamName(source: string): string {
  return `TIDEMARK_${source}`;
}

/** The one ordered subject of a source's changes. */
export function walSubject(source: string): string {
  return `tidemark.${source}.wal`;
}

/** Request–reply: `prune` is answered by the pruner, `seal` by the archiver. */
export function requestSubject(source: string, what: 'prune' | 'seal'): string {
  return `tidemark.${source}.${what}`;
}

/** A connection with what it is for. Close `connection` when done. */
export type StreamConnection = {
  readonly connection: NatsConnection;
  readonly jetstream: JetStreamClient;
  readonly manager: JetStreamManager;
  readonly source: string;
  /** The stream's name. */
  readonly name: string;
  readonly subject: string;
};

/** Time a single request to the server may take. */
const REQUEST_MS = 5000;

/** Connects; reconnects for ever by itself. `name` is shown by the server. Fails transiently when the server is not there, with `config` when it refuses us. */
export async function connectStream(config: Config, name: string): Promise<StreamConnection> {
  let connection: NatsConnection;
  try {
    connection = await connect({
      ...addressOf(config.stream.url),
      name,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      pingInterval: 10_000,
      timeout: REQUEST_MS,
    });
  } catch (error) {
    throw connectError(config.stream.url, error);
  }
  const manager = await connection.jetstreamManager({ timeout: REQUEST_MS, checkAPI: false });
  const jetstream = connection.jetstream({ timeout: REQUEST_MS });
  return { connection, jetstream, manager, source: config.source.name, name: streamName(config.source.name), subject: walSubject(config.source.name) };
}

/** `nats://user:password@host:4222` → what the client takes; several servers are separated by commas. */
function addressOf(text: string): ConnectionOptions {
  const servers: string[] = [];
  let login: ConnectionOptions = {};
  for (const part of text.split(',')) {
    let url: URL;
    try {
      url = new URL(part.includes('://') ? part.trim() : `nats://${part.trim()}`);
    } catch {
      throw configError('stream.url: not an address', 'write for instance nats://localhost:4222');
    }
    servers.push(url.host);
    const user = decodeURIComponent(url.username);
    if (user && url.password) login = { user, pass: decodeURIComponent(url.password) };
    else if (user) login = { token: user };
  }
  return { servers, ...login };
}

/** The address without its password. */
export function shownAddress(text: string): string {
  return text.replace(/\/\/[^@/]*@/g, '//');
}

function connectError(url: string, error: unknown): Error {
  const code = (error as { code?: string }).code ?? '';
  if (/AUTH|PERMISSIONS/.test(code)) {
    return new TidemarkError('config', `stream.url: NATS at ${shownAddress(url)} refuses this login`, {
      remedy: 'put user and password into stream.url',
      cause: error,
    });
  }
  return new TidemarkError('transient', `NATS at ${shownAddress(url)} does not answer (${code || String(error)})`, {
    remedy: 'start nats-server -js, or correct stream.url',
    cause: error,
  });
}

function wanted(config: Config): Partial<StreamConfig> & { name: string } {
  return {
    name: streamName(config.source.name),
    subjects: [walSubject(config.source.name)],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.New,
    max_age: 0,
    max_msgs: -1,
    max_msg_size: -1,
    max_bytes: config.stream.replay.bytes,
    deny_delete: true,
    deny_purge: false,
    duplicate_window: 1_000_000_000,
  };
}

/** The settings that differ from ours in a way that may lose chunks: `name: seen, must be wanted`. Pure. */
export function settingProblems(found: StreamConfig, config: Config): string[] {
  const want = wanted(config);
  const problems: string[] = [];
  const must = (name: string, seen: unknown, needed: unknown): void => {
    if (seen !== needed) problems.push(`${name} is ${JSON.stringify(seen)}, must be ${JSON.stringify(needed)}`);
  };
  must('subjects', found.subjects.join(), want.subjects?.join());
  must('storage', found.storage, StorageType.File);
  must('retention', found.retention, RetentionPolicy.Limits);
  must('discard', found.discard, DiscardPolicy.New);
  must('max_age', found.max_age, 0);
  must('max_msgs', found.max_msgs > 0, false);
  must('max_msg_size', (found.max_msg_size ?? -1) > 0, false);
  must('max_msgs_per_subject', (found.max_msgs_per_subject ?? -1) > 0, false);
  must('deny_delete', found.deny_delete, true);
  must('no_ack', found.no_ack ?? false, false);
  must('mirror', found.mirror !== undefined, false);
  return problems;
}

/** The stream as it is, undefined when there is none. */
export async function findStream(manager: JetStreamManager, source: string): Promise<StreamInfo | undefined> {
  try {
    return await manager.streams.info(streamName(source));
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
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
    throw configError(
      `stream ${found.config.name} has settings that can lose chunks: ${problems.join('; ')}`,
      'set them back with `nats stream edit`, or remove the stream with `tidemark teardown`',
    );
  }
  if (found.config.max_bytes === config.stream.replay.bytes) return found;
  return await manager.streams.update(found.config.name, { max_bytes: config.stream.replay.bytes }).catch((error: unknown) => {
    throw spaceError(config, error);
  });
}

async function addStream(manager: JetStreamManager, config: Config): Promise<StreamInfo> {
  try {
    return await manager.streams.add(wanted(config));
  } catch (error) {
    throw spaceError(config, error);
  }
}

function spaceError(config: Config, error: unknown): unknown {
  const text = error instanceof Error ? error.message : String(error);
  if (!/insufficient|exceed|resource/i.test(text)) return error;
  const gigabytes = (config.stream.replay.bytes / 1024 ** 3).toFixed(1);
  return configError(
    `stream.replay.bytes: NATS cannot promise ${gigabytes} GB (${text})`,
    'lower stream.replay.bytes, or raise max_file_store of the NATS server',
  );
}
