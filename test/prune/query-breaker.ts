/**
 * A proxy before Postgres that reads what a client asks (the frontend protocol, "Message Formats") and breaks one query of it: the server refuses it, or the connection is cut before the server has
 * got it, or before the answer is back.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export const BREAKS = ['refused', 'cut before the server gets it', 'cut before the answer gets back'] as const;
export type Break = (typeof BREAKS)[number];

const [QUERY, SYNC, READY] = ['Q', 'S', 'Z'].map((type) => type.charCodeAt(0)) as [number, number, number];
const REFUSAL = 'SERROR\0VERROR\0C57014\0Mcanceling statement due to user request\0\0';

/** Messages as they come: type and body, each whole. */
class Messages {
  #rest = Buffer.alloc(0);
  /** The first message of a client has no type. */
  #startup: boolean;

  constructor(startup: boolean) {
    this.#startup = startup;
  }

  *of(bytes: Buffer): Generator<{ type: number; whole: Buffer }> {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const at = this.#startup ? 0 : 1;
      if (this.#rest.length < at + 4) return;
      const end = at + this.#rest.readUInt32BE(at);
      if (this.#rest.length < end) return;
      const whole = this.#rest.subarray(0, end);
      this.#rest = this.#rest.subarray(end);
      yield { type: this.#startup ? 0 : (whole[0] as number), whole };
      this.#startup = false;
    }
  }
}

type Armed = { readonly at: number | string; readonly how: Break };

export class QueryBreaker implements AsyncDisposable {
  readonly url: string;
  /** Queries that came since it was armed, and how many of them were broken. */
  queries = 0;
  broken = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #armed: Armed | undefined;

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  static async before(databaseUrl: string): Promise<QueryBreaker> {
    const url = new URL(databaseUrl);
    const [host, port] = [url.hostname, Number(url.port)];
    const server = createServer((client) => breaker.#join(client, connect(port, host)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url.hostname = '127.0.0.1';
    url.port = String((server.address() as AddressInfo).port);
    const breaker = new QueryBreaker(server, url.toString());
    return breaker;
  }

  /** Breaks one query: the `at`th from now, or the next whose text holds `at`. */
  arm(at: number | string, how: Break): void {
    this.#armed = { at, how };
    this.queries = 0;
    this.broken = 0;
  }

  #join(client: Socket, server: Socket): void {
    let deaf = false;
    let status = Buffer.from('I');
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on('error', end).on('close', end);
    }
    const asked = new Messages(true);
    const answered = new Messages(false);
    let query: Buffer[] = [];
    client.on('data', (bytes: Buffer) => {
      for (const { type, whole } of asked.of(bytes)) {
        query.push(whole);
        const isQuery = type === QUERY || type === SYNC;
        if (!isQuery && query.length === 1 && !'PBDECH'.includes(String.fromCharCode(type))) {
          server.write(whole); // startup, password, terminate
          query = [];
        }
        if (!isQuery) continue;
        const text = Buffer.concat(query);
        query = [];
        const how = this.#breaks(text);
        if (how === undefined || how === 'cut before the answer gets back') {
          deaf = how !== undefined;
          server.write(text);
        } else if (how === 'refused') client.write(Buffer.concat([message('E', REFUSAL), message('Z', status)]));
        else return end();
      }
    });
    server.on('data', (bytes: Buffer) => {
      for (const { type, whole } of answered.of(bytes)) {
        if (type === READY) status = Buffer.from(whole.subarray(5));
        if (deaf && type === READY) return end();
        if (!deaf) client.write(whole);
      }
    });
  }

  #breaks(text: Buffer): Break | undefined {
    this.queries += 1;
    const armed = this.#armed;
    if (armed === undefined || (typeof armed.at === 'number' ? this.queries !== armed.at : !text.includes(armed.at))) return undefined;
    this.#armed = undefined;
    this.broken += 1;
    return armed.how;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function message(type: string, body: string | Buffer): Buffer {
  const head = Buffer.from(`${type}    `);
  head.writeUInt32BE(4 + Buffer.byteLength(body), 1);
  return Buffer.concat([head, Buffer.from(body)]);
}
