/** Who may look: the token, and the sessions that it opens. In memory, so that a restart ends them. Comparisons take the same time whatever they find. */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Secret } from '../../src/runtime/config-values.js';

/** A session ends after this. */
export const SESSION_SECONDS = 12 * 3600;
const MOST_SESSIONS = 64;
/** Wrong tokens of one address within a minute; then it may not try again for the rest of it. */
const MOST_FAILURES = 10;
const MINUTE_MS = 60_000;
const MOST_ADDRESSES = 1000;

export class Sessions {
  readonly #token: Secret | undefined;
  readonly #key = randomBytes(32);
  /** SHA-256 of a session's name → when it ends, ms. */
  readonly #open = new Map<string, number>();
  /** Times of wrong tokens, by the address they came from. */
  readonly #failures = new Map<string, number[]>();

  readonly #wrong: () => void;

  /** Without a token everybody is let in: only this machine can ask. `wrong`: told of each wrong one. */
  constructor(token: Secret | undefined, wrong: () => void = () => undefined) {
    this.#token = token;
    this.#wrong = wrong;
  }

  get needed(): boolean {
    return this.#token !== undefined;
  }

  /** `from`: the address of who gives it. False as well for the right token, while too many from there were wrong. */
  tokenIsRight(given: string, from: string, now = Date.now()): boolean {
    if (this.#token === undefined || this.waitSeconds(from, now) > 0) return false;
    if (timingSafeEqual(digest(given), digest(this.#token.reveal()))) return true;
    this.#wrong();
    const failures = [...this.#lately(from, now), now];
    this.#failures.delete(from);
    this.#failures.set(from, failures);
    const oldest = this.#failures.keys().next();
    if (this.#failures.size > MOST_ADDRESSES && oldest.done !== true) this.#failures.delete(oldest.value);
    return false;
  }

  /** How long no token is taken from there, since too many were wrong in the last minute; 0: they are. */
  waitSeconds(from: string, now = Date.now()): number {
    const oldest = this.#lately(from, now).at(-MOST_FAILURES);
    return oldest === undefined ? 0 : Math.ceil((oldest + MINUTE_MS - now) / 1000);
  }

  #lately(from: string, now: number): number[] {
    return (this.#failures.get(from) ?? []).filter((at) => at > now - MINUTE_MS);
  }

  /** Opens one; the oldest goes when there are too many. The value of its cookie. */
  open(now = Date.now()): string {
    for (const [name, until] of this.#open) if (until <= now || this.#open.size >= MOST_SESSIONS) this.#open.delete(name);
    const session = randomBytes(24).toString('base64url');
    this.#open.set(nameOf(session), now + SESSION_SECONDS * 1000);
    return session;
  }

  isOpen(session: string | undefined, now = Date.now()): boolean {
    return session !== undefined && (this.#open.get(nameOf(session)) ?? 0) > now;
  }

  close(session: string | undefined): void {
    if (session !== undefined) this.#open.delete(nameOf(session));
  }

  /** What a page must send along with a wish: bound to its session, and to this process. */
  wishToken(session: string | undefined): string {
    return createHmac('sha256', this.#key)
      .update(`wish ${session ?? ''}`)
      .digest('base64url');
  }

  isWishToken(given: string | undefined, session: string | undefined): boolean {
    return given !== undefined && timingSafeEqual(digest(given), digest(this.wishToken(session)));
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function nameOf(session: string): string {
  return digest(session).toString('base64url');
}
