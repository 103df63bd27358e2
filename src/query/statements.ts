/** SQL text cut into statements at its semicolons: those in literals, quoted names, comments and dollar quotes are none. Pure; knows nothing else of the language. */

/** `statements`: whole ones, without their semicolon, none empty. `rest`: what stands behind the last semicolon; blank when only spaces and comments do. */
export type Statements = { readonly statements: readonly string[]; readonly rest: string; readonly blank: boolean };

/** A stretch in which a semicolon ends nothing; an unfinished one reaches to the end of the text. */
const QUIET = /(?<![\w$])[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|--[^\n]*|\$(\w*)\$[\s\S]*?(?:\$\1\$|$)/y;

/** Length of the comment that begins at `at`; 0: none does. They nest. */
function bracketed(text: string, at: number): number {
  if (!text.startsWith('/*', at)) return 0;
  const mark = /\/\*|\*\//g;
  mark.lastIndex = at;
  for (let depth = 0, found = mark.exec(text); found !== null; found = mark.exec(text)) {
    depth += found[0] === '/*' ? 1 : -1;
    if (depth === 0) return mark.lastIndex - at;
  }
  return text.length - at;
}

export function splitStatements(text: string): Statements {
  const statements: string[] = [];
  let from = 0;
  let blank = true;
  for (let at = 0; at < text.length; ) {
    QUIET.lastIndex = at;
    const quiet = QUIET.exec(text)?.[0] ?? '';
    const comment = bracketed(text, at);
    if (quiet.length > 0 || comment > 0) {
      if (quiet.length > 0 && !quiet.startsWith('--')) blank = false;
      at += quiet.length + comment;
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
