/** A physical standby of a pipeline's server that takes its place: on the same address, as a virtual IP or a DNS name would have it. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import { type Pipeline, until } from './pipeline.js';

const NAME = 'standby1';

export class Standby implements AsyncDisposable {
  readonly #pipeline: Pipeline;
  readonly #server: PostgresServer;

  private constructor(pipeline: Pipeline, server: PostgresServer) {
    this.#pipeline = pipeline;
    this.#server = server;
  }

  /** Made from a cold copy: before the services start. From 17 on failover slots are synchronised; `waitedFor`: the walsender of such a slot waits for it. */
  static async of(pipeline: Pipeline, { waitedFor }: { waitedFor: boolean }): Promise<Standby> {
    const { postgres } = pipeline;
    const server = await startPostgres({ major: postgres.major });
    await server.stop();
    writeFileSync(path.join(postgres.dataDir, 'pg_hba.conf'), 'host all,replication all 127.0.0.1/32 trust\n');
    await pipeline.query(`SELECT pg_create_physical_replication_slot('${NAME}', true)`);
    if (waitedFor && postgres.major >= 17) await pipeline.query(`ALTER SYSTEM SET synchronized_standby_slots = '${NAME}'`);
    await postgres.stop();
    execFileSync('sh', ['-c', 'rm -rf "$2" && cp -a "$1" "$2" && rm -rf "$2"/pg_replslot/*', 'sh', postgres.dataDir, server.dataDir]);
    await postgres.start();
    await pipeline.reconnect();
    const { username, password, pathname } = new URL(pipeline.databaseUrl);
    const source = `host=${postgres.host} port=${postgres.port} user=${username} password=${password} dbname=${pathname.slice(1)}`;
    const settings = [`primary_conninfo = '${source}'`, `primary_slot_name = '${NAME}'`, 'hot_standby_feedback = on', 'wal_receiver_status_interval = 1'];
    if (postgres.major >= 17) settings.push('sync_replication_slots = on', "synchronized_standby_slots = ''");
    appendFileSync(path.join(server.dataDir, 'postgresql.auto.conf'), `${settings.join('\n')}\n`);
    writeFileSync(path.join(server.dataDir, 'standby.signal'), '');
    await server.start();
    await until(
      'the standby streams',
      async () => (await pipeline.query(`SELECT FROM pg_replication_slots WHERE slot_name = '${NAME}' AND active`)).length === 1,
    );
    return new Standby(pipeline, server);
  }

  /** Waits until the slot of capture is there and lasts. */
  async slotSynchronised(): Promise<void> {
    const url = new URL(this.#pipeline.databaseUrl);
    url.port = String(this.#server.port);
    const client = new pg.Client({ connectionString: url.toString() });
    await client.connect();
    try {
      const text = "SELECT FROM pg_replication_slots WHERE slot_name = 'tidemark_test' AND synced AND NOT temporary AND invalidation_reason IS NULL";
      await until('the slot is synchronised', async () => {
        // A slot lasts on the standby once its restart point has moved behind what the standby can decode.
        await this.#pipeline.query('SELECT pg_log_standby_snapshot()');
        await this.#pipeline.query('INSERT INTO beat DEFAULT VALUES');
        await pause(100);
        return (await client.query(text)).rows.length === 1;
      });
    } finally {
      await client.end();
    }
  }

  /** It receives nothing any more. */
  async cutOff(): Promise<void> {
    await this.#server.stop();
  }

  /** The primary is stopped cleanly; the standby comes up in its place, and is promoted. */
  async takeOver(): Promise<void> {
    const { postgres } = this.#pipeline;
    await postgres.stop('fast');
    await this.#server.stop();
    rmSync(postgres.dataDir, { recursive: true });
    execFileSync('mv', [this.#server.dataDir, postgres.dataDir]);
    await postgres.start();
    await this.#pipeline.reconnect();
    await this.#pipeline.query('SELECT pg_promote(true)');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}
