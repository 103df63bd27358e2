/**
 * Which archive a request is about. Services are asked by the name of their source; another configuration may have that name, and another database and archive: what it asks must not be
 * done to this one.
 */
import { openIdentity } from './identity.js';

/** Of a folder that holds no archive, or none yet. */
const NONE = 'none';

/** What goes with a request: the id of the archive in `dir`. Throws as openIdentity. */
export async function archiveHere(dir: string): Promise<string> {
  return (await openIdentity(dir))?.archive ?? NONE;
}

/** Why what was `asked` about one archive is not done by a service that works on another, `own` in `dir`; undefined when it may be done. A person's request names none. */
export function otherArchive(asked: string | undefined, own: string, dir: string): string | undefined {
  if (asked === undefined || asked === own) return undefined;
  const say = (archive: string): string => (archive === NONE ? 'has no archive' : `has the archive ${archive}`);
  return `the service that answers for this source works in ${dir}, which ${say(own)}; the archive.dir of the one who asks ${say(asked)} → use the configuration that the services run with, or another source.name`;
}
