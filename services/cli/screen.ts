/**
 * A screen that is drawn again and again in place: on the terminal's other screen, line over line, so that nothing flickers, and never wider or higher than the terminal. Owns the state of the
 * terminal, and gives it back as it was, however the process ends.
 */

const ENTER = '\u001b[?1049h\u001b[?25l\u001b[?7l';
const LEAVE = '\u001b[?7h\u001b[?25h\u001b[?1049l';
/** A terminal that knows these shows a frame at once; others pass over them. */
const FRAME = ['\u001b[?2026h', '\u001b[?2026l'] as const;

export type Size = { readonly width: number; readonly height: number };

export class Screen implements Disposable {
  readonly #out: NodeJS.WriteStream;
  readonly #leave = (): void => this[Symbol.dispose]();
  readonly #draw: () => void;
  #lines: (size: Size) => readonly string[] = () => [];
  #entered = true;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    out.write(ENTER);
    process.once('exit', this.#leave);
    this.#draw = () => this.#frame();
    out.on('resize', this.#draw);
  }

  /** `lines`: what to show on a screen of that size; asked again when the size changes. */
  show(lines: (size: Size) => readonly string[]): void {
    this.#lines = lines;
    this.#frame();
  }

  #frame(): void {
    if (!this.#entered) return;
    const size = { width: this.#out.columns || 80, height: this.#out.rows || 24 };
    const lines = this.#lines(size).slice(0, size.height);
    this.#out.write(`${FRAME[0]}\u001b[H${lines.map((line) => `${line}\u001b[K`).join('\n')}\u001b[J${FRAME[1]}`);
  }

  [Symbol.dispose](): void {
    if (!this.#entered) return;
    this.#entered = false;
    process.off('exit', this.#leave);
    this.#out.off('resize', this.#draw);
    this.#out.write(LEAVE);
  }
}
