/** Certificates of one's own, made by openssl in a folder: a CA, another CA, and what each signs. Tests that need them are skipped, with the reason, where there is no openssl. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { findExecutable } from '../services/demo/engines/process.js';

const openssl = findExecutable('openssl');

/** Why tests with certificates cannot run here, or false. For the `skip` option of a test. */
export const NO_OPENSSL: string | false = openssl === undefined ? 'there is no openssl on this machine to make certificates with' : false;

export type Certificate = { readonly cert: string; readonly key: string };

function run(...args: string[]): void {
  execFileSync(openssl as string, args, { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A CA: its certificate and key as files. */
export function makeCa(dir: string, name: string): Certificate {
  const made = { cert: path.join(dir, `${name}.crt`), key: path.join(dir, `${name}.key`) };
  run(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    made.key,
    '-out',
    made.cert,
  );
  return made;
}

/** A certificate signed by `ca`. `names`: as in `DNS:localhost,IP:127.0.0.1`; of a client the common name counts. */
export function signedBy(ca: Certificate, dir: string, name: string, options: { names?: string; expired?: boolean } = {}): Certificate {
  const made = { cert: path.join(dir, `${name}.crt`), key: path.join(dir, `${name}.key`) };
  const request = path.join(dir, `${name}.csr`);
  run('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', `/CN=${name}`, '-keyout', made.key, '-out', request);
  const extensions = path.join(dir, `${name}.ext`);
  writeFileSync(extensions, `basicConstraints=CA:FALSE\n${options.names === undefined ? '' : `subjectAltName=${options.names}\n`}`);
  const days = options.expired === true ? '-1' : '2';
  run('x509', '-req', '-in', request, '-CA', ca.cert, '-CAkey', ca.key, '-CAcreateserial', '-days', days, '-extfile', extensions, '-out', made.cert);
  return made;
}
