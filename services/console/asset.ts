/** The files of the page, read once at the start: only what is here is ever served. The page lies beside the sources, in the clone as in the package; the charts come from node_modules. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export type Asset = { readonly body: Buffer; readonly type: string; readonly etag: string };

/** From dist/services/console/ to services/console/page/. */
const PAGE = fileURLToPath(new URL('../../../services/console/page/', import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** By request path: `/app.js`, `/vendor/uplot.js`. */
export async function readAssets(): Promise<ReadonlyMap<string, Asset>> {
  const { resolve } = createRequire(import.meta.url);
  const files = new Map<string, string>([
    ['/vendor/uplot.js', resolve('uplot/dist/uPlot.esm.js')],
    ['/vendor/uplot.css', resolve('uplot/dist/uPlot.min.css')],
  ]);
  for (const name of await readdir(PAGE)) if (TYPES[path.extname(name)] !== undefined) files.set(`/${name}`, path.join(PAGE, name));
  const assets = new Map<string, Asset>();
  for (const [where, file] of files) {
    const body = await readFile(file);
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
    assets.set(where, { body, type: TYPES[path.extname(where)] as string, etag });
  }
  return assets;
}
