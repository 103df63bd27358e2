/** Every way to log in to a real nats-server, TLS with certificates made here, and what a login may not do: each refusal is one line without the secret. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { nkeys } from 'nats';
import { type NatsServer, startNats } from '../../services/demo/engines/nats.js';
import { lsn } from '../../src/position/lsn.js';
import { type Config, parseConfig } from '../../src/runtime/config.js';
import type { Environment } from '../../src/runtime/environment.js';
import type { TidemarkError } from '../../src/runtime/errors.js';
import { readChunks } from '../../src/stream/consume.js';
import { answerFlushes } from '../../src/stream/flush-request.js';
import { ChunkPublisher } from '../../src/stream/publish.js';
import { takeRequests } from '../../src/stream/request.js';
import { connectStream, ensureStream, streamPreflight } from '../../src/stream/topology.js';
import { type Certificate, makeCa, NO_OPENSSL, signedBy } from '../certificates.js';
import { until } from '../pipeline/pipeline.js';

let dir = '';
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'tidemark-login-'));
});
after(() => rm(dir, { recursive: true, force: true }));

const SECRET = 'c4nary-word';
const EPOCH = { systemId: '1', timeline: 1, generation: '00000000-0000-0000-0000-000000000001' };
const quiet = new AbortController().signal;

const configOf = (stream: string, env: Environment = {}): Config =>
  parseConfig(`source: { url: "postgres://x@localhost/x", name: s }\nstream: { ${stream}, replay: { bytes: 64MB } }\ntables: { t: { timestamp: at } }`, {
    file: path.join(dir, 't.yaml'),
    env,
  });

async function connects(config: Config): Promise<void> {
  const { connection } = await connectStream(config, 'test');
  await connection.close();
}

async function refusal(config: Config): Promise<TidemarkError> {
  const error = await connects(config).then(
    () => assert.fail('it connected'),
    (failure: TidemarkError) => failure,
  );
  assert.doesNotMatch(`${error.message} ${error.remedy}`, new RegExp(`\n|${SECRET}|SU[A-Z0-9]{50}`));
  assert.ok(error.remedy, error.message);
  return error;
}

test('user and password, in fields, by the environment and in the address; token', async () => {
  await using nats = await startNats({ conf: `authorization { user: me, password: "${SECRET}/@:" }` });
  await connects(configOf(`url: "${nats.url}", user: me, password: "\${NATS_PASSWORD}"`, { NATS_PASSWORD: `${SECRET}/@:` }));
  await connects(configOf(`url: "${nats.url}"`, { TIDEMARK_STREAM_USER: 'me', TIDEMARK_STREAM_PASSWORD: `${SECRET}/@:` }));
  await connects(configOf(`url: "${nats.url.replace('//', `//me:${encodeURIComponent(`${SECRET}/@:`)}@`)}"`));
  for (const wrong of [`url: "${nats.url}", user: me, password: ${SECRET}`, `url: "${nats.url}", token: ${SECRET}`, `url: "${nats.url}"`]) {
    const error = await refusal(configOf(wrong));
    assert.equal(error.kind, 'config');
    assert.match(error.message, /refuses this login/);
  }
  await using other = await startNats({ conf: `authorization { token: "${SECRET}" }` });
  await connects(configOf(`url: "${other.url}", token: ${SECRET}`));
  await connects(configOf(`url: "${other.url.replace('//', `//${SECRET}@`)}"`));
});

test('an nkey seed, by the environment', async () => {
  const user = nkeys.createUser();
  const seed = Buffer.from(user.getSeed()).toString();
  await using nats = await startNats({ conf: `authorization { users: [ { nkey: ${user.getPublicKey()} } ] }` });
  await connects(configOf(`url: "${nats.url}", nkey: "\${SEED}"`, { SEED: seed }));
  await connects(configOf(`url: "${nats.url}"`, { TIDEMARK_STREAM_NKEY: `${seed}\n` }));
  assert.match((await refusal(configOf(`url: "${nats.url}", nkey: ${Buffer.from(nkeys.createUser().getSeed()).toString()}`))).message, /refuses this login/);
  assert.match((await refusal(configOf(`url: "${nats.url}", nkey: SUNOTASEED`))).message, /stream\.nkey: not the seed of a user/);
});

/** A JWT of NATS, as nsc makes them. */
function jwt(issuer: ReturnType<typeof nkeys.createUser>, subject: string, name: string, claims: Record<string, unknown>): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = {
    jti: `${name}-${Date.now()}`,
    iat: Math.floor(Date.now() / 1000),
    iss: issuer.getPublicKey(),
    name,
    sub: subject,
    nats: { version: 2, ...claims },
  };
  const signed = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(body)}`;
  return `${signed}.${Buffer.from(issuer.sign(Buffer.from(signed))).toString('base64url')}`;
}

test('a credentials file, read again at each connection', async () => {
  const [operator, account, system, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createAccount(), nkeys.createUser()];
  const limits = {
    subs: -1,
    data: -1,
    payload: -1,
    imports: -1,
    exports: -1,
    wildcards: true,
    conn: -1,
    leaf: -1,
    mem_storage: -1,
    disk_storage: -1,
    streams: -1,
    consumer: -1,
  };
  const none = { ...limits, mem_storage: 0, disk_storage: 0 };
  const accounts = [account, system].map(
    (one) => `${one.getPublicKey()}: ${jwt(operator, one.getPublicKey(), 'a', { type: 'account', limits: one === system ? none : limits })}`,
  );
  await using nats = await startNats({
    conf: `operator: ${jwt(operator, operator.getPublicKey(), 'o', { type: 'operator' })}\nsystem_account: ${system.getPublicKey()}
      resolver: MEMORY\nresolver_preload: { ${accounts.join(', ')} }`,
  });
  const userJwt = jwt(account, user.getPublicKey(), 'u', { type: 'user', subs: -1, data: -1, payload: -1 });
  const credentials = (token: string): string =>
    `-----BEGIN NATS USER JWT-----\n${token}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n${Buffer.from(user.getSeed()).toString()}\n------END USER NKEY SEED------\n`;
  await writeFile(path.join(dir, 'me.creds'), credentials(userJwt));
  await connects(configOf(`url: "${nats.url}", credentials: me.creds`)); // beside the configuration
  await writeFile(path.join(dir, 'other.creds'), credentials(jwt(operator, user.getPublicKey(), 'u', { type: 'user' })));
  assert.match((await refusal(configOf(`url: "${nats.url}", credentials: other.creds`))).message, /refuses this login/);
  await writeFile(path.join(dir, 'none.creds'), SECRET);
  assert.match((await refusal(configOf(`url: "${nats.url}", credentials: none.creds`))).message, /none\.creds is no credentials file/);
  assert.match((await refusal(configOf(`url: "${nats.url}", credentials: gone.creds`))).message, /gone\.creds cannot be read \(ENOENT\)/);
});

test('one login, whole; no secret in what the configuration complains about', () => {
  for (const [stream, problem] of [
    [`user: me, password: ${SECRET}, token: ${SECRET}`, /stream: user and token are two logins/],
    [`password: ${SECRET}`, /stream\.password: without stream\.user/],
    [`tls: { cert: a.crt }`, /cert and key go together/],
    [`token: [${SECRET}]`, /stream\.token: not usable/],
    [`user: [nats://me:${SECRET}@host]`, /stream\.user: found a list/],
    [`credentials: 5, tls: "nats://me:${SECRET}@host"`, /stream\.tls: found "nats:\/\/…@host"/],
  ] as const) {
    assert.throws(
      () => configOf(stream),
      (error: Error) => problem.test(error.message) && !error.message.includes(SECRET),
      stream,
    );
  }
  const url = `url: "tls://me:${SECRET}@host"`;
  assert.doesNotMatch(JSON.stringify(configOf(`${url}, replay: { age: 1d }`.replace(', replay: { age: 1d }', ''))), new RegExp(SECRET));
});

