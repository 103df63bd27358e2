/** Runs and their receipts, and the one wish that may be made here: prune now. */
import { attribute, byId, cell, each, facts, h, text, texts } from './dom.js';
import { count, duration, plural, since, stamp } from './format.js';
import { nextRun } from './pipeline.js';

/** Older ones are shown when they are asked for. */
const FIRST_RUNS = 10;
const TRIGGERS = { schedule: 'schedule', request: 'request', command: 'command' };

export class Pruning {
  #session;
  #last;
  #runs = [];
  #most = FIRST_RUNS;
  #open = new Set();
  #busy = false;
  #enabled = false;

  constructor(session) {
    this.#session = session;
    byId('wish-table').append(...session.tables.map((table) => h('option', { value: table }, table)));
    byId('wish-dry').addEventListener('click', () => this.#wish(true));
    byId('wish-prune').addEventListener('click', () => this.#confirm());
    byId('runs-more').addEventListener('click', () => {
      const next = byId('run-rows').children[this.#most];
      this.#most = Infinity;
      this.#showRuns();
      (next ?? byId('run-rows').lastElementChild).querySelector('button')?.focus();
    });
    byId('confirm').addEventListener('close', () => {
      if (byId('confirm').returnValue === 'yes') void this.#wish(false);
      byId('wish-prune').focus();
    });
  }

  show({ prune, at }) {
    const now = Date.parse(at);
    this.#enabled = prune.enabled;
    facts(byId('prune-facts'), [
      [
        'State',
        prune.paused ?? (prune.enabled ? (prune.dryRun ? 'dry runs by schedule' : 'by schedule') : 'off (prune.enabled: false)'),
        prune.enabled && !prune.paused ? 'well' : 'idle',
      ],
      ['Schedule', `${prune.schedule} UTC`],
      ['Next run', prune.nextRun === null ? nextRun(prune, now) : `${stamp(prune.nextRun)}, ${nextRun(prune, now)}`],
      ['Retention', duration(prune.retentionMs / 1000)],
    ]);
    this.#busy = prune.wish !== null && prune.wish.endedAt === null;
    byId('wish-dry').disabled = this.#busy;
    byId('wish-prune').disabled = this.#busy || !prune.enabled;
    this.#showWish(prune.wish, prune.running, now);
    void this.#follow(prune.last?.run);
  }

  #showWish(wish, running, now) {
    const place = byId('wish-state');
    const bad = wish !== null && wish.problems.length > 0;
    attribute(place, 'data-state', bad ? 'bad' : null);
    if (running !== null) return text(place, `A run is deleting: ${plural(running.deleted, 'row')} in ${duration(since(running.since, now))}.`);
    if (wish === null) return text(place, this.#enabled ? '' : 'Pruning is off. A dry run chooses, proves and compares, and deletes nothing.');
    const what = `${wish.dryRun ? 'Dry run' : 'Prune'} of ${wish.table ?? 'all tables'}, asked for at ${stamp(wish.at).slice(11)} UTC`;
    if (wish.endedAt === null) return text(place, `${what}: the pruner is at work.`);
    const done = wish.deleted === null ? '' : ` ${plural(wish.deleted, 'row')} ${wish.dryRun ? 'would be deleted' : 'deleted'}, ${count(wish.left)} left.`;
    text(place, `${what}:${done} ${wish.problems.join(' · ')}`.trim());
  }

  #confirm() {
    const table = byId('wish-table').value;
    text(
      byId('confirm-text'),
      `Rows of ${table || 'all tables'} that are older than the retention and proved to be archived are deleted from ${this.#session.source}. What is not proved stays.`,
    );
    byId('confirm').returnValue = '';
    byId('confirm').showModal();
  }

  async #wish(dryRun) {
    const table = byId('wish-table').value;
    byId('wish-dry').disabled = byId('wish-prune').disabled = true;
    try {
      const wish = table === '' ? { dryRun } : { table, dryRun };
      let response = await this.#send(wish);
      if (response.status === 403) {
        // The console was started again since: its page gets a new token.
        const { wishToken } = await (await fetch('api/session')).json();
        this.#session = { ...this.#session, wishToken };
        response = await this.#send(wish);
      }
      if (!response.ok) this.#refused((await response.json()).problem);
    } catch {
      this.#refused('The console did not answer.');
    }
  }

  #send(wish) {
    const headers = { 'content-type': 'application/json', 'x-tidemark-wish': this.#session.wishToken };
    return fetch('api/prune', { method: 'POST', headers, body: JSON.stringify(wish) });
  }

  #refused(reason) {
    attribute(byId('wish-state'), 'data-state', 'bad');
    text(byId('wish-state'), reason);
    byId('wish-dry').disabled = false;
    byId('wish-prune').disabled = !this.#enabled;
  }

