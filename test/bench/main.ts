/** `npm run bench [-- NAME… --rounds N]`: the benchmarks, all of them or those named, each with its usual rounds or N at most. Prints what it found and writes it to `.cache/bench/NAME.json`. Exit code 1 only when one cannot be run. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { application } from './application.js';
import { initialCopy } from './copy.js';
import { drains } from './drain.js';
import type { Benchmark } from './frame.js';
import { limitRounds, megabytes, ratio, summary } from './frame.js';
import { growth } from './growth.js';
import { idle } from './idle.js';
import { latency } from './latency.js';
import { memory } from './memory.js';
import { prune } from './prune.js';
import { rebuild } from './rebuild.js';
import { seals } from './seal-day.js';
import { size } from './size.js';
import { walsender } from './walsender.js';

const BENCHMARKS: readonly Benchmark[] = [...drains, walsender, latency, initialCopy, prune, application, rebuild, ...seals, size, memory, idle, ...growth];
const RESULTS = fileURLToPath(new URL('../../../.cache/bench/', import.meta.url));

const { values, positionals: names } = parseArgs({ allowPositionals: true, options: { rounds: { type: 'string' } } });
if (values.rounds !== undefined && !/^[1-9]\d*$/.test(values.rounds)) {
  process.stderr.write(`--rounds ${values.rounds}: write a whole number from 1 on\n`);
  process.exit(2);
}
if (values.rounds !== undefined) limitRounds(Number(values.rounds));
const unknown = names.filter((name) => !BENCHMARKS.some((benchmark) => benchmark.name === name));
if (unknown.length > 0) {
  process.stderr.write(`no benchmark is named ${unknown.join(', ')}; known:\n${BENCHMARKS.map(({ name, about }) => `  ${name}  ${about}\n`).join('')}`);
  process.exit(2);
}
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const machine = { node: process.version, cpus: cpus().length, cpu: cpus()[0]?.model ?? '', memory: totalmem() };
say(`${machine.cpus} × ${machine.cpu}, ${megabytes(machine.memory)} of memory, Node ${machine.node}`);
for (const benchmark of BENCHMARKS) {
  if (names.length > 0 && !names.includes(benchmark.name)) continue;
  say(`\n${benchmark.name}: ${benchmark.about}`);
  const scratch = await mkdtemp(path.join(tmpdir(), `tidemark-bench-${benchmark.name}-`));
  try {
    const found = await benchmark.run(scratch, say);
    if ('skipped' in found) {
      say(`skipped: ${found.skipped}`);
      continue;
    }
    for (const line of found.flatMap(summary)) say(line);
    await mkdir(RESULTS, { recursive: true });
    const results = found.map((comparison) => ({ ...comparison, ratio: ratio(comparison) }));
    const file = path.join(RESULTS, `${benchmark.name}.json`);
    await writeFile(file, `${JSON.stringify({ benchmark: benchmark.name, at: new Date().toISOString(), machine, results }, null, 2)}\n`);
    say(`written to ${path.relative(process.cwd(), file)}`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
