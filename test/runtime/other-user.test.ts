/** What belongs to another user is said as that, with what to do: a configuration that cannot be read, an archive that cannot be written, a command of root beside services that are not root. */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { createArchive, requireHardLinks } from '../../src/archive/identity.js';
import { requireSameUser } from '../../src/archive/owner.js';
import { archivePreflight } from '../../src/archive/preflight.js';
import { loadConfig } from '../../src/runtime/config.js';
import { TidemarkError } from '../../src/runtime/errors.js';
import { tidemark } from '../services/cli/command.js';

const NOBODY = 65534;
const skip = process.getuid?.() === 0 ? false : 'only root can become another user';
let dir = '';

before(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'tidemark-other-user-'));
  chmodSync(dir, 0o755);
});
after(() => rmSync(dir, { recursive: true, force: true }));

/** What is thrown when another user does it. */
async function refusedTo(uid: number, act: () => unknown): Promise<TidemarkError> {
  process.seteuid?.(uid);
  try {
    await act();
  } catch (error) {
    assert.ok(error instanceof TidemarkError, String(error));
    return error;
  } finally {
    process.seteuid?.(0);
  }
  return assert.fail('it was not refused');
}

test('a configuration that this user may not read', { skip }, async () => {
  const file = path.join(dir, 'tidemark.yaml');
  writeFileSync(file, '', { mode: 0o600 });
  const { message, remedy, exitCode } = await refusedTo(NOBODY, () => loadConfig(file));
  assert.match(message, /tidemark\.yaml: this user may not read it/);
  assert.deepEqual([remedy, exitCode], ['let this user read it and the folders above it, or run as the user of the services', 2]);
});

test('an archive folder that this user may not write in is not taken for a volume without hard links', { skip }, async () => {
  const { message, remedy } = await refusedTo(NOBODY, () => requireHardLinks(dir));
  assert.match(message, /this user may not write in .*EACCES/);
  assert.match(remedy ?? '', /chown -R/);
});

test('doctor warns who is not the owner of the archive: what root writes there the services cannot read', { skip }, async () => {
  const first = async (): Promise<object | undefined> => (await archivePreflight(dir))[0];
  assert.deepEqual(await first(), { name: 'archive folder', status: 'ok', seen: dir });
  chownSync(dir, NOBODY, NOBODY);
  assert.deepEqual(await first(), {
    name: 'archive folder',
    status: 'warning',
    seen: `${dir} is another user's (uid ${NOBODY}); what you write there the services cannot read`,
    remedy: 'run the commands as that user (runuser -u, sudo -u)',
  });
});

test('a command of root that writes is refused beside an archive that another user has made', { skip }, async () => {
  const archive = path.join(dir, 'archive');
  const file = path.join(dir, 'tidemark.yaml');
  mkdirSync(archive);
  chownSync(archive, NOBODY, NOBODY);
  writeFileSync(file, `source: { name: test, url: postgresql://localhost:1/none }\ntables: { t: { timestamp: at } }\narchive: { dir: ${archive} }\n`);
  await requireSameUser(archive); // a folder bound into a container: whoever made the archive in it counts
  await createArchive(archive, 'test');
  await requireSameUser(archive);
  for (const name of ['archive.json', 'key']) chownSync(path.join(archive, '_tidemark', name), NOBODY, NOBODY);
  for (const command of [['pause'], ['restore', 't'], ['run', 'archiver'], ['doctor', '--accept']]) {
    const { code, stderr } = await tidemark([...command, '-c', file]);
    assert.deepEqual([code, /archive\.dir: .* is the archive of the user with id 65534.*runuser/.test(stderr)], [2, true], `${command.join(' ')}: ${stderr}`);
  }
  assert.equal((await tidemark(['status', '-c', file])).code, 1, 'reading is for root too; there is no database');
});