  async #follow(run) {
    if (run === undefined || run === this.#last) return;
    const before = this.#last;
    this.#last = run;
    try {
      this.#runs = (await (await fetch('api/runs')).json()).runs;
      this.#showRuns();
    } catch {
      this.#last = before; // asked again with the next picture
    }
  }

  #showRuns() {
    const shown = this.#runs.slice(0, this.#most);
    byId('runs').hidden = shown.length === 0;
    byId('runs-none').hidden = shown.length > 0;
    byId('runs-more').hidden = this.#runs.length <= shown.length;
    each(
      byId('run-rows'),
      shown.flatMap((one) => (this.#open.has(one.run) ? [one, { receipt: one }] : [one])),
      ({ run, receipt }) => run ?? `${receipt.run} receipt`,
      (one) => (one.receipt === undefined ? this.#row(one) : receiptRow(one.receipt)),
      (element, one) => one.receipt === undefined && fillRun(element, one, this.#open.has(one.run)),
    );
  }

  #row({ run, finishedAt }) {
    const button = h('button', { type: 'button', class: 'disclose', 'aria-expanded': 'false' }, stamp(finishedAt));
    button.addEventListener('click', () => {
      if (!this.#open.delete(run)) this.#open.add(run);
      this.#showRuns();
    });
    const numbers = ['Nominated', 'Deleted', 'Left', 'Took'].map((label) => cell(label, true));
    return h('tr', { role: 'row' }, h('th', { role: 'rowheader', scope: 'row' }, button), cell('Asked by'), ...numbers, cell('Outcome'));
  }
}

const leftOf = ({ left }) => Object.values(left).reduce((a, b) => a + b, 0);
const troubled = ({ problem }) => problem !== null && problem !== 'prune: false';

/** `3 tables: why`, the tables by name where it is one. */
function together(bad) {
  const problems = new Map();
  for (const { table, problem } of bad) problems.set(problem, [...(problems.get(problem) ?? []), table]);
  return [...problems].map(([problem, tables]) => `${tables.length === 1 ? tables[0] : `${tables.length} tables`}: ${problem}`).join(' · ');
}

function fillRun(row, run, open) {
  const { tables } = run;
  const sum = (value) => tables.reduce((total, table) => total + value(table), 0);
  const bad = tables.filter(troubled);
  const outcome = run.problem ?? (bad.length === 0 ? (run.dryRun ? 'dry run' : 'done') : together(bad));
  const values = [
    TRIGGERS[run.trigger] ?? '–',
    count(sum(({ nominated }) => nominated)),
    run.dryRun ? `(${count(sum(({ deleted }) => deleted))})` : count(sum(({ deleted }) => deleted)),
    count(sum(leftOf)),
    duration((Date.parse(run.finishedAt) - Date.parse(run.at)) / 1000),
    outcome,
  ];
  texts([...row.children].slice(1), values);
  row.lastElementChild.className = run.problem || bad.length > 0 ? 'bad' : 'why';
  attribute(row.querySelector('button'), 'aria-expanded', String(open));
}

/** The receipt of a run: what became of each table. */
function receiptRow(run) {
  const head = ['Table', 'Nominated', 'Deleted', 'Batches', 'Left, and why'];
  const rows = run.tables.map((table) => {
    const reasons = Object.entries(table.left).map(([reason, rows_]) => `${count(rows_)} ${reason}`);
    const why = [...(table.problem === null ? [] : [table.problem]), ...reasons].join(' · ');
    const numbers = [table.nominated, table.deleted, table.batches].map((value, i) => {
      const place = cell(head[i + 1], true);
      place.textContent = count(value);
      return place;
    });
    const last = cell(head[4]);
    last.textContent = why || 'nothing';
    last.className = troubled(table) ? 'bad' : 'why';
    return h('tr', { role: 'row' }, h('th', { role: 'rowheader', scope: 'row' }, table.table), ...numbers, last);
  });
  const heads = head.map((name, i) => h('th', { role: 'columnheader', scope: 'col', class: i > 0 && i < 4 ? 'n' : null }, name));
  const table = h(
    'table',
    { class: 'grid stack', role: 'table', 'aria-label': `Receipt of run ${run.run}` },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, ...heads)),
    h('tbody', { role: 'rowgroup' }, ...rows),
  );
  return h(
    'tr',
    { role: 'row', class: 'receipt' },
    h('td', { role: 'cell', colspan: '7' }, h('p', { class: 'hint' }, `Run ${run.run}${run.dryRun ? ': a dry run, nothing was deleted' : ''}`), table),
  );
}
