/**
 * The whole way with no right too many: the database roles of roles.sql, the NATS permissions of docs/security.md, and nothing secret where it has no place. Passwords and rows are
 * marked, errors are provoked at log level trace, and every trace is searched. The roles on the oldest and the newest server, the rest on the newest.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connect } from 'nats';
import pg from 'pg';
import { findExecutable } from '../../services/demo/engines/process.js';
import { Pipeline, type Service, type ServiceName, until } from './pipeline.js';

const read = (file: string): Promise<string> => readFile(fileURLToPath(new URL(`../../../${file}`, import.meta.url)), 'utf8');

/** Nowhere may any of these be seen. */
const WORD = 'c4naryword';
const ROW = 'c4naryrow';
const MARKS = new RegExp(`${WORD}|${ROW}`);
const TABLES = `  prices: { timestamp: timestamp }
  whale_movements: { timestamp: timestamp, keepWhile: "raw_data_json::int > 0" }
protected: [follow_the_goat_plays]`;

/** What neither role may do: 42501, each. */
const NEITHER = [
  'INSERT INTO prices (id) VALUES (1)', 'UPDATE prices SET price = 1', 'TRUNCATE prices', 'SELECT * FROM follow_the_goat_plays', 'DELETE FROM follow_the_goat_plays',
  'COPY follow_the_goat_plays TO STDOUT', 'SELECT * FROM unlisted', 'DELETE FROM unlisted', 'DROP TABLE prices', 'ALTER TABLE prices ADD x int', 'ALTER TABLE prices DISABLE TRIGGER ALL',
  'CREATE INDEX ON prices (id)', 'CREATE TRIGGER t AFTER DELETE ON prices EXECUTE FUNCTION suppress_redundant_updates_trigger()',
  'CREATE TABLE public.mine ()', 'CREATE SCHEMA mine', "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", 'CREATE ROLE mine', 'SET ROLE postgres',
  'ALTER PUBLICATION tidemark_test DROP TABLE prices', 'DROP PUBLICATION tidemark_test', 'CREATE PUBLICATION mine FOR TABLE prices', 'ALTER SYSTEM SET wal_level = minimal',
  "COPY prices TO PROGRAM 'true'", "COPY prices TO '/tmp/tidemark-never'", "COPY prices FROM '/etc/hostname'", "SELECT pg_read_file('/etc/hostname')", 'SELECT pg_reload_conf()',
]; // biome-ignore format: a list of statements
const NOT_CAPTURE = ['DELETE FROM prices', 'UPDATE prices SET id = 1', 'SELECT FROM prices FOR UPDATE'];
const NOT_PRUNER = [
  "SELECT pg_drop_replication_slot('tidemark_test')",
  "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",
  "SELECT pg_logical_slot_get_binary_changes('tidemark_test', NULL, NULL)",
  "SELECT pg_replication_slot_advance('tidemark_test', '0/1')",
];

const NEWEST = 18;

