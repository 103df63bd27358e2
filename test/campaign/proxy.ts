/** A TCP proxy that can stall, half-open as it were, and cut connections in the middle of a message. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class TcpProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #stalled = false;
  /** Bytes that may still pass before everything is cut. */
  #left = Number.POSITIVE_INFINITY;
  /** Where it leads to. */
  target = 0;

  private constructor() {
    this.#server = createServer((near) => this.#join(near));
  }

  static async open(): Promise<TcpProxy> {
    const proxy = new TcpProxy();
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  #join(near: Socket): void {
    const far = connect({ host: '127.0.0.1', port: this.target });
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.setNoDelay(true);
      from.on('data', (bytes: Buffer) => this.#pass(bytes, from, to));
      from.on('drain', () => !this.#stalled && to.resume());
      from.on('error', () => undefined);
      from.on('close', () => {
        to.destroy();
        this.#pairs.delete(pair);
      });
      if (this.#stalled) from.pause();
    }
  }

  #pass(bytes: Buffer, from: Socket, to: Socket): void {
    this.#left -= bytes.length;
    if (this.#left < 0) {
      to.write(bytes.subarray(0, Math.max(0, bytes.length + this.#left)));
      return this.#cut();
    }
    if (!to.write(bytes)) from.pause();
  }

  /** Nothing passes, nothing is closed, until flow(). */
  stall(): void {
    this.#stalled = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  flow(): void {
    this.#stalled = false;
    this.#left = Number.POSITIVE_INFINITY;
    for (const pair of this.#pairs) for (const socket of pair) socket.resume();
  }

  /** Every connection ends after so many more bytes. */
  cutAfter(bytes: number): void {
    this.#left = bytes;
  }

  #cut(): void {
    this.#left = Number.POSITIVE_INFINITY;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cut();
    this.#server.close();
    await once(this.#server, 'close').catch(() => undefined);
  }
}
