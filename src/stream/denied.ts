/**
 * Subjects that a login may not use. NATS says so beside the call, which then only gets no answer: what it said is kept here with the connection, and asked where a call has failed.
 */
import { type NatsConnection, NatsError } from 'nats';
import { TidemarkError } from '../runtime/errors.js';
import type { Log } from '../runtime/log.js';
import { isDispensable } from './names.js';

/** The first denial on this connection, undefined while there is none. */
export type Denied = () => TidemarkError | undefined;

/** Listens until the connection is closed. `said`: called once for each subject. */
export function watchDenied(connection: NatsConnection, said?: (error: TidemarkError) => void): Denied {
  const known = new Set<string>();
  let first: TidemarkError | undefined;
  void (async () => {
    for await (const { permissionContext: context } of connection.status()) {
      if (context === undefined) continue;
      const error = denial(context.operation === 'publish' ? 'publish to' : 'subscribe to', context.subject);
      if (!isDispensable(context.subject)) first ??= error; // no call fails for want of it
      if (known.has(error.message)) continue;
      known.add(error.message);
      said?.(error);
    }
  })();
  return () => first;
}

/** A line in the log of a service for each. */
export function sayDenied(log: Log): (error: TidemarkError) => void {
  return (error) => log.error({ event: 'nats-denied', reason: error.message, remedy: error.remedy }, 'NATS refuses a subject');
}

/** What a call says of a permission that is missing, undefined for every other error. */
export function deniedError(error: unknown): TidemarkError | undefined {
  if (!(error instanceof NatsError) || !error.isPermissionError()) return undefined;
  const context = error.permissionContext as { operation: string; subject: string } | undefined;
  return denial(context?.operation === 'subscription' ? 'subscribe to' : 'publish to', context?.subject ?? 'a subject');
}

function denial(what: string, subject: string): TidemarkError {
  return new TidemarkError('config', `stream.url: this login may not ${what} ${/^_INBOX\./.test(subject) ? '_INBOX.>' : subject}`, {
    remedy: 'give its user the permissions of docs/security.md',
  });
}
