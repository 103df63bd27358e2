/** Rates and lag over time. Owns the samples that the page keeps; the charts are uPlot's. */

import { h, text, texts } from './dom.js';
import { bytes, clock, duration, durationMarks, durationTop, rate, rateMarks } from './format.js';
import uPlot from './vendor/uplot.js';

const MOST = 1800;
/** Between samples that lie further apart nobody looked: the line is broken. */
const GAP_MS = 10_000;
const HEIGHT = 208;

const perSecond = (value) => (value === null || value === undefined ? '–' : `${bytes(value)}/s`);

/** At most three lines: the accent, a grey and a dashed one. The first is drawn last, over the others. */
const PLOTS = [
  {
    title: 'Lag in seconds',
    format: duration,
    marks: durationMarks,
    top: durationTop,
    series: [
      ['archivedSeconds', 'archived'],
      ['coveredSeconds', 'covered'],
      ['publishedSeconds', 'published'],
    ],
  },
  {
    title: 'Lag in bytes',
    format: bytes,
    binary: true,
    series: [
      ['archivedBytes', 'archived'],
      ['coveredBytes', 'covered'],
      ['publishedBytes', 'published'],
    ],
  },
  {
    title: 'WAL written and archived',
    format: perSecond,
    binary: true,
    series: [
      ['archiveRate', 'archived'],
      ['walRate', 'written'],
    ],
  },
  {
    title: 'Rows a second',
    format: rate,
    marks: rateMarks,
    series: [
      ['rowRate', 'archived'],
      ['pruneRate', 'pruned'],
    ],
  },
];
const STYLES = [
  { token: '--accent', width: 1.75 },
  { token: '--muted', width: 1.25 },
  { token: '--muted', width: 1.25, dash: [4, 3] },
];

export class Plots {
  #fields = [];
  #columns = new Map();
  #plots = [];
  #seconds = 300;
  #colours = new Map();

