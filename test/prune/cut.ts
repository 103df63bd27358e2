/** A TCP proxy before Postgres that cuts a connection at its COMMIT: before the server gets it, or before its answer gets back. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export type Cut = 'before the server gets it' | 'before the answer gets back';

const COMMIT = Buffer.from('COMMIT\0');

export class CommitCutter implements AsyncDisposable {
  readonly url: string;
  /** COMMITs that were cut. */
  cuts = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #armed: Cut | undefined;

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  static async before(databaseUrl: string): Promise<CommitCutter> {
    const url = new URL(databaseUrl);
    const [host, port] = [url.hostname, Number(url.port)];
    const server = createServer((client) => cutter.#pass(client, connect(port, host)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url.hostname = '127.0.0.1';
    url.port = String((server.address() as AddressInfo).port);
    const cutter = new CommitCutter(server, url.toString());
    return cutter;
  }

  /** The next COMMIT is cut, once. */
  arm(cut: Cut): void {
    this.#armed = cut;
  }

  #pass(client: Socket, server: Socket): void {
    let deaf = false;
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on('error', end).on('close', end);
    }
    client.on('data', (bytes) => {
      if (this.#armed !== undefined && bytes.includes(COMMIT)) {
        this.cuts += 1;
        const armed = this.#armed;
        this.#armed = undefined;
        if (armed === 'before the server gets it') return end();
        deaf = true;
      }
      server.write(bytes);
    });
    server.on('data', (bytes) => (deaf ? end() : void client.write(bytes)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
