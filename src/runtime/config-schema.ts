/** The sections of tidemark.yaml, their fields and defaults. The JSON Schema for editors is made from it. */
import { z } from 'zod';
import { cron, DURATION_MS, duration, hostName, keep, natsUrl, port, SIZE_BYTES, secretText, size, timezone, token, whole } from './config-values.js';

const SHARE = 'a share of the time between two runs: from 0 (off) to 1';

const tableSchema = z.strictObject({
  timestamp: z.string().min(1),
  group: z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, 'a group is a folder name: letters, digits, _ . -')
    .optional(),
  retention: duration.optional(),
  prune: z.boolean().default(true),
  keepWhile: z.string().min(1).optional(),
  deletes: z.enum(['history', 'keep']).default('history'),
  history: z.boolean().default(false),
  keep: keep.optional(),
});

export const configSchema = z.strictObject({
  source: z.strictObject({
    url: secretText,
    /** The pruner's own role, when it is not the one of `url`. */
    prunerUrl: secretText.optional(),
    /** The role of `restore` and `undo-prune`, when it is not the one of `url`. */
    restoreUrl: secretText.optional(),
    name: z
      .string()
      .regex(/^[a-z0-9_]+$/, 'lower-case letters, digits and _ only: it becomes a NATS subject and a slot name')
      .max(40),
    timezone: timezone.default('UTC'),
  }),
  stream: z
    .strictObject({
      url: natsUrl.prefault('nats://localhost:4222'),
      user: z.string().min(1).optional(),
      password: secretText.optional(),
      token: secretText.optional(),
      /** The seed of a user's nkey. */
      nkey: secretText.optional(),
      /** A credentials file: JWT and seed. */
      credentials: z.string().min(1).optional(),
      /** TLS is asked for as soon as this is there. Files; a CA of one's own, and what we show. */
      tls: z.strictObject({ ca: z.string().min(1).optional(), cert: z.string().min(1).optional(), key: z.string().min(1).optional() }).optional(),
      replay: z.strictObject({ age: duration.default(7 * DURATION_MS.d), bytes: size.default(20 * SIZE_BYTES.GB) }).prefault({}),
    })
    .prefault({}),
  archive: z
    .strictObject({
      dir: z.string().min(1).default('./archived_data'),
      compression: z.enum(['zstd', 'snappy', 'gzip']).default('zstd'),
      /** Sealed days stay this long. */
      keep: keep.default('forever'),
      /** Older ones go by themselves, once a person has confirmed `keep`. */
      expire: z.boolean().default(false),
      flush: z.strictObject({ rows: whole.default(250_000), bytes: size.default(64 * SIZE_BYTES.MB), every: duration.default(60_000) }).prefault({}),
    })
    .prefault({}),
  prune: z
    .strictObject({
      enabled: z.boolean().default(true),
      dryRun: z.boolean().default(false),
      retention: duration.default(24 * DURATION_MS.h),
      schedule: cron.default('0 * * * *'),
      batch: whole.max(5000, 'at most 5000 rows a batch').default(5000),
      maxRowsPerSecond: whole.default(20_000),
      /** Share of the time until the next run over which a run by schedule spreads its rows; 0: none. */
      spread: z.number().min(0, SHARE).max(1, SHARE).default(0.9),
      /** A standby whose replay lags by more than this pauses pruning. */
      maxStandbyLag: size.default(256 * SIZE_BYTES.MB),
    })
    .prefault({}),
  tables: z.record(z.string().min(1), tableSchema).refine((tables) => Object.keys(tables).length > 0, 'name at least one table'),
  protected: z.array(z.string().min(1)).default([]),
  /** Absent: `tidemark run` opens no port for it. */
  console: z
    .strictObject({
      host: z.string().min(1).default('127.0.0.1'),
      port: port.default(9470),
      /** Needed as soon as others can reach it. */
      token: token.optional(),
      /** Names by which browsers may ask for it, besides localhost and addresses. */
      names: z.array(hostName).default([]),
    })
    .optional(),
  /** Absent: no port is opened. */
  metrics: z
    .strictObject({ host: z.string().min(1).default('127.0.0.1'), capture: port.default(9471), archiver: port.default(9472), pruner: port.default(9473) })
    .optional(),
  log: z.strictObject({ level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).default('info') }).prefault({}),
});

export type Parsed = z.output<typeof configSchema>;
