/** A document with blocks of Python and SQL, each followed by what it printed. Owns where they stand in its text; runs nothing. */

export type Block = { readonly section: string; readonly language: 'python' | 'sql'; readonly code: string };

/** A block, and the ```text that follows it when it prints something. */
const BLOCK = /^```(python|sql)\n([\s\S]*?)\n```\n(\n```text\n[\s\S]*?```\n)?/gm;

/** The blocks in their order; the section is the nearest heading above. */
export function blocksOf(document: string): Block[] {
  return document.split(/^(?=## )/m).flatMap((section) =>
    [...section.matchAll(BLOCK)].map(([, language, code]) => ({
      section: headingOf(section),
      language: language as Block['language'],
      code: code as string,
    })),
  );
}

/** The document with what each block printed now; those without an outcome keep what they have. */
export function withOutcomes(document: string, outcomes: readonly (string | undefined)[]): string {
  let n = 0;
  return document.replace(BLOCK, (whole: string, language: string, code: string) => {
    const outcome = outcomes[n];
    n += 1;
    if (outcome === undefined) return whole;
    return `\`\`\`${language}\n${code}\n\`\`\`\n${outcome === '' ? '' : `\n\`\`\`text\n${outcome}\n\`\`\`\n`}`;
  });
}

function headingOf(section: string): string {
  return section.slice(0, section.indexOf('\n'));
}
