#!/usr/bin/env node
/** The command line. Owns the list of commands, their options and exit codes; what they do lies in commands/, loaded when asked for. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { describeError, exitCodeOf } from '../../src/runtime/errors.js';

/** What a command's action gets: its arguments, its options, and `-c`. */
type Action = (args: readonly (string | undefined)[], options: Record<string, string | boolean | undefined>) => Promise<number | undefined>;

/** What standard output failed with first. */
let unwritten: NodeJS.ErrnoException | undefined;

const version = (): string => (JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }).version;

const program = new Command('tidemark')
  .description(
    'Keeps a Postgres database lean and loses nothing: old rows leave Postgres only after the very version being deleted was read back from a durable Parquet file.',
  )
  .version(version(), '-V, --version')
  .addOption(new Option('-c, --config <file>').hideHelp()) // also taken before the command
  .enablePositionalOptions()
  .helpCommand(false) // commander's own shows everything for a name that it does not know
  .showHelpAfterError('(tidemark --help lists the commands)')
  .exitOverride();

/** Commands that write into the archive's folder; doctor with --accept does too. */
const WRITING: ReadonlySet<string> = new Set([
  'run', 'prune', 'restore', 'undo-prune', 'import', 'expire', 'pause', 'repair', 'resync', 'adopt', 'teardown',
]); // biome-ignore format: a list

async function requireOwnArchive(config: string): Promise<void> {
  const [{ requireSameUser }, { loadConfig }] = await Promise.all([import('../../src/archive/owner.js'), import('../../src/runtime/config.js')]);
  await requireSameUser(loadConfig(config).archive.dir);
}

/** Adds a command; `configured`: it reads a configuration. */
function command(usage: string, summary: string, example: string, load: () => Promise<{ run: Action }>, configured = true): Command {
  const added = program.command(usage).description(summary).addHelpText('after', `\nExample:\n  ${example}`).exitOverride();
  if (configured) added.option('-c, --config <file>', 'configuration (default: "tidemark.yaml")');
  added.action(async (...given: unknown[]) => {
    const options = given.at(-2) as Record<string, string | boolean | undefined>;
    const config = String(options['config'] ?? program.opts<{ config?: string }>().config ?? 'tidemark.yaml');
    if (configured) process.umask(0o027); // what a command writes into the archive is 0640, whoever starts it; the demo's servers have accounts of their own
    if (configured && (WRITING.has(added.name()) || options['accept'] === true)) await requireOwnArchive(config);
    const { run } = await load();
    process.exitCode = (await run(given.slice(0, -2) as (string | undefined)[], { ...options, config })) ?? 0;
  });
  return added;
}

command(
  'init',
  'read a database and write a tidemark.yaml for it; pruning is off in what it writes',
  'tidemark init --url postgresql://me@localhost/goat',
  () => import('./commands/init.js'),
  false,
)
  .option('--url <url>', 'the database; default: DATABASE_URL')
  .option('--out <file>', 'where to write', 'tidemark.yaml')
  .option('--force', 'replace an existing file');
command('doctor', 'check every precondition at once, each with its remedy', 'tidemark doctor --fix', () => import('./commands/doctor.js'))
  .option('--fix', 'run the safe remedies (make the publication, add a listed table to it), then check again')
  .option('--accept', 'take settings that prune more than before (a shorter retention, another timestamp column), and a clock that was set forward')
  .option('--json', 'as JSON');
command(
  'run [service]',
  'run all services under one supervisor, or one of: capture, archiver, pruner, console',
  'tidemark run -c /etc/tidemark.yaml',
  () => import('./commands/run.js'),
);
command('prune [table]', 'one prune pass now, by the running pruner or in this process', 'tidemark prune prices --dry-run', () => import('./commands/prune.js'))
  .option('--dry-run', 'choose, prove and compare, delete nothing')
  .option('--json', 'as JSON');
command(
  'status',
  'lag at each stage, health of the slot, and per table what is hot, archived and prunable',
  'tidemark status --watch',
  () => import('./commands/status.js'),
)
  .option('--watch', 'again every two seconds: a screen on a terminal, text in a pipe')
  .option('--json', 'as JSON, with --watch one object a look');
