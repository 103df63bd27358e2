/** Beside the plots: how deep each position lies behind the source, the slot and its forecast, the services; and above all, the halts. */
import { attribute, byId, each, facts, h, text } from './dom.js';
import { bytes, count, duration, since, stamp } from './format.js';

/** 0 → 0, 1 TB → 1, by the logarithm; the quarters are 1 KB, 1 MB and 1 GB. */
function depth(value) {
  if (value === null || value === undefined || value <= 0) return 0;
  return Math.min(1, Math.max(0.01, Math.log2(value + 1) / 40));
}

export function showDepths({ status, sample }) {
  const { slot } = status;
  const bound = slot?.safeWalBytes == null ? null : slot.heldBytes + Math.max(0, slot.safeWalBytes);
  const lines = [
    ['Published', sample.publishedBytes],
    ['Archived', sample.archivedBytes],
    ['Covered', sample.coveredBytes],
    ['Confirmed', sample.confirmedBytes],
    ['WAL held', sample.heldBytes, bound],
  ];
  each(
    byId('depths'),
    lines,
    ([name]) => name,
    ([name]) =>
      h(
        'div',
        {},
        h('dt', {}, name),
        h('dd', {}, h('span', { class: name === 'Archived' ? 'gauge main' : 'gauge', 'aria-hidden': 'true' }, h('b'), h('i')), h('span', { class: 'value' })),
      ),
    (row, [, value, most]) => {
      const gauge = row.querySelector('.gauge');
      gauge.style.setProperty('--depth', depth(value).toFixed(4));
      gauge.style.setProperty('--bound', depth(most ?? 0).toFixed(4));
      gauge.lastElementChild.hidden = most === null || most === undefined;
      text(row.querySelector('.value'), bytes(value));
    },
  );
}

export function showSlot({ status, lostInSeconds, sample }) {
  const { slot, postgres } = status;
  const forecast = byId('forecast');
  if (slot === null) {
    facts(byId('slot-facts'), [['State', 'problem' in postgres ? 'not known: the database cannot be asked' : 'there is none']]);
    text(forecast, 'Without a slot nothing holds WAL back, and nothing is captured.');
    attribute(forecast, 'data-state', 'problem' in postgres ? null : 'bad');
    return;
  }
  facts(byId('slot-facts'), [
    ['State', `${slot.active ? 'connected' : 'not connected'}, ${slot.walStatus ?? 'unknown'}`, slot.active && slot.alarm.level < 2 ? 'well' : 'bad'],
    [
      'WAL held',
      slot.safeWalBytes === null ? bytes(slot.heldBytes) : `${bytes(slot.heldBytes)} of ${bytes(slot.heldBytes + Math.max(0, slot.safeWalBytes))} allowed`,
    ],
    ['Confirmed', slot.confirmedLsn ?? 'nothing yet'],
    ['Catalog xmin', slot.catalogXminAge === null ? '–' : `${count(slot.catalogXminAge)} transactions old`],
  ]);
  attribute(forecast, 'data-state', slot.alarm.level > 0 ? 'bad' : null);
  text(forecast, forecastText(slot, sample.walRate, lostInSeconds));
}

function forecastText(slot, walRate, lostInSeconds) {
  if (slot.alarm.level === 4) return `The slot is lost: ${slot.alarm.seen}.`;
  const alarm = slot.alarm.level > 0 ? `Alarm: ${slot.alarm.seen}. ` : '';
  if (slot.safeWalBytes === null)
    return `${alarm}Nothing bounds it (max_slot_wal_keep_size = −1): it is never lost, but while archiving stands still it can fill the disk of Postgres.`;
  const now = lostInSeconds === null ? 'Nothing is written at the moment' : `At ${bytes(walRate)}/s, if archiving stopped now, in ${duration(lostInSeconds)}`;
  const mean = slot.lostInSeconds === null ? '' : ` At the server’s mean rate, in ${duration(slot.lostInSeconds)}.`;
  return `${alarm}Lost after ${bytes(Math.max(0, slot.safeWalBytes))} more WAL. ${now}.${mean}`;
}

/** How long the volume of the archive and the stream last, as they fill now. */
export function showRoom({ status: { forecast } }) {
  const { archive, stream } = forecast;
  const alarm = archive?.alarm ? `. Alarm: ${archive.alarm.remedy}` : '';
  facts(byId('room-facts'), [
    ['Archive', archive === null ? 'not known' : `${bytes(archive.freeBytes)} of ${bytes(archive.sizeBytes)} free${filling(archive)}${alarm}`],
    ['Stream', stream === null ? 'not known' : `${bytes(stream.limitBytes - stream.bytes)} of ${bytes(stream.limitBytes)} left${filling(stream)}`],
  ]);
}

function filling({ bytesPerDay, fullInSeconds }) {
  if (bytesPerDay === null) return '; growth not known yet';
  return fullInSeconds === null ? '; it does not grow' : `; full in ${duration(fullInSeconds)}`;
}

const STATES = { running: 'running', waiting: 'ended, starts again', halted: 'halted', refused: 'refuses its configuration', stopped: 'stopped' };

export function showServices({ services, at }) {
  byId('services-none').hidden = services !== null;
  const order = ['capture', 'archiver', 'pruner'];
  const list = [...(services ?? [])].sort((a, b) => order.indexOf(a.service) - order.indexOf(b.service));
  facts(
    byId('service-facts'),
    list.map(({ service, state, since: from, restarts }) => {
      const again = restarts === 0 ? '' : `, ${restarts} restart${restarts === 1 ? '' : 's'}`;
      return [service, `${STATES[state]} for ${duration(since(from, Date.parse(at)))}${again}`, state];
    }),
  );
}

/** Made once for each halt, so that it is read out once. */
export function showHalts({ halts, status }) {
  each(
    byId('halts'),
    halts,
    ({ halt, where, seen }) => `${halt} ${where} ${seen}`,
    ({ halt, where, seen, safe, remedy, at }) =>
      h(
        'article',
        { class: 'halt' },
        h('h3', {}, `${halt ?? 'Halted'} `, h('span', {}, `${where}${at === null ? ', seen from outside' : `, since ${stamp(at)} UTC`}`)),
        h(
          'dl',
          {},
          h('dt', {}, 'Seen'),
          h('dd', {}, seen),
          h('dt', {}, 'Safe'),
          h('dd', {}, safe || '–'),
          h('dt', {}, 'Remedy'),
          h('dd', {}, ...commands(remedy)),
        ),
      ),
    () => undefined,
  );
  const problems = ['postgres', 'stream', 'archive'].flatMap((part) => ('problem' in status[part] ? [[NAMES[part], status[part].problem]] : []));
  each(
    byId('problems'),
    problems.filter(([name]) => name !== NAMES.archive || halts.every(({ where }) => where !== 'archive')),
    ([name]) => name,
    () => h('li'),
    (item, [name, problem]) => text(item, `${name}: ${problem}`),
  );
}

const NAMES = { postgres: 'Postgres', stream: 'NATS', archive: 'Archive' };

/** `tidemark resync` in a remedy is set as a command. */
function commands(remedy) {
  return remedy.split('`').map((part, i) => (i % 2 === 1 ? h('code', {}, part) : part));
}
