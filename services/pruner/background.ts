/** The pruner's place behind others: it has time, an application has none. For a process of its own only; the command line is waited for. */
import { constants, getPriority, setPriority } from 'node:os';

/** Gives way wherever CPU is short. Where that is not allowed the process stays what it was; where it gives way more already, too. */
export function giveWay(): void {
  try {
    setPriority(Math.max(getPriority(), constants.priority.PRIORITY_BELOW_NORMAL));
  } catch {
    // No harm is done: it is one service as before.
  }
}
