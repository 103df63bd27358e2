/** The kinds of tables that random transactions are made over: what makes, names and changes their rows. Each row carries a text that no other version has, but for a table without a key. */

export type Kind = {
  readonly name: string;
  readonly columns: string;
  readonly after: string;
  readonly config: string;
  /** Columns that name a row, in order; of a table without a key: what the generator picks rows by. */
  readonly key: readonly string[];
  /** Columns of the conflict that an upsert is about. */
  readonly conflict: string;
  readonly keyless: boolean;
  readonly deletes: 'history' | 'keep';
  readonly changes: boolean;
  /** Rows with a timestamp that is no day. */
  readonly undated: boolean;
};

/** Columns of all kinds beside the key. */
const REST = 'at timestamptz, ver text, big text, n int8';

function kind(name: string, key: string, more: Partial<Kind> = {}): Kind {
  return {
    name,
    columns: `${key}, ${REST}`,
    after: '',
    config: '',
    key: ['id'],
    conflict: 'id',
    keyless: false,
    deletes: 'history',
    changes: false,
    undated: false,
    ...more,
  };
}

const EXTERNAL = (name: string): string => `ALTER TABLE ${name} ALTER big SET STORAGE EXTERNAL`;

export const KINDS: readonly Kind[] = [
  kind('f_plain', 'id text PRIMARY KEY'),
  kind('f_toast', 'id text PRIMARY KEY', { after: EXTERNAL('f_toast'), config: ', history: true', changes: true }),
  kind('f_index', 'id text PRIMARY KEY, code text NOT NULL', {
    key: ['id', 'code'],
    after: `${EXTERNAL('f_index')}; CREATE UNIQUE INDEX f_index_code ON f_index (code); ALTER TABLE f_index REPLICA IDENTITY USING INDEX f_index_code`,
    config: ', deletes: keep',
    deletes: 'keep',
  }),
  kind('f_full', 'id text, part numeric, PRIMARY KEY (part, id)', {
    key: ['id', 'part'],
    conflict: 'part, id',
    after: `${EXTERNAL('f_full')}; ALTER TABLE f_full REPLICA IDENTITY FULL`,
    config: ', history: true',
    changes: true,
  }),
  kind('f_none', 'id text', {
    keyless: true,
    after: `${EXTERNAL('f_none')}; ALTER TABLE f_none REPLICA IDENTITY FULL`,
    config: ', prune: false, history: true',
    changes: true,
  }),
  kind('f_undated', 'id text PRIMARY KEY', { undated: true, config: ', deletes: keep', deletes: 'keep' }),
];

/** For one transaction of very many rows. */
export const BULK: Kind = kind('f_bulk', 'id text PRIMARY KEY');

/** Its rows are referred to by `f_child`, which is not archived and must lose nothing. */
export const PARENT: Kind = kind('f_parent', 'id text PRIMARY KEY', {
  after: 'CREATE TABLE f_child (id text PRIMARY KEY, parent text REFERENCES f_parent ON DELETE CASCADE)',
});

/** `marks`: each transaction leaves its name there, so that after a crash Postgres says which ones it has. */
export function schemaSql(kinds: readonly Kind[] = KINDS): string {
  const tables = kinds.map(({ name, columns, after }) => `CREATE TABLE ${name} (${columns}); ${after}`).join('; ');
  return `CREATE TABLE marks (id text PRIMARY KEY); ${tables}; CREATE PUBLICATION tidemark_test FOR TABLE beat, ${kinds.map(({ name }) => name).join(', ')}`;
}

export function configLines(kinds: readonly Kind[] = KINDS): string {
  return kinds.map(({ name, config }) => `  ${name}: { timestamp: at${config} }`).join('\n');
}
