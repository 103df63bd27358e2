/** Chunks that are not of this archive: how each is refused. */
import { type Epoch, formatEpoch } from '../../src/position/epoch.js';
import { Halt } from '../../src/runtime/errors.js';

export function strangeEpoch(brought: Epoch, held: Epoch | null): Halt {
  return new Halt('IDENTITY', {
    seen: `the stream brings epoch ${formatEpoch(brought)}, the archive holds ${held === null ? 'none' : formatEpoch(held)}.`,
    safe: 'Nothing of the other epoch was taken; what is archived stays as it is.',
    remedy: 'let capture read the server of this archive; for a new slot: stop the services and `tidemark resync`',
  });
}

export function strangeCopy(brought: string, held: string): Halt {
  return new Halt('IDENTITY', {
    seen: `the stream brings a copy for archive ${brought}, this is archive ${held}.`,
    safe: 'Nothing of it was taken.',
    remedy: 'give archive.dir the folder that capture was bound to; for a new archive: `tidemark teardown` first',
  });
}
