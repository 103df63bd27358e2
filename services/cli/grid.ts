/** Text in columns that fits a width: cells with a colour, cut where the line ends. Owns how wide a text is on a terminal, and that nothing in it moves the cursor. Pure. */

/** A text and how it is painted; the paint must not change its width. */
export type Cell = { readonly text: string; readonly paint?: ((text: string) => string) | undefined };
export type Line = readonly Cell[];

export const cell = (text: string, paint?: (text: string) => string): Cell => ({ text, paint });

/** Takes two columns of a terminal. */
const WIDE = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\uFF01-\uFF60]/u;
const CONTROL = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;

export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) width += WIDE.test(character) ? 2 : /\p{M}/u.test(character) ? 0 : 1;
  return width;
}

/** The text in at most `width` columns; what was cut shows as `…`. */
export function cut(text: string, width: number): string {
  const plain = text.replace(CONTROL, '·');
  if (widthOf(plain) <= width) return plain;
  if (width <= 0) return '';
  let [kept, used] = ['', 0];
  for (const character of plain) {
    used += widthOf(character);
    if (used > width - 1) break;
    kept += character;
  }
  return `${kept}…`;
}

/** The text in lines of at most `width` columns, broken between words; a word that is longer is cut. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && widthOf(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(cut(word, width));
  }
  return lines;
}

/** Cells side by side, cut at `width`. */
export function lineText(line: Line, width: number): string {
  let left = width;
  let text = '';
  for (const { text: own, paint } of line) {
    const shown = cut(own, left);
    left -= widthOf(shown);
    text += paint === undefined || shown.trim() === '' ? shown : paint(shown);
  }
  return text;
}

/** Rows as columns two spaces apart; `right`: numbers of the columns that end on the right. */
export function columns(rows: readonly Line[], right: ReadonlySet<number> = new Set()): Line[] {
  const widths: number[] = [];
  for (const row of rows) for (const [at, { text }] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, widthOf(text));
  return rows.map((row) =>
    row.map(({ text, paint }, at) => {
      const space = ' '.repeat((widths[at] ?? 0) - widthOf(text));
      const last = at === row.length - 1;
      return { text: right.has(at) ? `${space}${text}${last ? '' : '  '}` : last ? text : `${text}${space}  `, paint };
    }),
  );
}
