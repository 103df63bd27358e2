/** TLS to a real Postgres with certificates made here: what is trusted, what is refused with one line, and that nothing falls back to clear text. Oldest and newest server. */
import assert from 'node:assert/strict';
import { chmod, chown, copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { type PostgresServer, startPostgres } from '../../services/demo/engines/postgres.js';
import { unprivilegedAccount } from '../../services/demo/engines/process.js';
import type { TidemarkError } from '../../src/runtime/errors.js';
import { readServerIdentity } from '../../src/wal/identity.js';
import { ReplicationStream } from '../../src/wal/replication.js';
import { connectClient } from '../../src/wal/session.js';
import { hostOf, isLocal, tlsCheck } from '../../src/wal/tls.js';
import { type Certificate, makeCa, NO_OPENSSL, signedBy } from '../certificates.js';
import { until } from '../pipeline/pipeline.js';

test('local are sockets and addresses of this machine, nothing that only looks like them', () => {
  for (const url of [
    'postgres://localhost/x',
    'postgres://127.0.0.1:5/x',
    'postgres://[::1]/x',
    'postgres:///x?host=/run/postgresql',
    'postgres://%2Frun%2Fpg/x',
  ])
    assert.ok(isLocal(hostOf(new URL(url))), url);
  for (const url of [
    'postgres://db/x',
    'postgres://localhost.evil.example/x',
    'postgres://127.0.0.1.nip.io/x',
    'postgres://localhost/x?host=db',
    'postgres://0.0.0.0/x',
  ])
    assert.ok(!isLocal(hostOf(new URL(url))), url);
  assert.deepEqual(
    ['db/x', 'db/x?sslmode=require', 'db/x?sslmode=disable', 'localhost/x'].map((rest) => tlsCheck(`postgres://${rest}`, 'source.url').status),
    ['ok', 'warning', 'warning', 'ok'],
  );
});

for (const major of [15, 18]) {
  describe(`Postgres ${major}`, { skip: NO_OPENSSL }, () => {
    let dir = '';
    let server: PostgresServer;
    let sql: pg.Client;
    let ca: Certificate;
    let client: Certificate;
    const certificates = new Map<string, Certificate>();

    /** Has the server show this certificate, or none. */
    const serve = async (name: string | undefined): Promise<void> => {
      if (name !== undefined) {
        const account = await unprivilegedAccount();
        const { cert, key } = certificates.get(name) as Certificate;
        for (const [from, to] of [
          [cert, 'server.crt'],
          [key, 'server.key'],
        ] as const) {
          await copyFile(from, path.join(server.dataDir, to));
          if (account !== undefined) await chown(path.join(server.dataDir, to), account.uid, account.gid);
        }
      }
      await sql.query(`ALTER SYSTEM SET ssl_ca_file = '${ca.cert}'`);
      await sql.query(`ALTER SYSTEM SET ssl = ${name === undefined ? 'off' : 'on'}`);
      await reload();
    };
    /** New connections see the new settings when a backend does. */
    const reload = async (): Promise<void> => {
      const before = (await sql.query('SELECT pg_conf_load_time() AS at')).rows[0]?.at as Date;
      await sql.query('SELECT pg_reload_conf()');
      await until('the settings are loaded', async () => Number((await sql.query('SELECT pg_conf_load_time() AS at')).rows[0]?.at) > Number(before));
    };
    const url = (parameters: string, host = 'localhost'): string => {
      const made = new URL(server.url);
      made.hostname = host;
      return `${made.toString()}?${parameters}`;
    };
    const encrypted = async (address: string): Promise<boolean> => {
      const connection = await connectClient(address, { applicationName: 'test' });
      const { rows } = await connection.query<{ ssl: string }>('SELECT ssl::text FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()');
      await connection.end();
      return rows[0]?.ssl === 'true';
    };
    const refusal = async (address: string): Promise<TidemarkError> => {
      const error = await connectClient(address, { applicationName: 'test', field: 'source.url' }).then(
        async (connection) => {
          await connection.end();
          return assert.fail('it connected');
        },
        (failure: TidemarkError) => failure,
      );
      assert.doesNotMatch(`${error.message} ${error.remedy}`, /\n|postgres:[0-9a-f]{24}/, 'one line, without the password');
      assert.match(error.message, /^source\.url: /);
      assert.ok(error.remedy, error.message);
      return error;
    };

    before(async () => {
      dir = await mkdtemp(path.join(tmpdir(), 'tidemark-tls-'));
      await chmod(dir, 0o755); // the server reads the CA here
      ca = makeCa(dir, 'ca');
      await chmod(ca.cert, 0o644);
      certificates.set('right', signedBy(ca, dir, 'right', { names: 'DNS:localhost,IP:127.0.0.1' }));
      certificates.set('other host', signedBy(ca, dir, 'other', { names: 'DNS:db.example.com' }));
      certificates.set('expired', signedBy(ca, dir, 'expired', { names: 'DNS:localhost', expired: true }));
      client = signedBy(ca, dir, 'postgres');
      makeCa(dir, 'other-ca');
      server = await startPostgres({ major });
      sql = new pg.Client({ connectionString: server.url });
      await sql.connect();
    });
    after(async () => {
      await sql?.end();
      await server?.[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    });

    test('a server without TLS: local is fine, elsewhere is refused', async () => {
      assert.equal(await encrypted(server.url), false);
      assert.match((await refusal(url('sslmode=require'))).message, /the server has no TLS/);
      const away = await refusal(url('', '0.0.0.0'));
      assert.match(away.message, /the server has no TLS; sslmode, or a host that is not local, asks for it/);
      assert.equal(away.kind, 'config');
      assert.equal(await encrypted(url('sslmode=disable', '0.0.0.0')), false, 'but it may be asked for');
    });

    test('certificate and name are checked; require without a CA only encrypts', async () => {
      await serve('right');
      for (const mode of ['verify-full', 'verify-ca', 'require']) assert.equal(await encrypted(url(`sslmode=${mode}&sslrootcert=${ca.cert}`)), true, mode);
      assert.equal(await encrypted(url('sslmode=require')), true);
      assert.equal(await encrypted(url(`sslmode=verify-full&sslrootcert=${ca.cert}`, '127.0.0.1')), true, 'an address in the certificate');
      for (const address of [url('sslmode=verify-full'), url('', '0.0.0.0'), url('ssl=true'), url(`sslmode=require&sslrootcert=${dir}/other-ca.crt`)]) {
        const error = await refusal(address);
        assert.match(error.message, /not signed by a CA that is trusted here/);
        assert.match(error.remedy ?? '', /sslrootcert=FILE/);
        assert.equal(error.kind, 'config');
      }
    });

    test('a certificate for another host, and one that has run out', async () => {
      await serve('other host');
      const error = await refusal(url(`sslmode=verify-full&sslrootcert=${ca.cert}`));
      assert.match(error.message, /is for another host \(.*localhost.*db\.example\.com/);
      assert.equal(await encrypted(url(`sslmode=verify-ca&sslrootcert=${ca.cert}`)), true, 'verify-ca does not ask for the name');
      await serve('expired');
      for (const mode of ['verify-full', 'verify-ca']) {
        const old = await refusal(url(`sslmode=${mode}&sslrootcert=${ca.cert}`));
        assert.match(old.message, /has expired/);
        assert.equal(old.kind, 'transient', 'the server may be given a new one while we wait');
      }
    });

    test('the replication connection too: encrypted and checked, also where the server takes nothing else', async () => {
      await serve('right');
      const database = new URL(await server.createDatabase());
      const address = (parameters: string): string => `${database.toString().replace('127.0.0.1', 'localhost')}?${parameters}`;
      const good = address(`sslmode=verify-full&sslrootcert=${ca.cert}`);
      const connection = await connectClient(good, { applicationName: 'test' });
      await connection.query('CREATE TABLE public.t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE public.t');
      await connection.query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
      const identity = await readServerIdentity(connection);
      const stream = (to: string): ReplicationStream =>
        new ReplicationStream({
          url: to,
          applicationName: 'walsender',
          slot: 's',
          publication: 'p',
          server: identity,
          onMessage: () => undefined,
          onKeepalive: () => undefined,
        });
      const hba = path.join(server.dataDir, 'pg_hba.conf');
      await writeFile(hba, 'hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 scram-sha-256\n');
      await reload();
      const running = stream(good);
      await running.start();
      const { rows } = await connection.query<{ ssl: string }>(
        `SELECT s.ssl::text FROM pg_catalog.pg_stat_ssl s JOIN pg_catalog.pg_stat_replication r USING (pid) WHERE r.application_name = 'walsender'`,
      );
      assert.deepEqual(rows, [{ ssl: 'true' }]);
      await running.stop();
      await assert.rejects(stream(address('sslmode=verify-full')).start(), { kind: 'config', message: /not signed by a CA/ });
      assert.match((await refusal(address('sslmode=disable'))).message, /the server wants TLS/);
      await connection.query("SELECT pg_drop_replication_slot('s')");
      await connection.end();
    });

    test('a certificate of ours where the server asks for one', async () => {
      await serve('right');
      await writeFile(path.join(server.dataDir, 'pg_hba.conf'), 'hostssl all all 127.0.0.1/32 cert\nhostssl all all ::1/128 cert\n');
      await reload();
      const base = `sslmode=verify-full&sslrootcert=${ca.cert}`;
      assert.equal(await encrypted(url(`${base}&sslcert=${client.cert}&sslkey=${client.key}`)), true);
      assert.match((await refusal(url(base))).message, /the server wants a certificate of ours/);
      const foreign = signedBy({ cert: path.join(dir, 'other-ca.crt'), key: path.join(dir, 'other-ca.key') }, dir, 'foreign');
      assert.match((await refusal(url(`${base}&sslcert=${foreign.cert}&sslkey=${foreign.key}`))).message, /does not accept our certificate/);
    });

    test('mistakes in the address are named before anything is sent', async () => {
      const cases: [parameters: string, message: RegExp][] = [
        ['sslmode=prefer', /sslmode=prefer is not usable/],
        ['sslmode=no-verify', /sslmode=no-verify is not usable/],
        ['sslmode=verify-full&sslrootcert=/nowhere/ca.crt', /sslrootcert: \/nowhere\/ca\.crt cannot be read \(ENOENT\)/],
        [`sslmode=verify-full&sslrootcert=${ca.key}`, /is not a certificate in PEM/],
        [`sslmode=verify-full&sslcert=${client.cert}`, /sslcert and sslkey go together/],
        [`sslmode=verify-full&sslrootcert=${ca.cert}&sslcert=${client.cert}&sslkey=${ca.key}`, /certificate and key do not belong together/],
      ];
      for (const [parameters, message] of cases) {
        const error = await refusal(url(parameters));
        assert.match(error.message, message);
        assert.equal(error.kind, 'config', parameters);
      }
    });
  });
}
