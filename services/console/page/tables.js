/** Per table: what is hot, archived and prunable, and why not. */
import { byId, cell, each, h, texts } from './dom.js';
import { bytes, count } from './format.js';

const LABELS = ['Hot rows', 'Archived', 'Segments', 'Sealed days', 'Size'];

function row(name) {
  return h('tr', { role: 'row' }, h('th', { role: 'rowheader', scope: 'row' }, name), ...LABELS.map((label) => cell(label, true)), cell('Prunable'));
}

function fill(element, values) {
  texts([...element.children].slice(1), values);
}

export function showTables({ status }) {
  const { tables } = status;
  each(
    byId('table-rows'),
    tables,
    ({ table }) => table,
    ({ table }) => row(table),
    (element, { hotRows, archivedRows, segments, sealedDays, bytes: size, prunable, why }) => {
      fill(element, [count(hotRows), count(archivedRows), count(segments), count(sealedDays), bytes(size), prunable ? 'yes' : `no: ${why}`]);
      element.lastElementChild.className = prunable ? '' : 'why';
    },
  );
  const sum = (field) => tables.reduce((total, table) => total + (table[field] ?? 0), 0);
  each(
    byId('table-sum'),
    tables.length > 1 ? ['all'] : [],
    (one) => one,
    () => row('All'),
    (element) => {
      const hot = tables.every(({ hotRows }) => hotRows === null) ? null : sum('hotRows');
      const prunable = tables.filter((table) => table.prunable).length;
      fill(element, [
        count(hot),
        count(sum('archivedRows')),
        count(sum('segments')),
        count(sum('sealedDays')),
        bytes(sum('bytes')),
        `${prunable} of ${tables.length}`,
      ]);
    },
  );
}
