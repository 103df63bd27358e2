/**
 * TLS to Postgres as the address asks for it: `sslmode`, `sslrootcert`, `sslcert`, `sslkey` with libpq's meaning. Owns the rule that a server which is not on this machine is reached
 * encrypted, its certificate and name checked, unless the address says otherwise. Must never fall back to a connection in clear text: `prefer` and `allow` are refused.
 */
import type { ConnectionOptions } from 'node:tls';
import type { Check } from '../runtime/check.js';
import { configError } from '../runtime/errors.js';
import { readCertificate, readKeyFile } from '../runtime/tls.js';

const MODES = ['disable', 'require', 'verify-ca', 'verify-full'] as const;
type Mode = (typeof MODES)[number];

/** Parameters of an address that are read here, and that pg must not read in its own way. */
const OURS = ['sslmode', 'ssl', 'sslrootcert', 'sslcert', 'sslkey', 'uselibpqcompat', 'sslnegotiation'];

/** The host that an address names, as pg takes it: a `host` parameter (a folder of sockets) before the authority. */
export function hostOf(url: URL): string {
  return url.searchParams.get('host') || decodeURIComponent(url.hostname).replace(/^\[(.+)\]$/, '$1');
}

/** True for a socket and for addresses that never leave this machine. */
export function isLocal(host: string): boolean {
  return host === '' || host.startsWith('/') || /^(localhost|127(\.\d{1,3}){3}|::1)$/i.test(host);
}

/** Takes the parameters of TLS out of `url`; what they mean for a connection, false for none. Throws `config` for a mode that is none, and for files that cannot be read. */
export function takeTls(url: URL, field: string): ConnectionOptions | false {
  const given = (name: string): string | undefined => url.searchParams.get(name) || undefined;
  const mode = modeOf(url, field);
  const [root, cert, key] = [given('sslrootcert'), given('sslcert'), given('sslkey')];
  for (const name of OURS) url.searchParams.delete(name);
  if (mode === 'disable' || hostOf(url).startsWith('/')) return false;
  if ((cert === undefined) !== (key === undefined)) throw configError(`${field}: sslcert and sslkey go together`, 'give both, or neither');
  const options: ConnectionOptions = { minVersion: 'TLSv1.2' };
  if (root !== undefined && root !== 'system') options.ca = readCertificate(root, `${field}: sslrootcert`);
  if (cert !== undefined && key !== undefined)
    Object.assign(options, { cert: readCertificate(cert, `${field}: sslcert`), key: readKeyFile(key, `${field}: sslkey`) });
  if (mode === 'require' && root === undefined) options.rejectUnauthorized = false;
  if (mode === 'verify-ca' || (mode === 'require' && root !== undefined)) options.checkServerIdentity = () => undefined;
  return options;
}

function modeOf(url: URL, field: string): Mode {
  const mode = url.searchParams.get('sslmode');
  if (mode === null) return isLocal(hostOf(url)) && !/^(1|true)$/.test(url.searchParams.get('ssl') ?? '') ? 'disable' : 'verify-full';
  if (!(MODES as readonly string[]).includes(mode))
    throw configError(`${field}: sslmode=${mode.slice(0, 20)} is not usable`, `write one of ${MODES.join(', ')}; there is none that may end in clear text`);
  return mode as Mode;
}

/** doctor's word on it. Pure. Throws what takeTls throws. */
export function tlsCheck(address: string, field: string): Check {
  const url = new URL(address);
  const name = `TLS of ${field}`;
  if (isLocal(hostOf(url))) return { name, status: 'ok', seen: 'not needed: the server is on this machine' };
  const options = takeTls(url, field);
  const remedy = 'sslmode=verify-full&sslrootcert=FILE in the address';
  if (options === false) return { name, status: 'warning', seen: 'off: rows and statements travel in clear text', remedy };
  if (options.rejectUnauthorized === false)
    return { name, status: 'warning', seen: 'encrypted, but whose server it is is not checked (sslmode=require)', remedy };
  return {
    name,
    status: 'ok',
    seen: options.checkServerIdentity === undefined ? 'encrypted, certificate and host name checked' : 'encrypted, certificate checked',
  };
}
