/** A day sealed by a real archiver: a process of its own, asked through the stream as the pruner asks. Owns the process and what is known of it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SealReply } from '../../src/archive/seal.js';
import { requestReply } from '../../src/stream/request.js';
import { connectStream, ensureStream, requestSubject } from '../../src/stream/topology.js';
import { cpuSeconds, type Measured, peakMemory } from './frame.js';
import type { OpenDay } from './open-day.js';

const MAIN = fileURLToPath(new URL('../../services/archiver/main.js', import.meta.url));

/** Throws with the reason when the day is not sealed, and with the archiver's log when it ends. */
export async function sealByArchiver(made: OpenDay, place: { readonly table: string; readonly day: string }): Promise<Measured & { readonly file: string }> {
  const { config } = made;
  const { connection, manager } = await connectStream(config, 'bench');
  await ensureStream(manager, config);
  const archiver = spawn(process.execPath, [MAIN, '-c', config.file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  archiver.stderr.on('data', (bytes: Buffer) => {
    log = (log + bytes.toString()).slice(-20_000);
  });
  const ended = once(archiver, 'exit');
  try {
    while (!log.includes('"event":"archiving"')) {
      if (archiver.exitCode !== null) throw new Error(`the archiver ended: ${log}`);
      await Promise.race([once(archiver.stderr, 'data'), ended]);
    }
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
    if (reply === undefined || !reply.ok || reply.file === null) throw new Error(`not sealed: ${JSON.stringify(reply)}\n${log}`);
    const pid = archiver.pid as number;
    const file = path.join(config.archive.dir, reply.file);
    return { seconds, rows: reply.rows, bytes: (await stat(file)).size, peakMemory: peakMemory(pid), cpu: { archiver: cpuSeconds(pid) }, file };
  } finally {
    if (archiver.exitCode === null) archiver.kill('SIGTERM');
    await ended;
    await connection.close();
  }
}
