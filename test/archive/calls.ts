/** Calls on files that report an error, or are watched, in this process and until they are disposed of; the calls themselves are made. */
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

export const failure = (code: string): Error => Object.assign(new Error(`${code}: said by a test`), { code });

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

/** Every link is made, and reports an error all the same: over a network that loses the answer (EIO), or sends the call again (EEXIST). */
export function linksReport(code: string): Disposable {
  return replaced('link', (link) => async (...args) => {
    await link(...args);
    throw failure(code);
  });
}

/** What matches cannot be read. */
export function unreadable(which: RegExp, code: string): Disposable {
  const refusing = <F extends (...args: never[]) => Promise<unknown>>(read: F): F =>
    (async (...args: Parameters<F>) => {
      if (which.test(String(args[0]))) throw failure(code);
      return await read(...args);
    }) as F;
  const both = [replaced('readFile', refusing), replaced('readdir', refusing)];
  return {
    [Symbol.dispose]() {
      for (const one of both) one[Symbol.dispose]();
    },
  };
}

function replaced<N extends 'open' | 'link' | 'readFile' | 'readdir'>(name: N, by: (real: (typeof promises)[N]) => (typeof promises)[N]): Disposable {
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
