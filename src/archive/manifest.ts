/**
 * Following the archive's state, and writing it. A manifest is created by link, never renamed over: of two writers one meets the other's file and stops.
 * Must never hand out a state whose name in the manifest folder may still vanish in a power cut.
 */
import { randomUUID } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { sameEpoch } from '../position/epoch.js';
import { parseLsn } from '../position/lsn.js';
import { parsePosition } from '../position/position.js';
import { Halt } from '../runtime/errors.js';
import { faultPoint } from '../runtime/fault-point.js';
import {
  type ArchiveState,
  applyDelta,
  brokenChain,
  CHECKPOINT_EVERY,
  encodeManifest,
  fold,
  isCheckpoint,
  nextState,
  positionGoesBack,
  readManifest,
  sha256,
  stateOfCheckpoint,
} from './chain.js';
import { openIdentity, VolumeAnchor, wrongVolume } from './identity.js';
import { archivePaths, manifestName, manifestNumber } from './layout.js';
import { type ArchiveIdentity, type FileEntry, FORMAT_VERSION, type Manifest } from './manifest-format.js';
import { mayBeThere, putIfAbsent, storageError, syncFolder } from './put.js';

export type { ArchiveState } from './chain.js';
export { createArchive, openIdentity, readKey } from './identity.js';

/** Reads the newest state, and again only what is new. Any number of them may follow one archive, on a read-only mount too. */
export class ArchiveFollower {
  readonly #dir: string;
  readonly #manifests: string;
  #state: ArchiveState | undefined;
  #anchor: VolumeAnchor | undefined;

  constructor(dir: string) {
    this.#dir = dir;
    this.#manifests = archivePaths(dir).manifests;
  }

