/** A TCP proxy between a service and a server, which can do to bytes what networks do: let them through, hold them for ever, cut after so many, trickle, refuse. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

export type Mode =
  /** Everything passes. */
  | { kind: 'pass' }
  /** Nothing passes any more, and no side hears of it: half-open. */
  | { kind: 'hold' }
  /** Connections are cut after so many bytes of the server's. */
  | { kind: 'cut'; afterBytes: number }
  /** So many bytes of the server's a second. */
  | { kind: 'trickle'; bytesPerSecond: number }
  /** New connections are refused, old ones cut. */
  | { kind: 'refuse' };

type Pair = { readonly client: Socket; readonly server: Socket; mode: Mode; passed: number; readonly held: (() => void)[] };

export class NetworkProxy implements AsyncDisposable {
  readonly #listener: Server;
  readonly #pairs = new Set<Pair>();
  #mode: Mode = { kind: 'pass' };

  private constructor(target: { host: string; port: () => number }) {
    this.#listener = createServer({ allowHalfOpen: true }, (client) => {
      if (this.#mode.kind === 'refuse') return void client.resetAndDestroy();
      const server = connect({ host: target.host, port: target.port(), allowHalfOpen: true });
      const pair: Pair = { client, server, mode: this.#mode, passed: 0, held: [] };
      this.#pairs.add(pair);
      this.#join(pair);
    });
  }

  /** `port` is asked at each connection: the server behind may have moved. */
  static async start(target: { host: string; port: () => number }): Promise<NetworkProxy> {
    const proxy = new NetworkProxy(target);
    proxy.#listener.listen(0, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#listener.address() as { port: number }).port;
  }

  /** An address with this proxy in the server's place. */
  instead(url: string): string {
    const changed = new URL(url);
    changed.host = `127.0.0.1:${this.port}`;
    return changed.toString();
  }

  /** `all`: connections that are there too; `new`: those to come; `old`: only those that are there. */
  set(mode: Mode, which: 'all' | 'new' | 'old' = 'all'): void {
    if (which !== 'old') this.#mode = mode;
    if (which === 'new') return;
    for (const pair of this.#pairs) {
      pair.mode = mode;
      if (mode.kind === 'refuse') this.#end(pair);
      if (mode.kind === 'hold') continue;
      for (const send of pair.held.splice(0)) send();
      for (const socket of [pair.client, pair.server]) socket.resume();
    }
  }

  get connections(): number {
    return this.#pairs.size;
  }

  #join(pair: Pair): void {
    for (const [from, to] of [
      [pair.client, pair.server],
      [pair.server, pair.client],
    ] as const) {
      from.on('data', (bytes: Buffer) => void this.#pass(pair, from, to, bytes));
      from.on('end', () => pair.mode.kind !== 'hold' && to.end());
      from.on('error', () => this.#end(pair));
      from.on('close', () => pair.mode.kind !== 'hold' && this.#end(pair));
    }
  }

  async #pass(pair: Pair, from: Socket, to: Socket, bytes: Buffer): Promise<void> {
    const { mode } = pair;
    if (mode.kind === 'hold') {
      from.pause();
      pair.held.push(() => forward(from, to, bytes));
    } else if (mode.kind === 'cut' && from === pair.server) {
      const room = mode.afterBytes - pair.passed;
      pair.passed += bytes.length;
      if (bytes.length < room) forward(from, to, bytes);
      else to.write(bytes.subarray(0, Math.max(0, room)), () => this.#end(pair));
    } else if (mode.kind === 'trickle' && from === pair.server) {
      from.pause();
      const piece = Math.max(1, Math.floor(mode.bytesPerSecond / 10));
      let at = 0;
      for (; at < bytes.length && pair.mode === mode; at += piece) {
        to.write(bytes.subarray(at, at + piece));
        await pause(100);
      }
      if (at < bytes.length) to.write(bytes.subarray(at));
      from.resume();
    } else forward(from, to, bytes);
  }

  #end(pair: Pair): void {
    this.#pairs.delete(pair);
    for (const socket of [pair.client, pair.server]) if (!socket.destroyed) socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pair of this.#pairs) this.#end(pair);
    this.#listener.close();
    await once(this.#listener, 'close');
  }
}

function forward(from: Socket, to: Socket, bytes: Buffer): void {
  if (to.destroyed || to.write(bytes)) return;
  from.pause();
  to.once('drain', () => from.resume());
}
