/** The systemd units: taken by systemd-analyze where there is one, in step with the exit codes and the services, and with no more rights than each service needs. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { findExecutable } from '../services/demo/engines/process.js';
import { configError, Halt, TidemarkError } from '../src/runtime/errors.js';

const UNITS = fileURLToPath(new URL('../../infra/systemd', import.meta.url));
const SERVICES = ['capture', 'archiver', 'pruner', 'console'] as const;
const read = (name: string): string => readFileSync(path.join(UNITS, name), 'utf8');
/** Values of a setting, one for each time it stands there. */
const values = (text: string, key: string): string[] => [...text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map((match) => match[1] as string);

test('a unit for each service, all of them in the target: the console only where it is enabled', () => {
  const units = readdirSync(UNITS).filter((name) => name.endsWith('.service'));
  assert.deepEqual(units.sort(), SERVICES.map((name) => `tidemark-${name}.service`).sort());
  const target = read('tidemark.target');
  for (const name of SERVICES) {
    const unit = read(`tidemark-${name}.service`);
    assert.deepEqual(values(unit, 'ExecStart'), [`/usr/local/bin/tidemark run ${name} -c /etc/tidemark/tidemark.yaml`]);
    assert.deepEqual(values(unit, 'WantedBy'), ['tidemark.target']);
    assert.equal(values(target, 'Wants').join(' ').includes(`tidemark-${name}.service`), name !== 'console');
  }
});

test('stopping the target waits until each service has stopped, as a command after a halt needs it', () => {
  for (const name of SERVICES) {
    const unit = read(`tidemark-${name}.service`);
    assert.deepEqual(values(unit, 'PartOf'), ['tidemark.target']);
    assert.ok(values(unit, 'After').includes('tidemark.target'), name); // without it the stop of the target is one thing, that of its services another
  }
});

test('the installation that the document shows leaves a configuration that the services can read', () => {
  const shown = readFileSync(fileURLToPath(new URL('../../docs/monitoring.md', import.meta.url)), 'utf8');
  assert.match(shown, /^install -m 640 -g tidemark tidemark\.yaml \/etc\/tidemark\/ /m); // init writes it 0640, of the group of who called it
  for (const name of SERVICES) assert.deepEqual(values(read(`tidemark-${name}.service`), 'Group'), ['tidemark']);
});

test('what failed starts again; what halted or is configured wrong does not', () => {
  const again = new TidemarkError('transient', '').exitCode;
  const never = [configError('').exitCode, new Halt('DIGEST', { seen: '', safe: '', remedy: '' }).exitCode];
  for (const name of SERVICES) {
    const unit = read(`tidemark-${name}.service`);
    assert.deepEqual(values(unit, 'Restart'), ['on-failure']);
    const prevented = values(unit, 'RestartPreventExitStatus').join(' ').split(' ').map(Number);
    assert.deepEqual(prevented.sort(), never.sort());
    assert.ok(!prevented.includes(again));
  }
});

test('only the archiver and the pruner may write, and only to the archive; no secret is in the environment or in an argument', () => {
  for (const name of SERVICES) {
    const unit = read(`tidemark-${name}.service`);
    assert.deepEqual(values(unit, 'ReadWritePaths'), name === 'archiver' || name === 'pruner' ? ['/var/lib/tidemark/archive'] : []);
    assert.deepEqual(values(unit, 'ProtectSystem'), ['strict']);
    assert.deepEqual(values(unit, 'CapabilityBoundingSet'), ['']);
    assert.deepEqual(values(unit, 'UMask'), ['0027']);
    for (const value of values(unit, 'Environment'))
      assert.match(value, /^\w+_FILE=\/run\/credentials\/%n\/[\w-]+$|^DATABASE_URL=postgresql:\/\/localhost\/none$/);
    for (const [, secret] of unit.matchAll(/\/run\/credentials\/%n\/([\w-]+)/g)) assert.match(unit, new RegExp(`^LoadCredential=${secret}:`, 'm'));
  }
});

test('systemd takes them', { skip: findExecutable('systemd-analyze') === undefined && 'no systemd-analyze' }, () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'tidemark-units-'));
  try {
    const command = path.join(dir, 'tidemark');
    writeFileSync(command, '#!/bin/sh\n');
    chmodSync(command, 0o755);
    const files = readdirSync(UNITS).filter((name) => /\.(service|target)$/.test(name));
    for (const name of files) writeFileSync(path.join(dir, name), read(name).replaceAll('/usr/local/bin/tidemark', command));
    const verify = (): { status: number | null; stderr: string } =>
      spawnSync('systemd-analyze', ['verify', '--man=no', ...files.map((name) => path.join(dir, name))], { encoding: 'utf8' });
    const { status, stderr } = verify();
    assert.equal(status, 0, stderr);
    assert.doesNotMatch(stderr, /tidemark/, 'no warning about one of ours');
    writeFileSync(path.join(dir, 'tidemark-capture.service'), read('tidemark-capture.service').replace('ProtectSystem=', 'ProtectSystme='));
    assert.match(verify().stderr, /tidemark-capture\.service.*ProtectSystme/, 'it would have told');
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
