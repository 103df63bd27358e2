/** One line for a mistake in the configuration: its path, what was found, what it should be. Must never show what a secret field holds. */
import type { z } from 'zod';

const SECRETS = new Set([
  'source.url',
  'source.prunerUrl',
  'source.restoreUrl',
  'stream.url',
  'stream.password',
  'stream.token',
  'stream.nkey',
  'console.token',
]);

/** `from`: which variable of the environment a field's value came from. */
export function describeIssue(issue: z.core.$ZodIssue, raw: unknown, from: ReadonlyMap<string, string>): string {
  const field = issue.path.join('.');
  const variable = from.get(field);
  const where = `${field || '(top level)'}${variable === undefined ? '' : ` (from ${variable})`}`;
  if (issue.code === 'unrecognized_keys') return `${where}: unknown ${issue.keys.map((key) => JSON.stringify(key)).join(', ')}; remove or correct the name`;
  let seen: unknown = raw;
  for (const step of issue.path) seen = (seen as Record<PropertyKey, unknown> | undefined)?.[step];
  if (seen === undefined) return `${where}: missing; it is needed`;
  if (seen === '') return `${where}: empty; give a value, or take it out`;
  const shown = SECRETS.has(field)
    ? 'not usable'
    : `found ${typeof seen === 'object' ? (Array.isArray(seen) ? 'a list' : 'a section') : withoutLogins(JSON.stringify(seen))}`;
  return `${where}: ${shown}; ${issue.message.replace(/^Invalid input: /, '')}`;
}

/** A text with every login taken out of the addresses in it: `nats://me:word@host` → `nats://…@host`. */
export function withoutLogins(text: string): string {
  return text.replace(/:\/\/[^\s"']*@/g, '://…@');
}