for (const major of [15, NEWEST]) {
  describe(`Postgres ${major}`, () => {
    let pipeline: Pipeline;
    let logs = '';
    const services: Service[] = [];
    const as = (role: string, word = `${WORD}-${role}`): string => {
      const url = new URL(pipeline.databaseUrl);
      [url.username, url.password] = [role, word];
      return url.toString();
    };
    const login = (user: string): Record<string, string> => ({ TIDEMARK_STREAM_USER: user, TIDEMARK_STREAM_PASSWORD: `${WORD}-${user}` });
    /** Each service with its own role, or none, and its own login. */
    const start = (name: ServiceName, more: Record<string, string> = {}): Service => {
      const url = name === 'archiver' ? `postgresql://nobody:${WORD}@127.0.0.1:1/none` : as(`tidemark_${name}`);
      const service = pipeline.service(name, undefined, { env: { TIDEMARK_LOG_LEVEL: 'trace', TIDEMARK_SOURCE_URL: url, ...login(name), ...more } });
      services.push(service);
      return service;
    };
    const tidemark = async (...args: string[]): Promise<{ code: number | null; stdout: string }> => {
      const { code, stdout, stderr } = await pipeline.cli([...args, '-c', pipeline.configFile], { TIDEMARK_LOG_LEVEL: 'trace', ...login('person') });
      logs += args[0] === 'tail' ? stderr : stdout + stderr; // rows are what tail is asked for
      return { code, stdout: stdout + stderr };
    };

    before(async () => {
      const block = /authorization \{[\s\S]*?\n\] \}/.exec(await read('docs/security.md'))?.[0] as string;
      const natsConf = block.replaceAll('goat', 'test').replace(/\$([A-Z]+)_PASSWORD/g, (_, user: string) => `"${WORD}-${user.toLowerCase()}"`);
      const schema = `${await read('infra/examples/follow_the_goat.sql')};CREATE TABLE unlisted (id int PRIMARY KEY);
        CREATE PUBLICATION tidemark_test FOR TABLE beat, prices, whale_movements`;
      pipeline = await Pipeline.start({ major, schema, tables: TABLES, natsConf });
      await pipeline.query(`${await read('infra/postgres/roles.sql')}`);
      for (const role of ['tidemark_capture', 'tidemark_pruner'])
        await pipeline.query(`ALTER ROLE ${role} PASSWORD '${WORD}-${role}'; GRANT SELECT ON beat TO ${role}`);
      await pipeline.query(
        `INSERT INTO prices ("timestamp", token, price, source) SELECT now() - interval '50 hours', '${ROW}-t', i, '${ROW}' FROM generate_series(1, 20) i`,
      );
      await pipeline.query(`INSERT INTO whale_movements (wallet_address, "timestamp", raw_data_json) VALUES ('${ROW}', now() - interval '50 hours', '${ROW}')`);
    });
    after(async () => await pipeline?.[Symbol.asyncDispose]());

    test('copied, captured, pruned, sealed and verified with the roles and logins of the documents', async () => {
      for (const name of ['archiver', 'capture', 'pruner'] as const) start(name);
      await pipeline.archived();
      await pipeline.query(
        `INSERT INTO prices ("timestamp", token, price, source) SELECT now() - interval '50 hours', 'live', i, '${ROW}' FROM generate_series(1, 20) i`,
      );
      await pipeline.archived();
      const pruned = await tidemark('prune');
      assert.deepEqual(await pipeline.query('SELECT FROM prices'), [], pruned.stdout);
      assert.match(pruned.stdout, /by the running pruner/);
      assert.match(pruned.stdout, /invalid input syntax for type integer: "…"/, 'a condition that fails on a row does not tell its value');
      await pipeline.archived();
      await tidemark('seal', 'prices'); // the pruner may have asked already
      assert.ok([...((await pipeline.state())?.files.values() ?? [])].some(({ kind, table }) => kind === 'daily' && table === 'prices'));
      const commands = [
        ['verify', '--deep'],
        ['status'],
        ['doctor'],
        ['tail', '--from', 'start', '--no-follow'],
        ['query', 'SELECT count(*) FROM prices'],
        ['explain', 'prices', '1'],
        ['repair', 'prices', '--yes', 'test'],
      ];
      for (const command of major === NEWEST ? commands : []) assert.equal((await tidemark(...command)).code, 0, `${command.join(' ')} ${logs.slice(-2000)}`);
      if (major === NEWEST) await tidemark('explain', 'whale_movements', '1'); // its condition fails on this row
      for (const service of services) {
        assert.ok(service.running, service.log);
        assert.doesNotMatch(service.log, /nats-denied|permission denied/, 'nothing was missing');
      }
    });

    test('the roles of roles.sql may do what they must, and nothing else', async () => {
      await pipeline.query(await read('infra/postgres/roles.sql')); // may be run again
      for (const [role, refused] of [
        ['tidemark_capture', [...NEITHER, ...NOT_CAPTURE]],
        ['tidemark_pruner', [...NEITHER, ...NOT_PRUNER]],
      ] as const) {
        const client = new pg.Client({ connectionString: as(role) });
        await client.connect();
        await client.query('SELECT * FROM prices');
        if (role === 'tidemark_pruner')
          await client.query('DELETE FROM prices WHERE ctid = ANY (ARRAY(SELECT ctid FROM prices LIMIT 1 FOR UPDATE SKIP LOCKED)) RETURNING *');
        for (const statement of refused) await assert.rejects(client.query(statement), { code: '42501' }, `${role}: ${statement}`);
        await client.end();
      }
    });

    const elsewhere = major === NEWEST ? false : `nothing in it depends on the server: it runs on ${NEWEST}`;
    test('a login may do nothing that its service does not need', { skip: elsewhere }, async () => {
      for (const [user, publish, subscribe] of [
        [
          'capture',
          ['tidemark.test.seal', 'tidemark.test.prune', '$JS.API.STREAM.DELETE.TIDEMARK_test', '$JS.API.STREAM.PURGE.TIDEMARK_test', 'other'],
          ['tidemark.test.wal', '>'],
        ],
        [
          'archiver',
          ['tidemark.test.wal', 'tidemark.test.prune', '$JS.API.STREAM.DELETE.TIDEMARK_test', '$JS.API.STREAM.CREATE.OTHER'],
          ['tidemark.test.wal', 'tidemark.test.prune'],
        ],
        [
          'pruner',
          ['tidemark.test.wal', 'tidemark.test.prune', '$JS.API.STREAM.MSG.GET.TIDEMARK_test', '$JS.API.CONSUMER.CREATE.TIDEMARK_test'],
          ['tidemark.test.wal', '>'],
        ],
        ['person', ['tidemark.test.wal', '$JS.API.STREAM.DELETE.OTHER'], ['tidemark.test.wal', 'tidemark.test.prune']],
      ] as const) {
        const connection = await connect({ servers: `127.0.0.1:${pipeline.nats.port}`, user, pass: `${WORD}-${user}` });
        const denied: string[] = [];
        void (async () => {
          for await (const { permissionContext } of connection.status()) if (permissionContext) denied.push(permissionContext.subject);
        })();
        for (const subject of publish) connection.publish(subject, '{}');
        for (const subject of subscribe) connection.subscribe(subject, { callback: () => undefined });
        await connection.flush();
        await until(`${user} is denied`, async () => denied.length === publish.length + subscribe.length);
        assert.deepEqual(denied.sort(), [...publish, ...subscribe].sort(), user);
        await connection.close();
      }
    });

    test('no password and no value of a row in logs, arguments, manifests, receipts and settings, whatever goes wrong', { skip: elsewhere }, async () => {
      const connection = await connect({ servers: `127.0.0.1:${pipeline.nats.port}`, user: 'person', pass: `${WORD}-person` });
      const settings = JSON.stringify((await (await connection.jetstreamManager({ checkAPI: false })).streams.info('TIDEMARK_test')).config);
      await connection.close();
      const args = findExecutable('ps') === undefined ? '' : execFileSync('ps', ['-A', '-o', 'args'], { encoding: 'utf8' });
      assert.match(args, /capture\/main\.js/, 'the services are among them');
      // The ways of failing: wrong passwords of both kinds, NATS gone, and bytes in the stream that are no chunk.
      for (const wrong of [
        start('capture', { TIDEMARK_SOURCE_URL: as('tidemark_capture', `${WORD}-wrong`) }),
        start('archiver', { TIDEMARK_STREAM_PASSWORD: `${WORD}-wrong` }),
      ]) {
        const { code, log } = await wrong.ended;
        assert.equal(code, 2, log);
        assert.match(log, /refuses this login/);
      }
      await pipeline.nats.kill();
      await pipeline.nats.start();
      await pipeline.archived();
      const publisher = await connect({ servers: `127.0.0.1:${pipeline.nats.port}`, user: 'capture', pass: `${WORD}-capture` });
      publisher.publish('tidemark.test.wal', JSON.stringify({ row: ROW }));
      await publisher.drain();
      const archiver = services[0] as Service;
      await until('the archiver halts', async () => !archiver.running);
      assert.match(archiver.log, /POISON/);
      for (const service of services) logs += (await service.stop()).log;

      assert.match(logs, /"level":(10|20|30)/);
      const own = path.join(pipeline.archiveDir, '_tidemark');
      const texts: [where: string, text: string][] = [
        ['logs', logs],
        ['arguments', args],
        ['settings', settings],
      ];
      for (const entry of await readdir(own, { recursive: true, encoding: 'utf8' }))
        if (/\.jsonl?$/.test(entry)) texts.push([entry, await readFile(path.join(own, entry), 'utf8')]);
      assert.ok(texts.some(([where]) => where.startsWith('receipts/')) && texts.some(([where]) => where.startsWith('manifest/')));
      const superuser = new URL(pipeline.databaseUrl).password;
      for (const [where, text] of texts) {
        const seen = new RegExp(`.{0,200}(${MARKS.source}|${superuser}).{0,100}`).exec(text);
        assert.equal(seen, null, `${where}: ${seen?.[0]}`);
      }
    });
  });
}
