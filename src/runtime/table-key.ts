/** Splits `schema.table`; a bare name lies in `public`. */
export function parseTableKey(key: string): { key: string; schema: string; table: string } {
  const dot = key.indexOf('.');
  return dot < 0 ? { key, schema: 'public', table: key } : { key, schema: key.slice(0, dot), table: key.slice(dot + 1) };
}