  constructor(place) {
    this.readColours();
    for (const plot of PLOTS) this.#plots.push(this.#make(place, plot));
    new ResizeObserver(() => {
      for (const { chart, canvas } of this.#plots) chart.setSize({ width: canvas.clientWidth, height: HEIGHT });
    }).observe(place);
  }

  /** All samples so far: values in the order of `fields`. */
  begin({ fields, rows }) {
    this.#fields = fields;
    this.#columns = new Map(fields.map((field) => [field, []]));
    for (const row of rows) this.#push(row);
    this.#draw();
  }

  add(sample) {
    const at = this.#columns.get('at');
    if (at === undefined || at.at(-1) >= sample.at) return;
    this.#push(this.#fields.map((field) => sample[field]));
    this.#draw();
  }

  show(seconds) {
    this.#seconds = seconds;
    this.#draw();
  }

  /** The colours as they are now, for a canvas. */
  readColours() {
    const probe = document.body.appendChild(h('span', { hidden: '' }));
    for (const token of ['--accent', '--ink', '--muted', '--line']) {
      probe.style.color = `var(${token})`;
      this.#colours.set(token, getComputedStyle(probe).color);
    }
    probe.remove();
    for (const { chart } of this.#plots) chart.redraw(false, true);
  }

  #push(row) {
    const at = this.#columns.get('at');
    const index = this.#fields.indexOf('at');
    if (at.length > 0 && row[index] - at.at(-1) > GAP_MS) for (const [field, values] of this.#columns) values.push(field === 'at' ? row[index] - 1 : null);
    for (const [i, field] of this.#fields.entries()) this.#columns.get(field).push(row[i]);
    while (at.length > MOST) for (const values of this.#columns.values()) values.shift();
  }

  #draw() {
    const at = this.#columns.get('at') ?? [];
    const end = at.at(-1) ?? Date.now();
    for (const { chart, series, values } of this.#plots) {
      chart.batch(() => {
        chart.setData([at, ...series.map(([field]) => this.#columns.get(field) ?? []).reverse()], false);
        chart.setScale('x', { min: end - this.#seconds * 1000, max: end });
      });
      values();
    }
  }

  #make(place, { title, format, marks: markTexts, top, binary, series }) {
    const outputs = series.map(() => h('output'));
    const time = h('time');
    const marks = ['', 'second', 'third'];
    const canvas = h('div', { class: 'canvas', tabindex: '0', role: 'img', 'aria-label': `${title}: ${series.map(([, name]) => name).join(', ')}` });
    const shown = series.map(([, name], i) => h('span', {}, h('i', { class: marks[i], 'aria-hidden': 'true' }), `${name} `, outputs[i]));
    place.append(h('figure', { class: 'plot' }, h('figcaption', {}, title, time), h('p', { class: 'values' }, ...shown), canvas));
    const colour = (token) => () => this.#colours.get(token);
    const axis = { stroke: colour('--muted'), font: '11px Inter, system-ui, sans-serif', ticks: { show: false } };
    const options = {
      width: Math.max(canvas.clientWidth, 100),
      height: HEIGHT,
      ms: 1,
      padding: [8, 26, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: 'tidemark' } },
      scales: { y: { range: (_, __, most) => [0, most > 0 && top ? top(most) : niceTop(most, binary)] } },
      series: [
        {},
        ...STYLES.slice(0, series.length)
          .map(({ token, width, dash }) => ({ stroke: colour(token), width, dash, points: { show: false } }))
          .reverse(),
      ],
      axes: [
        {
          ...axis,
          grid: { show: false },
          space: 64,
          size: 24,
          values: (_, ticks) => ticks.map((tick) => (this.#seconds > 900 ? clock(tick).slice(0, 5) : clock(tick))),
        },
        {
          ...axis,
          grid: { stroke: colour('--line'), width: 1 },
          size: 58,
          splits: (_, __, low, high) => [low, high / 4, high / 2, (high * 3) / 4, high],
          values: (_, ticks) => markTexts?.(ticks) ?? ticks.map((tick) => (tick === 0 ? '0' : format(tick).replace('.0', ''))),
        },
      ],
    };
    const chart = new uPlot(options, [[], ...series.map(() => [])], canvas);
    // Under the cursor, else the newest.
    const values = () => {
      const index = chart.cursor.idx ?? chart.data[0].length - 1;
      texts(
        outputs,
        series.map((_, i) => format(chart.data[series.length - i]?.[index])),
      );
      text(time, chart.cursor.idx == null ? '' : clock(chart.data[0][index]));
    };
    chart.over.addEventListener('mousemove', values);
    chart.over.addEventListener('mouseleave', () => requestAnimationFrame(values));
    canvas.addEventListener('keydown', (event) => moveCursor(event, chart, values));
    canvas.addEventListener('blur', () => {
      chart.setCursor({ left: -10, top: -10 });
      values();
    });
    return { chart, canvas, series, values };
  }
}

/** Arrow keys read a plot sample by sample, Home and End jump, Escape leaves it. */
function moveCursor(event, chart, values) {
  const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  if (step === undefined && event.key !== 'Escape') return;
  event.preventDefault();
  const at = chart.data[0];
  const first = at.findIndex((time) => time >= chart.scales.x.min);
  const index = Math.min(at.length - 1, Math.max(first, (chart.cursor.idx ?? at.length) + step));
  if (step === undefined || first < 0) chart.setCursor({ left: -10, top: -10 });
  else chart.setCursor({ left: chart.valToPos(at[index], 'x'), top: 1 });
  values();
}

/** The smallest round number that is not below `most`, so that quarters of it are round too. */
function niceTop(most, binary) {
  if (!(most > 0)) return binary ? 1024 : 1;
  if (binary) return 2 ** Math.ceil(Math.log2(most * 1.05));
  const power = 10 ** Math.floor(Math.log10(most));
  return power * [1, 2, 4, 6, 8, 10, 20].find((factor) => factor * power >= most * 1.02);
}
