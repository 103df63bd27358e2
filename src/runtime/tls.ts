/** What every TLS connection needs: files of certificates read with a clear complaint, and one line for what a handshake says. Knows no protocol. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { configError, TidemarkError } from './errors.js';

/** The text of a key's file. Throws `config` when it cannot be read. */
export function readKeyFile(file: string, field: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw configError(
      `${field}: ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`,
      'correct the path, or let this user read the file',
    );
  }
}

/** The text of a file of certificates. Throws `config`: Node takes any text for a CA and then trusts nobody, without saying why. */
export function readCertificate(file: string, field: string): string {
  const text = readKeyFile(file, field);
  try {
    new X509Certificate(text);
  } catch {
    throw configError(`${field}: ${file} is not a certificate in PEM`, 'give the file that begins with -----BEGIN CERTIFICATE-----');
  }
  return text;
}

/**
 * One line for what a TLS handshake says, undefined when the error is of another kind. What only the server can mend, and mends without us (a certificate that has run out), is tried again.
 * `to`: whom the handshake was with; `field`: where it was given; `ca`: how a CA is given.
 */
export function explainTlsError(
  error: { code?: string; message?: string },
  to: { name: string; field: string; ca: string; identity: string },
): TidemarkError | undefined {
  const { code = '', message = '' } = error;
  const { name, field, ca, identity } = to;
  if (
    /^(SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_(VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT(_LOCALLY)?)|CERT_(UNTRUSTED|REJECTED|SIGNATURE_FAILURE)|INVALID_CA)$/.test(
      code,
    )
  )
    return configError(`${field}: the certificate of ${name} is not signed by a CA that is trusted here (${code})`, `give the CA's certificate: ${ca}`);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return configError(`${field}: the certificate of ${name} is for another host (${(error as { reason?: string }).reason ?? message})`, identity);
  if (/^CERT_(HAS_EXPIRED|NOT_YET_VALID)$/.test(code))
    return new TidemarkError('transient', `${field}: the certificate of ${name} ${code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet'}`, {
      remedy: 'give the server a new certificate, or set the clock right',
      cause: error,
    });
  if (/KEY_VALUES_MISMATCH/.test(code)) return configError(`${field}: certificate and key do not belong together`, 'give the key of this certificate');
  if (
    /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_(UNKNOWN|EXPIRED|REQUIRED|REVOKED)|HANDSHAKE_FAILURE)|ALERT_NUMBER_(40|42|45|46|48|116)/.test(code) ||
    /certificate required/.test(message)
  )
    return configError(
      `${field}: ${name} does not accept our certificate (${code || message})`,
      'give the certificate and key that it asks for, signed by a CA that it trusts',
    );
  if (/^ERR_(SSL|OSSL|TLS)_|^EPROTO$/.test(code))
    return configError(`${field}: no TLS connection to ${name} (${message.replace(/^[0-9A-F]+:/, '').trim()})`, 'see that this port speaks TLS');
  return undefined;
}
