/** SQL text cut into statements at its semicolons: those in literals, quoted names, comments and dollar quotes are none. Pure; knows nothing else of the language. */

/** `statements`: whole ones, without their semicolon, none empty. `rest`: what stands behind the last semicolon; blank when only spaces and comments do. */
export type Statements = { readonly statements: readonly string[]; readonly rest: string; readonly blank: boolean };

/** A stretch in which a semicolon ends nothing; an unfinished one reaches to the end of the text. */
const QUIET = /'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|\$(\w*)\$[\s\S]*?(?:\$\1\$|$)/y;
const COMMENT = /^(?:--|\/\*)/;

export function splitStatements(text: string): Statements {
  const statements: string[] = [];
  let from = 0;
  let blank = true;
  for (let at = 0; at < text.length; ) {
    QUIET.lastIndex = at;
    const quiet = QUIET.exec(text);
    if (quiet !== null && quiet[0].length > 0) {
      if (!COMMENT.test(quiet[0])) blank = false;
      at += quiet[0].length;
      continue;
    }
    if (text[at] === ';') {
      if (!blank) statements.push(text.slice(from, at).trim());
      from = at + 1;
      blank = true;
    } else if (!/\s/.test(text[at] as string)) blank = false;
    at += 1;
  }
  return { statements, rest: text.slice(from), blank };
}

/** EXPLAIN or EXPLAIN ANALYZE, taken off: the statement that it is about. Undefined: it is no EXPLAIN. */
export function explained(statement: string): string | undefined {
  const head = /^(?:\s|--[^\n]*\n|\/\*[\s\S]*?\*\/)*EXPLAIN\b(?:\s+ANALYZE\b|\s*\([^)]*\))?/i.exec(statement);
  return head === null ? undefined : statement.slice(head[0].length);
}
