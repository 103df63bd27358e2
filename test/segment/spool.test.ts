/** Spools take bytes as they are, survive short writes, and after a failed one refuse everything: nothing half-used. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { RowDigest } from '../../src/segment/digest.js';
import { SpoolWriter, type WriteSync } from '../../src/segment/spool.js';

let dir: string;
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'tidemark-spool-'));
});
after(() => rm(dir, { recursive: true, force: true }));

const full = (): never => {
  throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
};

test('quotes are doubled, numbers written whole, the longest line known', () => {
  const spool = new SpoolWriter(path.join(dir, 'a.csv'));
  const text = Buffer.from('xsay "hi"\tx');
  spool.quoted(text, 1, text.length - 1);
  spool.tab();
  spool.quoted(Buffer.from(''));
  spool.tab();
  for (const value of [0, 9, 10, 4_294_967_295, -1, -2_147_483_648, Number.MAX_SAFE_INTEGER]) {
    spool.integer(value);
    spool.tab();
  }
  spool.raw(Buffer.from('end'));
  spool.endLine();
  const first = spool.bytes;
  spool.raw(Buffer.alloc(100, 0x61));
  spool.endLine();
  spool.finish();
  assert.equal(readFileSync(spool.file, 'utf8'), `"say ""hi""\t"\t""\t0\t9\t10\t4294967295\t-1\t-2147483648\t9007199254740991\tend\n${'a'.repeat(100)}\n`);
  assert.equal(spool.longestLine, Math.max(first, 101));
  assert.equal(statSync(spool.file).mode & 0o777, 0o640);
  const taken = new SpoolWriter(spool.file);
  assert.throws(() => taken.finish(), { code: 'EEXIST' });
  taken.discard();
  assert.ok(existsSync(spool.file), 'it is somebody else’s');
});

test('a value that is folded into a digest on its way is written as any other', () => {
  const spool = new SpoolWriter(path.join(dir, 'digested.csv'));
  const [digest, plain] = [new RowDigest(), new RowDigest()];
  digest.reset();
  plain.reset();
  const values = [
    '',
    'plain',
    'say "hi"',
    '"',
    '""""',
    `${'x'.repeat(5000)}"`,
    'y'.repeat(100_000),
    '"'.repeat(30_000),
    `${'z'.repeat(262_143)}""${'ä'.repeat(700_000)}`,
  ].map((text) => Buffer.from(text));
  for (const value of values) {
    spool.digested(value, 0, value.length, digest, true);
    spool.tab();
    spool.digested(value, 0, value.length, digest, false);
    spool.tab();
    for (let times = 0; times < 2; times += 1) plain.bytes(value, 0, value.length);
  }
  spool.endLine();
  spool.finish();
  const expected = values.map((value) => `"${value.toString().replaceAll('"', '""')}"\t${value.toString()}\t`).join('');
  assert.equal(readFileSync(spool.file, 'utf8'), `${expected}\n`);
  assert.equal(digest.value, plain.value);
});

test('writes are of 256 KB or more, and short ones go on where they stopped', () => {
  const sizes: number[] = [];
  const spool = new SpoolWriter(path.join(dir, 'short.csv'), (descriptor, buffer, offset, length) => {
    sizes.push(length);
    return writeSync(descriptor, buffer, offset, Math.min(length, 100_000));
  });
  const line = Buffer.alloc(1000, 0x62);
  for (let i = 0; i < 1000; i += 1) {
    line.writeUInt8(0x30 + (i % 10), 0);
    spool.raw(line);
    spool.endLine();
  }
  spool.finish();
  const written = readFileSync(spool.file, 'latin1').split('\n');
  assert.equal(written.length, 1001);
  for (let i = 0; i < 1000; i += 1) assert.equal(written[i], `${i % 10}${'b'.repeat(999)}`);
  assert.ok((sizes[0] as number) >= 256 * 1024);
});

test('a large value goes into the file piece by piece; a disk that is full in its midst loses the spool', () => {
  let room = Number.POSITIVE_INFINITY;
  const sizes: number[] = [];
  const write: WriteSync = (descriptor, buffer, offset, length) => {
    if (room <= 0) full();
    sizes.push(length);
    room -= length;
    return writeSync(descriptor, buffer, offset, length);
  };
  const value = Buffer.alloc(5_000_000, '"quoted", ');
  const whole = new SpoolWriter(path.join(dir, 'large.csv'), write);
  whole.quoted(value);
  whole.tab();
  whole.digested(value, 0, value.length, new RowDigest(), false);
  whole.endLine();
  whole.quoted(Buffer.from('next'));
  whole.endLine();
  whole.finish();
  assert.equal(readFileSync(whole.file, 'utf8'), `"${value.toString().replaceAll('"', '""')}"\t${value.toString()}\n"next"\n`);
  assert.equal(whole.longestLine, 6_000_000 + 2 + 1 + 5_000_000 + 1);
  assert.ok(Math.max(...sizes) < 600_000, 'in pieces');
  const torn = new SpoolWriter(path.join(dir, 'torn.csv'), write);
  room = 1_000_000;
  assert.throws(() => torn.quoted(value), { code: 'ENOSPC' });
  room = Number.POSITIVE_INFINITY;
  assert.throws(() => torn.endLine(), /is not whole/);
  assert.throws(() => torn.finish(), /is not whole/);
  torn.discard();
  assert.equal(existsSync(torn.file), false);
});

test('a full disk surfaces, and the spool is lost from then on: no row is written twice or in part', () => {
  let room = 300_000;
  const spool = new SpoolWriter(path.join(dir, 'full.csv'), (descriptor, buffer, offset, length) => {
    if (room <= 0) full();
    const written = writeSync(descriptor, buffer, offset, Math.min(length, room));
    room -= written;
    return written;
  });
  const line = Buffer.alloc(200_000, 0x63);
  spool.raw(line);
  spool.endLine();
  assert.throws(
    () => {
      spool.raw(line);
      spool.endLine();
    },
    { code: 'ENOSPC' },
  );
  room = Number.POSITIVE_INFINITY;
  assert.throws(() => spool.endLine(), /is not whole/);
  assert.throws(() => spool.finish(), /is not whole/);
  spool.discard();
  assert.equal(existsSync(spool.file), false);
});

test('a disk that takes nothing and gives no reason is an error, not a loop', () => {
  const spool = new SpoolWriter(path.join(dir, 'none.csv'), () => 0);
  spool.raw(Buffer.from('x'));
  spool.endLine();
  assert.throws(() => spool.finish(), /took no more bytes/);
  spool.discard();
});

test('a thousand that fill hold few bytes each, and no open file', () => {
  const spools = Array.from({ length: 1024 }, (_, i) => new SpoolWriter(path.join(dir, `many-${i}.csv`)));
  const open = (): number => readdirSync('/proc/self/fd').length;
  const before = process.platform === 'linux' ? open() : 0;
  const line = Buffer.alloc(10_000, 0x64);
  for (let i = 0; i < 10; i += 1) {
    for (const spool of spools) {
      spool.raw(line);
      spool.endLine();
    }
  }
  for (const spool of spools) assert.ok(statSync(spool.file).size >= 60_000, 'what was taken in lies in the file, but for less than 64 KB');
  if (process.platform === 'linux') assert.equal(open(), before);
  for (const spool of spools) spool.finish();
  for (const spool of spools) assert.equal(statSync(spool.file).size, 100_010);
});
