/** Whether a connection that reconnects by itself is there at the moment: the client tells only of changes, so they are kept here with it. */
import type { NatsConnection } from 'nats';

/** Listens until the connection is closed; then it is not there. */
export function watchConnected(connection: NatsConnection): () => boolean {
  let there = true;
  void (async () => {
    for await (const { type } of connection.status()) {
      if (type === 'disconnect') there = false;
      else if (type === 'reconnect') there = true;
    }
  })();
  return () => there && !connection.isClosed();
}
