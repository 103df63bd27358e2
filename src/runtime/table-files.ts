/** Which tables may lie in one folder: none may share a file with another, nor have files that look like the other's. Pure. */

/** Where a table's files lie and how they begin, as a file system sees it that does not tell cases or forms of Unicode apart. */
export function placeOfFiles(group: string, table: string): string {
  return `${group}/${table}`.normalize('NFC').toLowerCase();
}

/** `same`: they would share files. `alike`: the pattern that finds the files of the one finds those of the other, as with `prices` and `prices_undated`. */
export function clash(place: string, other: string): 'same' | 'alike' | undefined {
  if (place === other) return 'same';
  return looksLike(place, other) || looksLike(other, place) ? 'alike' : undefined;
}

function looksLike(place: string, other: string): boolean {
  return place.startsWith(`${other}_`) && /^(undated|keys|\d{4}-\d{2}-\d{2})/.test(place.slice(other.length + 1));
}
