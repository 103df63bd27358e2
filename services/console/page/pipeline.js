/** The stages from the WAL to the prune, each with how far it is behind; and the verdict in one sentence. */
import { attribute, byId, each, facts, h, text } from './dom.js';
import { bytes, bytesParts, count, duration, plural, rate, since } from './format.js';

const perSecond = (value) => (value === null || value === undefined ? '–' : `${bytes(value)}/s`);
const known = (part) => (part === null || part === undefined || 'problem' in part ? undefined : part);

/** name, state, [reading, unit], facts. */
function stages({ status, sample, archive, prune, at }) {
  const now = Date.parse(at);
  const postgres = known(status.postgres);
  const stream = known(status.stream);
  const manifest = known(status.archive);
  const { slot } = status;
  const waiting = sample.archivedBytes === null || sample.publishedBytes === null ? null : Math.max(0, sample.archivedBytes - sample.publishedBytes);
  const state = (well, bad = false) => (bad ? 'bad' : well ? 'well' : 'idle');
  const covering = manifest?.fence != null;
  return [
    [
      'WAL',
      state(postgres, !postgres),
      bytesParts(sample.walRate),
      '/s written',
      [
        ['at', postgres?.insertLsn ?? '–'],
        ['held', bytes(slot?.heldBytes)],
        ['timeline', String(postgres?.timeline ?? '–')],
      ],
    ],
    [
      'Capture',
      state(slot?.active, Boolean(postgres && slot && !slot.active)),
      bytesParts(sample.publishedBytes),
      ' behind',
      [
        ['for', duration(sample.publishedSeconds)],
        ['sender', slot === null ? 'no slot' : slot.active ? 'connected' : 'not connected'],
      ],
    ],
    [
      'Stream',
      state(stream, !stream && postgres !== undefined),
      bytesParts(waiting),
      ' waiting',
      [
        ['holds', bytes(stream?.bytes)],
        ['messages', count(stream?.messages)],
        ['tail', stream?.tail ?? '–'],
      ],
    ],
    [
      'Archiver',
      state(manifest?.position),
      bytesParts(sample.archivedBytes),
      ' behind',
      [
        ['for', duration(sample.archivedSeconds)],
        ['rate', perSecond(sample.archiveRate)],
        ['at', manifest?.position?.replace(/:0$/, '') ?? '–'],
      ],
    ],
    [
      'Segments',
      state(archive !== null && archive.files > 0),
      bytesParts(archive?.bytes),
      '',
      [
        ['rows', `${rate(sample.rowRate)}/s`],
        ['open', plural(archive?.segments ?? 0, 'segment')],
        ['manifest', archive ? `${count(manifest?.manifest)}, ${duration(since(archive.writtenAt, now))} old` : '–'],
      ],
    ],
    [
      'Coverage',
      state(covering),
      bytesParts(sample.coveredBytes),
      ' behind',
      [
        ['for', sample.coveredSeconds === null && covering ? 'not known' : duration(sample.coveredSeconds)],
        ['fence', manifest?.fence ?? '–'],
      ],
    ],
    [
      'Prune',
      state(prune.enabled && !prune.paused, Boolean(prune.last?.problem)),
      prune.running ? [count(prune.running.deleted), ''] : [count(prune.last?.deleted), ''],
      prune.running ? ' rows, running' : ' rows last',
      [
        ['rate', `${rate(sample.pruneRate)}/s`],
        ['last', prune.last ? `${duration(since(prune.last.finishedAt, now))} ago` : 'never'],
        ['next', nextRun(prune, now)],
      ],
    ],
  ];
}

export function nextRun(prune, now) {
  if (!prune.enabled) return 'off';
  if (prune.paused) return 'paused';
  return prune.nextRun === null ? '–' : `in ${duration(Math.max(0, (Date.parse(prune.nextRun) - now) / 1000))}`;
}

export function showPipeline(picture) {
  each(
    byId('stages'),
    stages(picture),
    ([name]) => name,
    ([name]) => h('li', {}, h('h3', {}, name), h('p', { class: 'reading' }, h('span'), h('span', { class: 'unit' })), h('dl')),
    (item, [, state, [reading, unit], what, more]) => {
      attribute(item, 'data-state', state);
      const [value, after] = item.querySelector('.reading').children;
      text(value, reading);
      text(after, `\u202f${unit}${what}`);
      facts(item.lastElementChild, more);
    },
  );
  showVerdict(picture);
}

function showVerdict({ status, sample, halts, prune }) {
  const verdict = byId('verdict');
  const strong = (value) => h('strong', {}, value);
  const parts = verdictParts({ status, sample, halts, prune }).map((part) => (Array.isArray(part) ? strong(part[0]) : part));
  const said = parts.map((part) => part.textContent ?? part).join('');
  if (verdict.dataset.said === said) return;
  verdict.dataset.said = said;
  verdict.replaceChildren(...parts);
}

/** Changes in words only when the state does: a screen reader hears it. */
function verdictParts({ status, halts, prune }) {
  if (halts.length > 0) return [[`${halts.length === 1 ? 'One halt needs' : `${halts.length} halts need`} a person.`], ' Nothing that is archived is touched.'];
  if ('problem' in status.postgres) return [['The database cannot be asked.'], ' What is archived stays; the slot waits for it.'];
  if ('problem' in status.archive) return [['Nothing is archived yet.'], ` ${sentence(status.archive.problem)}`];
  if (status.archive.position === null) return [['The first copy of the tables is on its way.'], ' Nothing is pruned before it is complete.'];
  if ('problem' in status.stream) return [['The stream cannot be asked.'], ' Losing it loses nothing: the slot holds what is not archived.'];
  if (status.slot !== null && !status.slot.active) return [['Capture is not connected.'], ' The slot holds the WAL that is not archived.'];
  const seconds = status.lag.archivedSeconds;
  const pruning = prune.paused ? `Pruning is ${prune.paused}.` : prune.enabled ? 'Pruning by schedule.' : 'Pruning is off.';
  if (seconds !== null && seconds > 300) return [[`Archiving lags by ${duration(seconds)}.`], ` ${pruning}`];
  return [['Archiving keeps up.'], ` ${pruning}`];
}

function sentence(words) {
  const first = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
