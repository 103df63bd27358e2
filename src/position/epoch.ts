/** Coverage holds only inside the epoch that earned it: which server, which of its histories, which slot. */
export type Epoch = {
  /** pg_control_system().system_identifier, decimal text. */
  readonly systemId: string;
  /** Timeline of the WAL insert position (not of the last checkpoint: that one is stale after a promotion). */
  readonly timeline: number;
  /** Random UUID given when the slot was created. */
  readonly generation: string;
};

export function formatEpoch(epoch: Epoch): string {
  return `${epoch.systemId}/${epoch.timeline}/${epoch.generation}`;
}

/** Reads what formatEpoch wrote. Throws SyntaxError on anything else. */
export function parseEpoch(text: string): Epoch {
  const match = /^(\d+)\/(\d+)\/([0-9a-f-]{36})$/.exec(text);
  if (!match) throw new SyntaxError(`not an epoch: ${JSON.stringify(text)}`);
  return { systemId: match[1] as string, timeline: Number(match[2]), generation: match[3] as string };
}

export function sameEpoch(a: Epoch, b: Epoch): boolean {
  return a.systemId === b.systemId && a.timeline === b.timeline && a.generation === b.generation;
}
