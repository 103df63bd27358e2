/**
 * Builders → durable segments that no manifest names yet. One is encoded while the one before is proved, and both while rows are taken in; of a transaction that fills several, the first are
 * written before its end has come. Owns the order of the steps of a file; naming it in a manifest is the flusher's.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { segmentFile } from '../../src/archive/layout.js';
import type { FileEntry } from '../../src/archive/manifest-format.js';
import { relationSignature } from '../../src/change/relation.js';
import { formatLsn, lsn } from '../../src/position/lsn.js';
import { faultPoint } from '../../src/runtime/fault-point.js';
import type { SegmentBuilder, Spool } from '../../src/segment/builder.js';
import { DurableFile } from '../../src/segment/durable-file.js';
import type { ArchiverContext } from './context.js';

/** What a manifest says of it, but for the copy that its rows may wait for. */
export type WrittenSegment = Omit<FileEntry, 'pendingCopy'>;

/** Spools of more bytes than this are large: of them two wait for their proof at most, for memory; of small ones as many as may, for what they take is mostly waiting for the disk. */
const SMALL_BYTES = 1024 * 1024;
const MOST_PROVING = { large: 2, small: 8 };

/** A segment on its way. */
export type Writing = {
  /** Resolves when it is durable and proved; the spool is gone then. */
  readonly written: Promise<WrittenSegment>;
  /** Nobody will name it: its files go, as soon as it is written. */
  discard(): void;
};

export class SegmentWriter {
  readonly #context: ArchiverContext;
  readonly #pending = new Set<Promise<unknown>>();
  /** The encoder writes one file at a time. */
  #encoding: Promise<unknown> = Promise.resolve();
  /** The last ones that are proved and published, the oldest first. */
  readonly #proving: Promise<unknown>[] = [];

  constructor(context: ArchiverContext) {
    this.#context = context;
  }

  /** Begins to write; `builder` is spent. What fails is heard by who awaits `written`. */
  begin(builder: SegmentBuilder): Writing {
    const written = this.#write(builder);
    this.#keep(written);
    const discard = (): void => {
      const gone = written.then(
        ({ file }) => rm(path.join(this.#context.dir, file), { force: true }),
        () => builder.discard(),
      );
      this.#keep(gone);
    };
    return { written, discard };
  }

  #keep(going: Promise<unknown>): void {
    const ended = going.then(
      () => undefined,
      () => undefined,
    );
    this.#pending.add(ended);
    void ended.then(() => this.#pending.delete(ended));
  }

  /** Resolves when none is, whatever became of them. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  /** Encodes when the one before is encoded and not too many wait for their proof. */
  async #write(builder: SegmentBuilder): Promise<WrittenSegment> {
    const spool = builder.finish();
    const most = spool.bytes > SMALL_BYTES ? MOST_PROVING.large : MOST_PROVING.small;
    const encoding = Promise.all([this.#encoding, ...this.#proving.slice(0, 1 - most)]).then(() => this.#encode(spool));
    const proving = encoding.then((output) => this.#publish(spool, output));
    this.#encoding = encoding.catch(() => undefined);
    this.#proving.push(proving.catch(() => undefined));
    if (this.#proving.length > MOST_PROVING.small) this.#proving.shift();
    const segment = await proving;
    await this.#context.emptyFiles.ensure(spool.shape, this.#group(spool)); // its folder is there now
    return segment;
  }

  async #encode(spool: Spool): Promise<DurableFile> {
    const { temporary, writer, encoder, archive } = this.#context;
    const output = await DurableFile.create(path.join(temporary, `segment-${writer.claim}-${this.#context.nextCounter()}.parquet`));
    try {
      const writing = encoder.encode(spool, output.temporary, archive, () => output.renew());
      faultPoint('A2');
      await writing;
    } catch (error) {
      await output.abandon();
      throw error;
    }
    return output;
  }

  #group({ shape: { relation } }: Spool): string {
    return this.#context.config.tables.find((one) => one.schema === relation.schema && one.table === relation.table)?.group ?? relation.table;
  }

  async #publish(spool: Spool, output: DurableFile): Promise<WrittenSegment> {
    const { dir, writer, verifier } = this.#context;
    const { relation, kind, day, description } = spool.shape;
    const signature = relationSignature(relation, description?.dimensions);
    const place = { group: this.#group(spool), table: relation.table, day, kind, claim: writer.claim, counter: this.#context.nextCounter() };
    const file = segmentFile(place);
    const published = await output.publish(path.join(dir, file), (temporary) =>
      verifier.verify(temporary, { rows: spool.rows, digestSum: spool.digestSum, signature }),
    );
    await rm(spool.file, { force: true });
    return {
      file,
      kind,
      oid: relation.oid,
      schema: relation.schema,
      table: relation.table,
      day,
      rows: spool.rows,
      bytes: published.bytes,
      sha256: published.sha256,
      signature,
      digestSum: spool.digestSum,
      minTimestamp: spool.minTimestamp,
      maxTimestamp: spool.maxTimestamp,
      minLsn: formatLsn(lsn(spool.minLsn)),
      maxLsn: formatLsn(lsn(spool.maxLsn)),
    };
  }
}