test('TLS: CA, our certificate, and one line for each way in which it fails', { skip: NO_OPENSSL }, async () => {
  const ca = makeCa(dir, 'ca');
  const other = makeCa(dir, 'other-ca');
  const server = (name: string, certificate: Certificate, more = ''): Promise<NatsServer> =>
    startNats({ conf: `tls { cert_file: "${certificate.cert}", key_file: "${certificate.key}", ca_file: "${ca.cert}"${more} } # ${name}` });
  const at = (nats: NatsServer, host = 'localhost'): string => `url: "tls://${host}:${nats.port}"`;
  {
    await using nats = await server('right', signedBy(ca, dir, 'right', { names: 'DNS:localhost' }));
    await connects(configOf(`${at(nats)}, tls: { ca: ca.crt }`));
    await connects(configOf(`${at(nats).replace('tls:', 'nats:')}, tls: { ca: ca.crt }`));
    const checks = await streamPreflight(configOf(`${at(nats)}, tls: { ca: ca.crt }`));
    assert.deepEqual(
      checks.filter(({ name }) => name === 'TLS of NATS').map(({ status, seen }) => [status, seen]),
      [['ok', 'encrypted, certificate and host name checked']],
    );
    for (const untrusted of [at(nats), `${at(nats)}, tls: { ca: other-ca.crt }`, at(nats).replace('tls:', 'nats:')]) {
      const error = await refusal(configOf(untrusted));
      assert.match(error.message, /not signed by a CA that is trusted here/);
      assert.equal(error.kind, 'config');
    }
    const address = await refusal(configOf(`${at(nats, '127.0.0.1')}, tls: { ca: ca.crt }`));
    assert.match(address.message, /is for another host/, 'an address is not taken for localhost');
    assert.match((await refusal(configOf(`${at(nats)}, tls: { ca: ca.key }`))).message, /stream\.tls\.ca: .* is not a certificate in PEM/);
  }
  {
    await using nats = await server('address', signedBy(ca, dir, 'address', { names: 'IP:127.0.0.1' }));
    await connects(configOf(`${at(nats, '127.0.0.1')}, tls: { ca: ca.crt }`));
    assert.match((await refusal(configOf(`${at(nats)}, tls: { ca: ca.crt }`))).message, /is for another host/);
  }
  {
    await using nats = await server('old', signedBy(ca, dir, 'old', { names: 'DNS:localhost', expired: true }));
    const error = await refusal(configOf(`${at(nats)}, tls: { ca: ca.crt }`));
    assert.match(error.message, /has expired/);
    assert.equal(error.kind, 'transient');
  }
  {
    await using nats = await server('both', signedBy(ca, dir, 'both', { names: 'DNS:localhost,IP:127.0.0.1' }), ', verify: true');
    signedBy(ca, dir, 'client');
    signedBy(other, dir, 'foreign');
    await connects(configOf(`${at(nats)}, tls: { ca: ca.crt, cert: client.crt, key: client.key }`));
    const silent = await refusal(configOf(`${at(nats, '127.0.0.1')}, tls: { ca: ca.crt, cert: foreign.crt, key: foreign.key }`));
    assert.match(`${silent.message} → ${silent.remedy}`, /does not answer \(TIMEOUT\) → does it ask for a certificate of ours/);
    assert.match((await refusal(configOf(`${at(nats)}, tls: { ca: ca.crt, cert: client.crt, key: foreign.key }`))).message, /do not belong together/);
  }
  await using plain = await startNats();
  const error = await refusal(configOf(at(plain)));
  assert.match(error.message, /has no TLS, and TLS was asked for/);
  assert.equal(error.kind, 'config', 'nothing falls back to clear text');
});

