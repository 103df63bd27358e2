/** Values of tidemark.yaml that have a form of their own: durations, sizes, schedules, time zones, secrets. */
import { Cron } from 'croner';
import { z } from 'zod';

/** A value that must never be printed: reveals itself only when asked by name. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '[secret]';
  }
  toJSON(): string {
    return '[secret]';
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]';
  }
}

export const DURATION_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000, y: 31_557_600_000 } as const;
export const SIZE_BYTES = { B: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 } as const;

/** `24h` → milliseconds. */
export const duration = z.union([z.string(), z.number()]).transform((text, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|y)$/.exec(String(text).trim());
  if (!match) {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a duration; write for instance 24h, 60s or 7d` });
    return z.NEVER;
  }
  return Math.round(Number(match[1]) * DURATION_MS[match[2] as keyof typeof DURATION_MS]);
});

/** `64MB` → bytes (powers of 1024). */
export const size = z.union([z.string(), z.number()]).transform((text, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB)$/i.exec(String(text).trim());
  if (!match) {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a size; write for instance 64MB or 20GB` });
    return z.NEVER;
  }
  return Math.round(Number(match[1]) * SIZE_BYTES[(match[2] as string).toUpperCase() as keyof typeof SIZE_BYTES]);
});

export const whole = z.number().int().positive();
export const port = z.number().int().min(1, 'a port is a number from 1 to 65535').max(65_535, 'a port is a number from 1 to 65535');
export const secretText = z
  .string()
  .min(1)
  .transform((text) => new Secret(text));

/** The servers of `stream.url`, separated by commas; a text: what is wrong with it. */
export function natsServers(text: string): URL[] | string {
  const servers: URL[] = [];
  for (const part of text.split(',')) {
    let url: URL;
    try {
      url = new URL(part.includes('://') ? part.trim() : `nats://${part.trim()}`);
      decodeURIComponent(url.username + url.password);
    } catch {
      return 'not an address';
    }
    if (!/^(nats|tls):$/.test(url.protocol)) return `${url.protocol}// is not NATS`;
    servers.push(url);
  }
  return servers;
}

/** Its login is a secret. */
export const natsUrl = z
  .string()
  .min(1)
  .superRefine((text, context) => {
    const found = natsServers(text);
    if (typeof found === 'string') context.addIssue({ code: 'custom', message: `${found}: write for instance nats://localhost:4222, or tls://` });
  })
  .transform((text) => new Secret(text));

/** A secret that others could guess at: not a short one. */
export const token = z
  .string()
  .min(16, 'a token has at least 16 characters; make one with: openssl rand -hex 24')
  .transform((text) => new Secret(text));

export const hostName = z.string().regex(/^(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9])$/, 'a host name alone, without scheme and port');

export const cron = z.string().superRefine((text, context) => {
  try {
    new Cron(text, { paused: true }).stop();
  } catch {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a cron schedule; write for instance "0 * * * *"` });
  }
});

export const timezone = z.string().superRefine((text, context) => {
  try {
    new Intl.DateTimeFormat('en', { timeZone: text });
  } catch {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a time zone; write for instance UTC or Europe/Berlin` });
  }
});

/** How long sealed days stay: a duration, or for ever. */
export const keep = z.union([z.literal('forever'), duration], { error: 'write for instance 90d, 10y or forever' });

/** Milliseconds; undefined: for ever. */
export function keepOf(value: z.output<typeof keep>): number | undefined {
  return value === 'forever' ? undefined : value;
}
