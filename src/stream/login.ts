/**
 * Where NATS is and who we are there: addresses, login and TLS out of the configuration, in the form that the client takes. Owns one clear line for each way in which a connection is
 * refused. Must never print what it logs in with.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { type Authenticator, type ConnectionOptions, credsAuthenticator, nkeyAuthenticator, type TlsOptions } from 'nats';
import type { Check } from '../runtime/check.js';
import type { Config } from '../runtime/config.js';
import { natsServers } from '../runtime/config-values.js';
import { configError, TidemarkError } from '../runtime/errors.js';
import { explainTlsError, readCertificate, readKeyFile } from '../runtime/tls.js';

export type Address = {
  readonly servers: string[];
  readonly hosts: readonly string[];
  readonly tls: boolean;
  readonly user: string;
  readonly password: string;
};

/** `tls://user:password@host:4222`; several servers are separated by commas. TLS is for all of them as soon as one says so. */
export function addressOf(text: string): Address {
  const found = natsServers(text);
  if (typeof found === 'string') throw configError(`stream.url: ${found}`, 'write for instance nats://localhost:4222, or tls://');
  const servers: string[] = [];
  const hosts: string[] = [];
  let [tls, user, password] = [false, '', ''];
  for (const url of found) {
    if (url.username !== '') [user, password] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
    servers.push(url.host);
    hosts.push(url.hostname.replace(/^\[(.+)\]$/, '$1'));
    tls ||= url.protocol === 'tls:';
  }
  return { servers, hosts, tls, user, password };
}

/** The address without its login. */
export function shownAddress(text: string): string {
  return addressOf(text).servers.join(', ');
}

/** What `connect` takes of the configuration. Throws `config` for files that cannot be used. */
export function connectionOptions(config: Config): ConnectionOptions {
  const { stream } = config;
  const address = addressOf(stream.url.reveal());
  const options: ConnectionOptions = { servers: address.servers };
  const authenticator = keyed(config);
  if (authenticator !== undefined) options.authenticator = authenticator;
  else if (stream.token !== undefined) options.token = stream.token.reveal();
  else if (stream.user !== undefined) Object.assign(options, { user: stream.user, pass: stream.password?.reveal() ?? '' });
  else if (address.user !== '' && address.password !== '') Object.assign(options, { user: address.user, pass: address.password });
  else if (address.user !== '') options.token = address.user;
  const tls = tlsOptions(config, address);
  if (tls !== undefined) options.tls = tls;
  return options;
}

/** Logins that sign: nothing of them goes over the wire but a public key and a signature. */
function keyed({ stream }: Config): Authenticator | undefined {
  if (stream.nkey !== undefined) {
    const seed = Buffer.from(stream.nkey.reveal().trim());
    return attempted(nkeyAuthenticator(seed), 'stream.nkey: not the seed of a user', 'give the seed itself, which begins with SU; a file of it with …_FILE');
  }
  const file = stream.credentials;
  if (file === undefined) return undefined;
  let known = Buffer.from(readKeyFile(file, 'stream.credentials'));
  const read = (): Buffer => {
    try {
      known = readFileSync(file); // new ones are taken at the next connection
    } catch {
      // being replaced: the last ones count
    }
    return known;
  };
  return attempted(credsAuthenticator(read), `stream.credentials: ${file} is no credentials file`, 'give the file that `nsc generate creds` writes');
}

/** Tried once here: the client would say what is wrong with it in words of its own, or only that it was refused. */
function attempted(authenticator: Authenticator, problem: string, remedy: string): Authenticator {
  try {
    authenticator('nonce');
  } catch {
    throw configError(problem, remedy);
  }
  return authenticator;
}

function tlsOptions({ stream }: Config, address: Address): TlsOptions | undefined {
  const { ca, cert, key } = stream.tls ?? {};
  if (stream.tls === undefined && !address.tls) return undefined;
  const options: TlsOptions & { checkServerIdentity?: typeof checkServerIdentity; minVersion?: string } = { minVersion: 'TLSv1.2' };
  if (ca !== undefined) options.ca = readCertificate(ca, 'stream.tls.ca');
  if (cert !== undefined) options.cert = readCertificate(cert, 'stream.tls.cert');
  if (key !== undefined) options.key = readKeyFile(key, 'stream.tls.key');
  options.checkServerIdentity = (name, certificate) => checkName(name, certificate, address.hosts);
  return options;
}

/** The client gives no name for an IP address, and Node then takes `localhost` for it: the addresses that were configured are what the certificate must be for. */
function checkName(name: string, certificate: PeerCertificate, hosts: readonly string[]): Error | undefined {
  const names = name === 'localhost' && !hosts.includes(name) ? hosts.filter((host) => isIP(host) !== 0) : [name];
  let wrong: Error | undefined = new Error('no name to check');
  for (const one of names) {
    wrong = checkServerIdentity(one, certificate);
    if (wrong === undefined) return undefined;
  }
  return wrong;
}

/** One line for why there is no connection. */
export function connectError(config: Config, failure: unknown): Error {
  if (failure instanceof TidemarkError) return failure;
  const error = ((failure as { chainedError?: unknown }).chainedError ?? failure) as { code?: string; message?: string };
  const name = `NATS at ${shownAddress(config.stream.url.reveal())}`;
  const code = [...new Set([(failure as { code?: string }).code, error.code])].filter((one) => one !== undefined).join(' ');
  const tls = explainTlsError(error, { name, field: 'stream.url', ca: 'stream.tls.ca', identity: 'let stream.url name the host as its certificate does' });
  if (tls !== undefined) return tls;
  if (/SERVER_OPT_NA/.test(code))
    return configError(`stream.url: ${name} has no TLS, and TLS was asked for (tls://, stream.tls)`, 'tls { … } in the configuration of nats-server');
  if (/AUTH|PERMISSIONS|BAD_CREDS/.test(code)) {
    return new TidemarkError('config', `stream.url: ${name} refuses this login`, {
      remedy: 'correct stream.user and stream.password, stream.token, stream.nkey, stream.credentials, or the login in stream.url',
      cause: failure,
    });
  }
  // With TLS 1.3 a server refuses a client's certificate after the handshake, by closing: the client library only notices that nothing comes.
  const encrypted = config.stream.tls !== undefined || addressOf(config.stream.url.reveal()).tls;
  const silent = encrypted && /TIMEOUT/.test(code);
  return new TidemarkError('transient', `${name} does not answer (${code || String(failure)})`, {
    remedy: silent
      ? 'does it ask for a certificate of ours (stream.tls.cert, stream.tls.key)? Its log says so'
      : 'start nats-server -js, or correct stream.url',
    cause: failure,
  });
}

/** doctor's word on the way there: rows and passwords pass it. */
export function encryptionCheck(config: Config, encrypted: boolean): Check {
  const name = 'TLS of NATS';
  const away = addressOf(config.stream.url.reveal()).hosts.filter((host) => !/^(localhost|127(\.\d{1,3}){3}|::1)$/i.test(host));
  if (encrypted) return { name, status: 'ok', seen: 'encrypted, certificate and host name checked' };
  if (away.length === 0) return { name, status: 'ok', seen: 'not needed: the server is on this machine' };
  return {
    name,
    status: 'warning',
    seen: `off: rows travel to ${away.join(', ')} in clear text`,
    remedy: 'tls:// in stream.url, stream.tls.ca, and tls { … } in the configuration of nats-server',
  };
}
