/** Calls on files that report an error, or are watched, in this process and until they are disposed of; the calls themselves are made. */
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

export const EIO = (): Error => Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });

/** Calls `sync` before each fsync, with what is synced. */
export function watchSyncs(sync: (file: string) => void): Disposable {
  return replaced('open', (open) => async (file, ...rest) => {
    const handle = await open(file, ...rest);
    const real = handle.sync.bind(handle);
    handle.sync = async () => {
      sync(String(file));
      await real();
    };
    return handle;
  });
}

/** Every link is made, and reports EIO: as over a network that loses the answer. */
export function linksReportEio(): Disposable {
  return replaced('link', (link) => async (...args) => {
    await link(...args);
    throw EIO();
  });
}

function replaced<N extends 'open' | 'link'>(name: N, by: (real: (typeof promises)[N]) => (typeof promises)[N]): Disposable {
  const real = promises[name];
  promises[name] = by(real);
  syncBuiltinESMExports();
  return {
    [Symbol.dispose]() {
      promises[name] = real;
      syncBuiltinESMExports();
    },
  };
}
