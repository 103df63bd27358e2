/** The structure, held by a test: imports run one way, no cycles, no barrels, the environment is read in two places, files stay small. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { configJsonSchema } from '../src/runtime/config.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** What a room may import besides itself. `wal/session`: one file of a room. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  position: [],
  runtime: [],
  change: ['position'],
  wal: ['position', 'change', 'runtime'],
  stream: ['position', 'change', 'runtime'],
  segment: ['position', 'change', 'runtime'],
  archive: ['position', 'change', 'segment', 'runtime'],
  coverage: ['position', 'archive', 'runtime'],
  import: ['position', 'change', 'archive', 'segment', 'runtime'],
  prune: [
    'position',
    'change',
    'coverage',
    'archive',
    'segment',
    'runtime',
    'wal/copy-out',
    'wal/copy-text',
    'wal/session',
    'wal/identity',
    'wal/identifier',
    'wal/publication-entry',
    'wal/recopy-lock',
    'wal/slot',
  ],
  restore: ['position', 'change', 'archive', 'segment', 'runtime', 'wal/session', 'wal/identity', 'wal/identifier'],
  query: ['position', 'change', 'archive', 'segment', 'runtime', 'wal/session', 'wal/identity', 'wal/identifier', 'wal/describe', 'wal/table-rows'],
  status: [
    'position',
    'change',
    'coverage',
    'archive',
    'runtime',
    'stream',
    'prune/target',
    'wal/session',
    'wal/identity',
    'wal/identifier',
    'wal/slot',
    'wal/slot-health',
    'wal/table-estimate',
  ],
};

/** Services that may use other services: the command line runs them all, the demo starts them. */
const JOINING = new Set(['cli', 'demo']);
const LONGEST_FILE = 320;
const ENVIRONMENT_READERS = /^(src\/runtime\/(config|fault-point)\.ts|services\/demo\/.*|services\/cli\/(supervisor|commands\/init|commands\/demo)\.ts)$/;

type Source = { file: string; text: string; imports: string[] };

function sources(): Source[] {
  const found: Source[] = [];
  for (const top of ['src', 'services']) {
    for (const entry of readdirSync(path.join(ROOT, top), { recursive: true, encoding: 'utf8' })) {
      if (!entry.endsWith('.ts')) continue;
      const file = `${top}/${entry.split(path.sep).join('/')}`;
      const text = readFileSync(path.join(ROOT, file), 'utf8');
      const imports = [...text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map((match) =>
        path.posix.join(path.posix.dirname(file), (match[1] as string).replace(/\.js$/, '.ts')),
      );
      found.push({ file, text, imports });
    }
  }
  return found;
}

const all = sources();
const room = (file: string): string => file.split('/')[1] as string;

test('there is something to look at', () => {
  assert.ok(all.length > 50);
});

test('imports run one way', () => {
  const wrong: string[] = [];
  for (const { file, imports } of all) {
    for (const target of imports) {
      if (file.startsWith('src/')) {
        const allowed = ARROWS[room(file)];
        assert.ok(allowed, `${file}: a new room; say here what it may import`);
        const fine =
          target.startsWith('src/') &&
          (room(target) === room(file) || allowed.includes(room(target)) || allowed.includes(target.slice(4).replace(/\.ts$/, '')));
        if (!fine) wrong.push(`${file} → ${target}`);
      } else if (target.startsWith('services/') && room(target) !== room(file) && !JOINING.has(room(file))) wrong.push(`${file} → ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('no cycles', () => {
  const graph = new Map(all.map(({ file, imports }) => [file, imports]));
  const done = new Set<string>();
  const visit = (file: string, trail: readonly string[]): void => {
    if (done.has(file)) return;
    const again = trail.indexOf(file);
    assert.ok(again < 0, `cycle: ${[...trail.slice(Math.max(0, again)), file].join(' → ')}`);
    for (const next of graph.get(file) ?? []) visit(next, [...trail, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
});

test('no barrels and no rooms for everything', () => {
  for (const { file, text } of all) {
    assert.doesNotMatch(path.basename(file), /^(index|utils?|helpers?|common|types|manager)\.ts$/, file);
    const statements = text
      .replace(/\/\*[\s\S]*?\*\//g, '')
      .split('\n')
      .filter((line) => line.trim() !== '');
    assert.ok(!statements.every((line) => /^export .* from /.test(line)), `${file} only re-exports`);
  }
});

test('every file says at its head what it is', () => {
  for (const { file, text } of all) assert.match(text, /^(#!.*\n)?\/\*\*/, `${file} has no head comment`);
});

test('the environment is read in few places', () => {
  const readers = all.filter(({ text }) => /process\.env/.test(text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, ''))).map(({ file }) => file);
  assert.deepEqual(
    readers.filter((file) => !ENVIRONMENT_READERS.test(file)),
    [],
  );
});

test('files stay small enough to be read', () => {
  const long = all.filter(({ text }) => text.split('\n').length > LONGEST_FILE).map(({ file, text }) => `${file}: ${text.split('\n').length}`);
  assert.deepEqual(long, []);
});

test('the files of the console’s page stay small and say at their head what they are', () => {
  const folder = path.join(ROOT, 'services/console/page');
  for (const name of readdirSync(folder).filter((file) => /\.(js|css)$/.test(file))) {
    const text = readFileSync(path.join(folder, name), 'utf8');
    assert.match(text, /^(\/\*|\/\/ )/, `${name} has no head comment`);
    assert.ok(text.split('\n').length <= LONGEST_FILE, name);
  }
});

test('every law names tests that exist, and there are fifteen', () => {
  const rows = readFileSync(path.join(ROOT, 'docs/laws.md'), 'utf8')
    .split('\n')
    .filter((line) => /^\| \d+ /.test(line));
  assert.deepEqual(
    rows.map((row) => Number.parseInt(row.slice(2), 10)),
    Array.from({ length: 15 }, (_, i) => i + 1),
  );
  for (const row of rows) {
    const named = [...row.matchAll(/`(test\/[^`]+\.test\.ts)` "([^"]+)"/g)];
    assert.ok(named.length > 0, `law without a test: ${row.slice(0, 40)}`);
    for (const [, file, title] of named) {
      assert.ok(readFileSync(path.join(ROOT, file as string), 'utf8').includes(title as string), `${file} has no test ${JSON.stringify(title)}`);
    }
  }
});

test('the fault points that are described are those that are built in', () => {
  const described = new Set(
    [...readFileSync(path.join(ROOT, 'docs/reliability.md'), 'utf8').matchAll(/^\| ((?:[CAKPR]\d+(?:, )?)+) \|/gm)].flatMap((match) =>
      (match[1] as string).split(', '),
    ),
  );
  const built = new Set(all.flatMap(({ text }) => [...text.matchAll(/faultPoint\('([A-Z]\d+)'\)/g)].map((match) => match[1] as string)));
  assert.deepEqual([...described].sort(), [...built].sort());
});

test('the JSON Schema for editors is that of the configuration', () => {
  assert.deepEqual(JSON.parse(readFileSync(path.join(ROOT, 'docs/tidemark.schema.json'), 'utf8')), JSON.parse(JSON.stringify(configJsonSchema())));
});

test('links between the documents lead somewhere', () => {
  for (const file of [
    'README.md',
    ...readdirSync(path.join(ROOT, 'docs'), { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => `docs/${name}`),
  ]) {
    const text = readFileSync(path.join(ROOT, file), 'utf8');
    for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
      assert.ok(existsSync(path.join(ROOT, path.dirname(file), target as string)), `${file} → ${target}`);
    }
  }
});