test('a subject that is not permitted is one clear line, and ends what cannot do without it', async () => {
  const user = (name: string, permissions: string): string => `{ user: ${name}, password: x, permissions: ${permissions} }`;
  const free = '">"';
  await using nats = await startNats({
    conf: `authorization { users: [
      ${user('all', `{ publish: ${free}, subscribe: ${free} }`)}
      ${user('mute', `{ publish: { allow: ["$JS.API.>"] }, subscribe: ${free} }`)}
      ${user('deaf', `{ publish: ${free}, subscribe: { allow: ["_INBOX.>"] } }`)}
      ${user('blind', `{ publish: { deny: ["$JS.API.STREAM.INFO.>"] }, subscribe: ${free} }`)}
      ${user('stuck', `{ publish: { deny: ["$JS.API.CONSUMER.MSG.NEXT.>"] }, subscribe: ${free} }`)} ] }`,
  });
  const open = async (name: string) => {
    const said: string[] = [];
    const config = configOf(`url: "${nats.url}", user: ${name}, password: x`);
    const stream = await connectStream(config, 'test', (error) => said.push(error.message));
    return { config, stream, said, [Symbol.asyncDispose]: () => stream.connection.close() };
  };
  await using all = await open('all');
  await ensureStream(all.stream.manager, all.config);
  const refused = (subject: string) => ({
    kind: 'config',
    message: `stream.url: this login may not ${subject}`,
    remedy: 'give its user the permissions of docs/security.md',
  });
  {
    await using mute = await open('mute');
    const publisher = await ChunkPublisher.open(mute.stream, quiet);
    const position = { lsn: lsn(1n), k: 0 };
    await publisher.publish({ kind: 'changes', epoch: EPOCH, prev: position, end: position, fragment: { n: 1, of: 1 } }, Buffer.from('x'));
    await assert.rejects(publisher.drain(), refused('publish to tidemark.s.wal'));
    assert.deepEqual(mute.said, ['stream.url: this login may not publish to tidemark.s.wal'], 'said once, not at each try');
  }
  {
    await using blind = await open('blind');
    await assert.rejects(ensureStream(blind.stream.manager, blind.config), refused('publish to $JS.API.STREAM.INFO.TIDEMARK_s'));
  }
  {
    await using stuck = await open('stuck');
    const [chunk] = [readChunks(stuck.stream, {}, quiet)[Symbol.asyncIterator]()];
    await assert.rejects(chunk.next(), (error: Error) => /may not publish to \$JS\.API\.CONSUMER\.MSG\.NEXT\.TIDEMARK_s\./.test(error.message));
  }
  {
    await using hurried = await open('deaf');
    answerFlushes(hurried.stream.connection, 's', () => undefined);
    await until('it is said', async () => hurried.said.length === 1);
    assert.equal(hurried.stream.denied(), undefined, 'nothing ends for want of it');
  }
  await using deaf = await open('deaf');
  takeRequests(deaf.stream.connection, 'tidemark.s.prune');
  await until('both are said', async () => deaf.said.length === 2);
  assert.deepEqual(deaf.said.sort(), [
    'stream.url: this login may not subscribe to tidemark.s.prune',
    'stream.url: this login may not subscribe to tidemark.s.prune.alive',
  ]);
  assert.equal(deaf.stream.connection.isClosed(), false, 'and the connection lives');
  await deaf.stream.connection.flush();
});
