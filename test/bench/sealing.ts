/** A day sealed by a real archiver: a process of its own, asked through the stream as the pruner asks. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { SealReply } from '../../src/archive/seal.js';
import { requestReply } from '../../src/stream/request.js';
import { connectStream, ensureStream, requestSubject } from '../../src/stream/topology.js';
import { ArchiverProcess } from './archiver-process.js';
import { cpuSeconds, type Measured, peakMemory } from './frame.js';
import type { OpenDay } from './open-day.js';

/** Throws with the reason when the day is not sealed, and with the archiver's log when it ends. */
export async function sealByArchiver(made: OpenDay, place: { readonly table: string; readonly day: string }): Promise<Measured & { readonly file: string }> {
  const { config } = made;
  const { connection, manager } = await connectStream(config, 'bench');
  try {
    await ensureStream(manager, config);
    await using archiver = await ArchiverProcess.start(config.file);
    const request = { schema: 'public', table: place.table, day: place.day, asOf: made.asOf };
    const subject = requestSubject(config.source.name, 'seal');
    let reply: SealReply | undefined;
    let began = performance.now();
    // It says that it archives a moment before it subscribes.
    for (const until = Date.now() + 10_000; reply === undefined && Date.now() < until; ) {
      began = performance.now();
      reply = await requestReply<SealReply>(connection, subject, request);
    }
    const seconds = (performance.now() - began) / 1000;
    if (reply === undefined || !reply.ok || reply.file === null) throw new Error(`not sealed: ${JSON.stringify(reply)}\n${archiver.log}`);
    const { pid } = archiver;
    const file = path.join(config.archive.dir, reply.file);
    return { seconds, rows: reply.rows, bytes: (await stat(file)).size, peakMemory: peakMemory(pid), cpu: { archiver: cpuSeconds(pid) }, file };
  } finally {
    await connection.close();
  }
}