command(
  'console',
  'show the pipeline in a browser: http://127.0.0.1:9470 where the configuration does not say otherwise',
  'tidemark console --port 9480',
  () => import('./commands/console.js'),
).option('--port <n>', 'another port than console.port');
command(
  'explain <table> [key...]',
  'why a table or a row is not prunable yet; every archived version of a row, how it ended, which run pruned it',
  'tidemark explain prices 4711',
  () => import('./commands/explain.js'),
).option('--json', 'as JSON');
command(
  'verify',
  'check the chain of manifests, and every file: there, its size, hash, and every row decoded',
  'tidemark verify',
  () => import('./commands/verify.js'),
)
  .option('--deep', 'also compare with the rows in Postgres that a prune could take, and with a replay of the stream')
  .option('--json', 'as JSON');
command(
  'views',
  'SQL for DuckDB: a view for each table over its sealed and open days. For its own program, duckdb, or any of its libraries; `tidemark query` brings DuckDB along',
  'tidemark views > archive.sql && duckdb -init archive.sql',
  () => import('./commands/views.js'),
);
command(
  'tail [table]',
  'the changes in the stream as JSON lines: from now on, or from a place in the replay window',
  'tidemark tail prices --from 10m | jq -c .new',
  () => import('./commands/tail.js'),
)
  .option('--from <place>', 'an LSN (0/1F76560), a time (2026-01-12T10:00:00Z), how long ago (10m), or start')
  .option('--follow', 'go on as changes come (default)')
  .option('--no-follow', 'end with what is in the stream now')
  .option('--all', 'also fences, other messages of Tidemark, and copied rows');
command(
  'query [sql]',
  'one SQL (of DuckDB) over the hot rows in Postgres and the cold rows in the archive, each row once; without SQL a shell',
  `tidemark query 'SELECT count(*) FROM prices WHERE "timestamp" >= current_date'`,
  () => import('./commands/query.js'),
)
  .option('--format <format>', 'table, csv, json, jsonl or parquet (default: table on a terminal, else csv)')
  .option('--out <file>', 'write into a file; parquet needs one')
  .option('--cold', 'the archive alone, as of its position, when Postgres is away')
  .option('--hot', 'Postgres alone, when the archive is away')
  .option('--memory <size>', 'memory of the query; what is more goes to disk', '1GB')
  .option('--temp <dir>', 'where its temporary folder is made (default: that of the system)')
  .option('--stats', 'say on standard error what was read')
  .option('-i, --interactive', 'the shell, also without a terminal');
command('rebuild', 'replay the stream into an empty folder', 'tidemark rebuild --into /tmp/again --check', () => import('./commands/rebuild.js'))
  .requiredOption('--into <dir>', 'an empty or missing folder')
  .option('--check', 'compare it with the archive')
  .option('--json', 'as JSON');
command(
  'seal [table]',
  'turn finished days that Postgres holds no row of into their daily files now',
  'tidemark seal prices --day 2026-01-12',
  () => import('./commands/seal.js'),
).option('--day <day>', 'only this UTC day, as 2026-01-12');
command(
  'restore <table>',
  'archived rows back into Postgres: a day, a span, a condition, or all of them; the pruner leaves them for a while',
  'tidemark restore prices --day 2026-01-12',
  () => import('./commands/restore.js'),
)
  .option('--day <day>', 'only this day, as 2026-01-12, or undated')
  .option('--from <time>', "only from here on, as 2026-01-12 or '2026-01-12 10:30'")
  .option('--to <time>', 'only before then')
  .option('--where <sql>', "only rows that meet a condition, in DuckDB's SQL")
  .option('--into <table>', 'into another table, as schema.table; made when it is not there')
  .option('--on-conflict <policy>', 'where another row has the place: skip, replace or fail (default)')
  .option('--keep <duration>', 'how long the pruner leaves the rows; default: 24h')
  .option('--dry-run', 'the same way, but nothing is written')
  .option('--json', 'as JSON');
command(
  'undo-prune <run>',
  'the rows of one prune run back where they were; what has their place by now stays',
  'tidemark undo-prune 54ec4f25-7393-4054-894a-7cdb6d7bf327',
  () => import('./commands/undo-prune.js'),
)
  .option('--keep <duration>', 'how long the pruner leaves the rows; default: 24h')
  .option('--dry-run', 'the same way, but nothing is written')
  .option('--yes <name>', 'confirm by the name of the source, for scripts')
  .option('--json', 'as JSON');
