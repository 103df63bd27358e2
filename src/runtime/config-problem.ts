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

/** What a person writes where the schema expects a type. */
const WANTED: Readonly<Record<string, string>> = {
  boolean: 'write true or false',
  number: 'write a number',
  int: 'write a whole number',
  string: 'write a text, in quotes where it looks like something else',
  object: 'write a section, with its fields indented under it',
  record: 'write a section, with its fields indented under it',
  array: 'write a list, as [a, b]',
};

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
  const wanted = issue.code === 'invalid_type' ? WANTED[issue.expected] : undefined;
  return `${where}: ${shown}; ${wanted ?? issue.message.replace(/^Invalid input: /, '')}`;
}

/** A text with every login taken out of the addresses in it: `nats://me:word@host` → `nats://…@host`. */
export function withoutLogins(text: string): string {
  return text.replace(/:\/\/[^\s"']*@/g, '://…@');
}
