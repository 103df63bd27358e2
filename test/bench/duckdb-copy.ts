/** Run as a process: DuckDB alone, with its own settings, sorts the rows of segments into one file. Arguments: JSON of CopyTask. Prints seconds and the most memory it held. */
import { DuckDBInstance } from '@duckdb/node-api';
import { cpuSeconds, peakMemory } from './frame.js';

export type CopyTask = { readonly select: string; readonly file: string; readonly temporary: string };

const { select, file, temporary } = JSON.parse(process.argv[2] ?? '') as CopyTask;
const instance = await DuckDBInstance.create(':memory:', { temp_directory: temporary });
const connection = await instance.connect();
const began = performance.now();
await connection.run(`COPY (${select}) TO '${file}' (FORMAT parquet, COMPRESSION zstd)`);
const seconds = (performance.now() - began) / 1000;
process.stdout.write(JSON.stringify({ seconds, peakMemory: peakMemory(process.pid), cpu: { duckdb: cpuSeconds(process.pid) } }));