command(
  'import <dir>',
  'take over the files of the script that was there before: each row under its own day, none twice, the originals untouched',
  'tidemark import /srv/old_archive --dry-run',
  () => import('./commands/import.js'),
)
  .option('--table <name>', 'only this table')
  .option('--dry-run', 'read, check and count, import nothing')
  .option('--accept-inexact', 'take what is nearest to a value that cannot be carried exactly, or NULL')
  .option('--timezone <zone>', 'what times without a zone mean in the files; default: source.timezone')
  .option('--json', 'as JSON');
command('expire [table]', 'drop sealed days from the archive that are older than keep', 'tidemark expire --dry-run', () => import('./commands/expire.js'))
  .option('--dry-run', 'show what would go')
  .option('--yes <name>', 'confirm by the name of the source, for scripts')
  .option('--json', 'as JSON');
command(
  'pause',
  'stop pruning until resume, through every restart; archiving goes on',
  "tidemark pause --reason 'month-end close'",
  () => import('./commands/pause.js'),
).option('--reason <text>', 'shown wherever pruning says why it stands still');
command('resume', 'let pruning go on', 'tidemark resume', async () => ({ run: (await import('./commands/pause.js')).resume }));
command(
  'repair [table]',
  'copy all rows of a table again (DIGEST), remove a damaged stream that capture then fills again (STREAM_GAP, POISON), or go back to the last sound manifest (MANIFEST)',
  'tidemark repair prices',
  () => import('./commands/repair.js'),
)
  .option('--stream', 'the stream instead of a table')
  .option('--manifest', 'the chain of manifests instead of a table')
  .option('--yes <name>', 'confirm by the name of the source, for scripts');
command(
  'resync',
  'go on with this archive after its slot was lost, dropped or advanced, or the server went another way: a new slot and a new copy',
  'tidemark resync --yes goat',
  () => import('./commands/resync.js'),
).option('--yes <name>', 'confirm by the name of the source, for scripts');
command(
  'adopt',
  'take another server for the one of this archive (pg_upgrade, a restored backup), then as resync',
  'tidemark adopt',
  () => import('./commands/adopt.js'),
).option('--yes <identifier>', 'confirm by the system identifier of the new server, for scripts');
command('teardown', 'remove slot, publication and stream (never archive files)', 'tidemark teardown --yes goat', () => import('./commands/teardown.js')).option(
  '--yes <name>',
  'confirm by the name of the source, for scripts',
);
command(
  'demo',
  'the whole way on a Postgres and a NATS of its own, under load, audited at the end',
  'tidemark demo --seconds 60 --kill',
  () => import('./commands/demo.js'),
  false,
)
  .option('--seconds <n>', 'length of the live load', '45')
  .option('--rate <rows>', 'rows a second of the live load')
  .option('--kill', 'kill -9 random services every few seconds')
  .option('--keep', 'go on until Ctrl-C')
  .option('--compare', 'run the script that Tidemark replaces beside it, on a second database under the same load')
  .option('--report <file>', 'write a JSON report');

program
  .command('help [command]')
  .description('show the help of a command')
  .action((name: string | undefined) => {
    const found = name === undefined ? program : program.commands.find((one) => one.name() === name);
    return found === undefined ? program.error(`error: unknown command '${name}'`) : found.help();
  });

// A reader that has gone (`| head`) has seen enough: the work goes on, and its exit code is its own. Whatever else keeps the output from being written is said, also of the last line.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  unwritten ??= error;
});
process.once('exit', () => {
  if (unwritten === undefined || unwritten.code === 'EPIPE' || (process.exitCode ?? 0) !== 0) return;
  process.stderr.write(`standard output cannot be written (${unwritten.code ?? unwritten.message}) → make room where it goes\n`);
  process.exitCode = 1;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError)
    process.exitCode = error.exitCode === 0 ? 0 : 2; // it has said why
  else {
    process.stderr.write(`${describeError(error)}\n`);
    process.exitCode = exitCodeOf(error);
  }
}
