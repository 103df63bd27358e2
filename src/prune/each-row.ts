/** The rows of a query one by one, as they come: what is not kept need not be collected. */
import pg from 'pg';

/** Runs a query and hands each row's texts to `row`. Throws what the server says, or, when the query has ended, what `row` threw first; it is not called after that. */
export async function eachRow(client: pg.Client, query: { text: string; values: unknown[] }, row: (texts: readonly (string | null)[]) => void): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  await new Promise<void>((resolve, reject) => {
    const callback = (error: Error | null | undefined): void => (error ? reject(error) : resolve());
    const running = new pg.Query<(string | null)[]>({ ...query, rowMode: 'array', callback } as pg.QueryArrayConfig);
    running.on('row', (texts, result) => {
      if (result) result.rows.length = 0; // the one before: with a time limit the library keeps them
      if (failure !== undefined) return;
      try {
        row(texts);
      } catch (error) {
        failure = { error };
      }
    });
    client.query(running);
  });
  if (failure !== undefined) throw failure.error;
}
