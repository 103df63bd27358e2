/** The settings a source's stream must have: nothing may go out of it by itself, neither by age nor by number, and a full stream refuses the new, not the old. */
import { DiscardPolicy, RetentionPolicy, StorageType, type StreamConfig } from 'nats';
import type { Config } from '../runtime/config.js';
import { streamName, walSubject } from './names.js';

/** What the stream is made with. */
export function wantedSettings(config: Config): Partial<StreamConfig> & { name: string } {
  return {
    name: streamName(config.source.name),
    subjects: [walSubject(config.source.name)],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.New,
    max_age: 0,
    max_msgs: -1,
    max_msg_size: -1,
    max_bytes: config.stream.replay.bytes,
    deny_delete: true,
    deny_purge: false,
    duplicate_window: 1_000_000_000,
  };
}

/** The settings that differ from ours in a way that may lose chunks: `name: seen, must be wanted`. Pure. */
export function settingProblems(found: StreamConfig, config: Config): string[] {
  const want = wantedSettings(config);
  const problems: string[] = [];
  const must = (name: string, seen: unknown, needed: unknown): void => {
    if (seen !== needed) problems.push(`${name} is ${JSON.stringify(seen)}, must be ${JSON.stringify(needed)}`);
  };
  must('subjects', found.subjects.join(), want.subjects?.join());
  must('storage', found.storage, StorageType.File);
  must('retention', found.retention, RetentionPolicy.Limits);
  must('discard', found.discard, DiscardPolicy.New);
  must('max_age', found.max_age, 0);
  must('max_msgs', found.max_msgs > 0, false);
  must('max_msg_size', (found.max_msg_size ?? -1) > 0, false);
  must('max_msgs_per_subject', (found.max_msgs_per_subject ?? -1) > 0, false);
  must('deny_delete', found.deny_delete, true);
  must('no_ack', found.no_ack ?? false, false);
  must('mirror', found.mirror !== undefined, false);
  return problems;
}
