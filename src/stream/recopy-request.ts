/** Rows that the pruner could not prove, handed to capture on `tidemark.<source>.recopy`: taken note of at once, copied when it is their turn. */
import { type NatsConnection, StringCodec } from 'nats';
import { requestSubject } from './names.js';

const text = StringCodec();
const TAKEN_MS = 5000;

/** `keys`: texts of the key columns; every row of the table without it. */
export type RecopyRequest = { readonly schema: string; readonly table: string; readonly keys?: readonly (readonly string[])[] };

/** False: nobody took it; the next run of the pruner asks again. */
export async function requestRecopy(connection: NatsConnection, source: string, request: RecopyRequest): Promise<boolean> {
  try {
    await connection.request(requestSubject(source, 'recopy'), text.encode(JSON.stringify(request)), { timeout: TAKEN_MS });
    return true;
  } catch {
    return false;
  }
}

/** Hands every request to `take`, and answers. What is none is not answered. */
export function answerRecopies(connection: NatsConnection, source: string, take: (request: RecopyRequest) => void): { unsubscribe(): void } {
  return connection.subscribe(requestSubject(source, 'recopy'), {
    callback: (error, message) => {
      if (error !== null) return;
      const request = parse(text.decode(message.data));
      if (request === undefined) return;
      take(request);
      message.respond();
    },
  });
}

function parse(body: string): RecopyRequest | undefined {
  try {
    const request = JSON.parse(body) as Partial<RecopyRequest> | null;
    const named = typeof request?.schema === 'string' && typeof request.table === 'string';
    const keyed =
      request?.keys === undefined ||
      (Array.isArray(request.keys) && request.keys.every((key) => Array.isArray(key) && key.every((part) => typeof part === 'string')));
    return named && keyed ? (request as RecopyRequest) : undefined;
  } catch {
    return undefined;
  }
}
