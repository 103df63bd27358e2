/** The calendar: a line of days for each table, and the days of the chosen one with their rows and sizes. */
import { attribute, byId, each, h, text, texts } from './dom.js';
import { bytes, count } from './format.js';

const STATES = { open: 'open', sealed: 'sealed', late: 'sealed, later rows' };
const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'];

export class Days {
  #data;
  #month;
  #manifest;
  #chosen;
  #day = null;
  #asking = false;

  constructor() {
    byId('month-earlier').addEventListener('click', () => this.#step(1));
    byId('month-later').addEventListener('click', () => this.#step(-1));
    byId('matrix').addEventListener('keydown', (event) => this.#key(event));
    byId('matrix').addEventListener('click', (event) => this.#choose(event.target));
    byId('matrix').addEventListener('focusin', (event) => this.#roam(event.target));
  }

  /** Asks again when there is a newer manifest, or none is known. */
  async follow({ status }) {
    const manifest = status.archive.manifest ?? null;
    if (this.#asking || (manifest !== null && manifest === this.#manifest)) return;
    await this.#load();
  }

  async #load() {
    this.#asking = true;
    try {
      const response = await fetch(`api/days${this.#month === undefined ? '' : `?month=${this.#month}`}`);
      const data = await response.json();
      byId('days-none').hidden = data.problem === undefined;
      byId('days-body').hidden = data.problem !== undefined;
      if (data.problem !== undefined)
        return text(byId('days-none'), data.problem === 'no manifest yet' ? 'Nothing is archived yet: days appear with the first manifest.' : data.problem);
      this.#data = data;
      this.#manifest = data.manifest;
      this.#chosen ??= (data.tables.find(({ days }) => days.length > 0) ?? data.tables[0]).table;
      this.#show();
    } catch {
      // the stream of events says that the console is away
    } finally {
      this.#asking = false;
    }
  }

  async #step(by) {
    const months = this.#data?.months ?? [];
    const next = months[months.indexOf(this.#data.month) + by];
    if (next === undefined) return;
    this.#month = next;
    await this.#load();
  }

  #show() {
    const { month, months, tables } = this.#data;
    const [year, number] = month.split('-').map(Number);
    const length = new Date(Date.UTC(year, number, 0)).getUTCDate();
    text(byId('month'), `${MONTHS[number - 1]} ${year}`);
    const at = months.indexOf(month);
    byId('month-earlier').disabled = at < 0 || at === months.length - 1;
    byId('month-later').disabled = at <= 0;
    const days = Array.from({ length }, (_, i) => `${month}-${String(i + 1).padStart(2, '0')}`);
    const today = new Date().toISOString().slice(0, 10);
    const matrix = byId('matrix');
    matrix.style.setProperty('--days', String(length));
    each(
      matrix,
      [{ table: '' }, ...tables],
      ({ table }) => table,
      ({ table }) => (table === '' ? heads() : line(table)),
      (element, { table, days: known }) => {
        if (table === '') return showHeads(element, days);
        attribute(element, 'data-chosen', table === this.#chosen ? '' : null);
        const found = new Map(known.map((day) => [day.day, day]));
        each(
          element.querySelector('.strip'),
          days,
          (day) => day,
          (day) => h('span', { role: 'gridcell', tabindex: '-1', 'data-day': day }),
          (cell, day) => showCell(cell, table, day, found.get(day), day > today, day === this.#day),
        );
        text(element.querySelector('.sum'), bytes(known.reduce((sum, { bytes: size }) => sum + size, 0)));
      },
    );
    if (matrix.querySelector('[tabindex="0"]') === null) matrix.querySelector('.cell')?.setAttribute('tabindex', '0');
    this.#list();
  }

  /** The days of the chosen table, newest first. */
  #list() {
    const known = this.#data.tables.find(({ table }) => table === this.#chosen)?.days ?? [];
    text(byId('day-title'), this.#chosen);
    each(
      byId('day-rows'),
      known.length === 0 ? [null] : [...known].reverse(),
      (day) => (day === null ? 'none' : (day.day ?? 'undated')),
      (day) =>
        day === null
          ? h('tr', {}, h('td', { colspan: '5', class: 'why' }, 'No day of this month is archived.'))
          : h('tr', {}, h('th', { scope: 'row' }), h('td'), ...[1, 2, 3].map(() => h('td', { class: 'n' }))),
      (row, day) => {
        if (day === null) return;
        attribute(row, 'aria-selected', day.day !== null && day.day === this.#day ? 'true' : null);
        const values = [day.day ?? 'undated', STATES[day.state], count(day.rows), bytes(day.bytes), count(day.segments + day.dailies.length)];
        texts(row.children, values);
      },
    );
  }

  #choose(target) {
    const table = target.closest('.line')?.dataset.key;
    if (!table) return;
    this.#chosen = table;
    this.#day = target.dataset.day ?? null;
    this.#show();
    byId('day-rows').querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }

  /** One cell of the grid is in the order of the tab key: the one that was there last. */
  #roam(target) {
    if (!target.classList.contains('cell')) return;
    for (const cell of byId('matrix').querySelectorAll('.cell[tabindex="0"]')) cell.setAttribute('tabindex', '-1');
    target.setAttribute('tabindex', '0');
  }

  #key(event) {
    const { target, key } = event;
    if (!target.classList.contains('cell')) return;
    const strip = target.parentElement;
    const index = [...strip.children].indexOf(target);
    const lines = [...byId('matrix').querySelectorAll('.strip')].filter((one) => one.querySelector('.cell') !== null);
    const line = lines.indexOf(strip);
    const to = {
      ArrowLeft: () => strip.children[index - 1],
      ArrowRight: () => strip.children[index + 1],
      ArrowUp: () => lines[line - 1]?.children[index],
      ArrowDown: () => lines[line + 1]?.children[index],
      Home: () => strip.firstElementChild,
      End: () => strip.lastElementChild,
    }[key];
    if (to !== undefined) to()?.focus();
    else if (key === 'Enter' || key === ' ') this.#choose(target);
    else return;
    event.preventDefault();
  }
}

function heads() {
  return h(
    'div',
    { class: 'line heads', role: 'row' },
    h('span', { role: 'columnheader' }, h('span', { class: 'hidden' }, 'Table')),
    h('span', { class: 'strip', role: 'presentation' }),
    h('span', { class: 'sum', role: 'columnheader' }, 'size'),
  );
}

function showHeads(element, days) {
  each(
    element.querySelector('.strip'),
    days,
    (day) => day,
    (day) => h('span', { role: 'columnheader', 'aria-label': day }),
    (head, day) => text(head, String(Number(day.slice(8)))),
  );
}

function line(table) {
  return h(
    'div',
    { class: 'line', role: 'row' },
    h('span', { class: 'name', role: 'rowheader' }, h('button', { type: 'button' }, table)),
    h('span', { class: 'strip', role: 'presentation' }),
    h('span', { class: 'sum', role: 'gridcell' }),
  );
}

function showCell(cell, table, day, found, future, chosen) {
  const name = `cell${found === undefined ? (future ? ' future' : '') : ` ${found.state}`}`;
  if (cell.className !== name) cell.className = name;
  attribute(cell, 'data-chosen', chosen ? '' : null);
  const said = found === undefined ? 'nothing archived' : `${STATES[found.state]}, ${count(found.rows)} rows, ${bytes(found.bytes)}`;
  attribute(cell, 'aria-label', `${table} ${day}: ${said}`);
  attribute(cell, 'title', `${day}: ${said}`);
}