  /** The newest state, durable; undefined before the first manifest. Halts: MANIFEST for a break, a gap or a newer format, WRONG_VOLUME. */
  async refresh(): Promise<ArchiveState | undefined> {
    const known = this.#state;
    if (this.#anchor === undefined) {
      const identity = await openIdentity(this.#dir);
      if (identity === undefined) return undefined;
      this.#anchor = await VolumeAnchor.at(this.#dir, identity);
    } else await this.#anchor.check();
    let state = known === undefined ? await this.#openNewest() : known;
    if (known !== undefined && (await this.#missing(known.number))) throw brokenChain(this.#manifests, known.number, 'it was there and is gone');
    if (state !== undefined) state = await this.#advance(state);
    if (state !== undefined && state !== known) {
      const identity = await openIdentity(this.#dir);
      if (identity?.archive !== state.archive) throw wrongVolume(this.#dir, `the manifests belong to archive ${state.archive}, archive.json does not`);
      await syncFolder(this.#manifests);
    }
    this.#state = state;
    return state;
  }

  /** Reads from the newest checkpoint on. */
  async #openNewest(): Promise<ArchiveState | undefined> {
    const numbers = (await readdir(this.#manifests)).map(manifestNumber).filter((number) => number !== undefined);
    const highest = numbers.reduce((most, number) => Math.max(most, number), 0);
    if (highest === 0) return undefined;
    const start = Math.max(1, highest - (highest % CHECKPOINT_EVERY));
    const first = await readManifest(this.#manifests, start);
    if (first === undefined) throw brokenChain(this.#manifests, start, `it is missing, but there is a manifest ${highest}`);
    let state = stateOfCheckpoint(this.#manifests, first.manifest, first.hash);
    for (let number = start + 1; number <= highest; number += 1) {
      const found = await readManifest(this.#manifests, number);
      if (found === undefined) throw brokenChain(this.#manifests, number, `it is missing, but there is a manifest ${highest}`);
      state = nextState(this.#manifests, state, found.manifest, found.hash);
    }
    return state;
  }

  async #advance(from: ArchiveState): Promise<ArchiveState> {
    let state = from;
    for (;;) {
      const found = await readManifest(this.#manifests, state.number + 1);
      if (found !== undefined) state = nextState(this.#manifests, state, found.manifest, found.hash);
      else if ((await this.#missing(state.number + 2)) || !(await this.#missing(state.number + 1))) {
        if (await this.#missing(state.number + 1)) return state;
      } else throw brokenChain(this.#manifests, state.number + 1, `it is missing, but there is a manifest ${state.number + 2}`);
    }
  }

  async #missing(number: number): Promise<boolean> {
    return await stat(path.join(this.#manifests, manifestName(number))).then(
      () => false,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return true;
        throw error;
      },
    );
  }
}

/** Files that manifests up to `state` dropped within the last `withinMs` and that are not live, oldest first. */
export async function droppedLately(dir: string, state: ArchiveState, withinMs: number): Promise<{ readonly file: string; readonly at: number }[]> {
  const dropped: { file: string; at: number }[] = [];
  const folder = archivePaths(dir).manifests;
  for (let number = state.number; number > 0; number -= 1) {
    const found = await readManifest(folder, number);
    const at = Date.parse(found?.manifest.writtenAt ?? '');
    if (found === undefined || !(at > Date.now() - withinMs)) break;
    for (const file of found.manifest.drop) if (!state.files.has(file)) dropped.push({ file, at });
  }
  return dropped.reverse();
}

/** What a commit changes; fields that are not given stay as they are. */
export type ManifestChange = { readonly reason: Manifest['reason'] } & Partial<
  Pick<Manifest, 'epoch' | 'forked' | 'position' | 'committedAt' | 'fences' | 'copy' | 'recopy' | 'tables' | 'streamHint' | 'add' | 'drop'>
>;

const FENCES_KEPT = 32;

/** A manifest that was linked, and the file that it is. */
type Linked = { readonly state: ArchiveState; readonly inode: bigint };

/** The one writer of an archive, from its claim until another one claims. */
export class ManifestWriter {
  readonly #dir: string;
  readonly #anchor: VolumeAnchor;
  readonly #writer: Manifest['writer'];
  #state: ArchiveState;
  /** Inode of the newest manifest. */
  #newest: bigint;
  #failed = false;

  private constructor(dir: string, anchor: VolumeAnchor, writer: Manifest['writer'], { state, inode }: Linked) {
    this.#dir = dir;
    this.#anchor = anchor;
    this.#writer = writer;
    this.#state = state;
    this.#newest = inode;
  }

  /** Links a manifest that changes nothing but names this incarnation. Only then may its caller sweep, flush, merge or seal. */
  static async claim(dir: string, source: string): Promise<ManifestWriter> {
    const identity = await openIdentity(dir);
    if (identity === undefined) throw wrongVolume(dir, `${archivePaths(dir).identity} is missing`);
    if (identity.source !== source) throw wrongVolume(dir, `the archive belongs to source ${identity.source}, not ${source}`);
    const anchor = await VolumeAnchor.at(dir, identity);
    const follower = new ArchiveFollower(dir);
    const incarnation = randomUUID();
    for (;;) {
      const before = (await follower.refresh()) ?? emptyState(identity);
      const writer = { incarnation, claim: before.number + 1, pid: process.pid };
      const claimed = await put(dir, compose(before, { reason: 'claim' }, writer));
      if (claimed !== undefined) return new ManifestWriter(dir, anchor, writer, claimed);
    }
  }

  get state(): ArchiveState {
    return this.#state;
  }

  /** Number of this writer's claim: part of the name of every file it makes. */
  get claim(): number {
    return this.#writer.claim;
  }

  /**
   * Throws Halt SUPERSEDED when another writer has claimed the archive since, MANIFEST when a person went back behind this one (tidemark repair --manifest), `transient` when the
   * volume does not say. Behind the newest may stand what this writer has linked itself: a commit that came between, or one that failed after its link.
   */
  async requireNewest(): Promise<void> {
    await this.#requireOurs();
    const folder = archivePaths(this.#dir).manifests;
    for (let number = this.#state.number + 1; ; number += 1) {
      const found = await readManifest(folder, number);
      if (found === undefined) return;
      if (found.manifest.writer.incarnation !== this.#writer.incarnation) throw superseded(this.#dir, number);
    }
  }

  /** The newest manifest is the very file that was linked: behind one that was moved away others may have taken its number, and files that it dropped may be live again. */
  async #requireOurs(): Promise<void> {
    const [{ number }, inode] = [this.#state, this.#newest];
    const folder = archivePaths(this.#dir).manifests;
    const found = await stat(path.join(folder, manifestName(number)), { bigint: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw storageError(error);
    });
    if (found?.ino !== inode) throw brokenChain(folder, number, found === undefined ? 'it was there and is gone' : 'another one has taken its place');
  }

  /**
   * Commits, durable when it resolves. Halt SUPERSEDED when another writer has claimed, MANIFEST when our newest is gone, WRONG_VOLUME; `transient` for a full, read-only or failing
   * volume: after these nothing of `change` is in the archive. After any other error it may be: this writer takes nothing more, and its successor reads what is there.
   */
  async commit(change: ManifestChange): Promise<ArchiveState> {
    if (this.#failed) throw new Error('this writer failed in the middle of a commit: claim again');
    await this.#anchor.check();
    await this.#requireOurs();
    const next = compose(this.#state, change, this.#writer);
    this.#failed = true;
    try {
      const linked = await put(this.#dir, next);
      if (linked === undefined) throw await this.#taken(next.manifest.number);
      [this.#state, this.#newest] = [linked.state, linked.inode];
      this.#failed = false;
      return linked.state;
    } catch (error) {
      if ((error as { kind?: string }).kind === 'transient') this.#failed = false;
      throw error;
    }
  }

  /** Why the name of our next manifest is not free. Our own: the answer to its link was lost, and the link was sent again. */
  async #taken(number: number): Promise<unknown> {
    const folder = archivePaths(this.#dir).manifests;
    try {
      const found = await readManifest(folder, number);
      if (found !== undefined && found.manifest.writer.incarnation !== this.#writer.incarnation) return superseded(this.#dir, number);
      return mayBeThere(path.join(folder, manifestName(number)), 'its name was taken', new Error(found === undefined ? 'by what is gone' : 'by itself'));
    } catch (error) {
      return error instanceof Halt ? error : mayBeThere(path.join(folder, manifestName(number)), 'its name was taken', error);
    }
  }
}

function emptyState(identity: ArchiveIdentity): ArchiveState {
  return {
    formatVersion: FORMAT_VERSION,
    number: 0,
    hash: '',
    archive: identity.archive,
    writer: { incarnation: '', claim: 0, pid: 0 },
    writtenAt: identity.createdAt,
    reason: 'claim',
    epoch: null,
    position: null,
    committedAt: null,
    fences: [],
    copy: null,
    recopy: null,
    tables: [],
    streamHint: null,
    files: new Map(),
  };
}

/** The manifest that `change` makes of `before`. Throws when it contradicts itself or what was there. */
function compose(before: ArchiveState, change: ManifestChange, writer: Manifest['writer']): { manifest: Manifest; files: ReadonlyMap<string, FileEntry> } {
  const number = before.number + 1;
  const delta = { add: change.add ?? [], drop: change.drop ?? [] };
  const files = applyDelta(before.files, delta);
  if (typeof files === 'string') throw new Error(`manifest ${number} refused: ${files}`);
  const manifest: Manifest = {
    formatVersion: FORMAT_VERSION,
    number,
    previous: before.number === 0 ? null : before.hash,
    archive: before.archive,
    writer,
    writtenAt: new Date().toISOString(),
    reason: change.reason,
    epoch: change.epoch === undefined ? before.epoch : change.epoch,
    ...((change.forked ?? before.forked) ? { forked: change.forked ?? before.forked } : {}),
    position: change.position === undefined ? before.position : change.position,
    committedAt: change.committedAt === undefined ? before.committedAt : change.committedAt,
    fences: (change.fences ?? before.fences).slice(-FENCES_KEPT),
    copy: change.copy === undefined ? before.copy : change.copy,
    recopy: change.recopy === undefined ? before.recopy : change.recopy,
    tables: change.tables ?? before.tables,
    streamHint: change.streamHint === undefined ? before.streamHint : change.streamHint,
    ...delta,
    files: isCheckpoint(number) ? [...files.values()] : null,
  };
  if (change.reason === 'resync') return { manifest, files };
  if (positionGoesBack(before.position, manifest.position))
    throw new Error(`manifest ${number} refused: W would go from ${before.position} to ${manifest.position}`);
  if (
    before.position !== null &&
    before.epoch !== null &&
    (manifest.epoch === null || !(sameEpoch(before.epoch, manifest.epoch) || isFork(before, manifest)))
  ) {
    throw new Error(`manifest ${number} refused: the epoch of an archive with a position cannot change`);
  }
  return { manifest, files };
}

/** The same slot of the same server on a later timeline, which left the one before behind everything archived (law 11). */
function isFork({ epoch: from, position }: ArchiveState, { epoch: to, forked }: Manifest): boolean {
  if (from === null || to === null || position === null || forked === undefined || !sameEpoch(forked.from, from)) return false;
  if (to.systemId !== from.systemId || to.generation !== from.generation || to.timeline <= from.timeline) return false;
  return parsePosition(position).lsn <= parseLsn(forked.at);
}

/** Links a manifest, durable when it resolves. Undefined: its number is taken. */
async function put(dir: string, { manifest, files }: ReturnType<typeof compose>): Promise<Linked | undefined> {
  const paths = archivePaths(dir);
  const bytes = encodeManifest(manifest);
  const file = path.join(paths.manifests, manifestName(manifest.number));
  if (!(await putIfAbsent(file, bytes, { temporary: paths.temporary, linked: () => faultPoint('A8') }))) return undefined;
  const { ino } = await stat(file, { bigint: true }).catch((error: unknown) => {
    throw mayBeThere(file, 'it could not be looked at', error);
  });
  return { state: fold(manifest, sha256(bytes), files), inode: ino };
}

function superseded(dir: string, number: number): Halt {
  return new Halt('SUPERSEDED', {
    seen: `another archiver has written manifest ${number} in ${dir}.`,
    safe: 'This one has committed nothing since; its unfinished files are swept by the other.',
    remedy: 'run one archiver per archive folder; stop one of the two',
  });
}
