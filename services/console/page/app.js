/** The page: who asks, the stream of pictures, and what shows them. */

import { Days } from './days.js';
import { attribute, byId, text } from './dom.js';
import { showDepths, showHalts, showRoom, showServices, showSlot } from './facts.js';
import { clock, count, duration } from './format.js';
import { showPipeline } from './pipeline.js';
import { Plots } from './plots.js';
import { Pruning } from './pruning.js';
import { onChoice, startTheme } from './switches.js';
import { showTables } from './tables.js';

/** A picture older than this is called old. */
const OLD_MS = 10_000;

let newest = 0;
let connected = false;

/** The session, or the form to log in. Undefined when the console is away. */
async function askSession() {
  const response = await fetch('api/session').catch(() => undefined);
  if (response?.status === 401) location.assign('login');
  return response?.ok ? await response.json() : undefined;
}

function showLive() {
  const age = Date.now() - newest;
  const place = byId('live');
  const state = newest === 0 ? 'waiting' : connected && age < OLD_MS ? 'live' : 'lost';
  attribute(place, 'data-state', state);
  const words = { waiting: 'connecting', live: `live, ${clock(newest)} UTC`, lost: `no news for ${duration(Math.round(age / 1000))}` };
  text(byId('live-text'), words[state]);
}

function connect(begin, show) {
  const events = new EventSource('api/live');
  events.addEventListener('open', () => {
    connected = true;
    showLive();
  });
  events.addEventListener('history', ({ data }) => begin(JSON.parse(data)));
  events.addEventListener('picture', ({ data }) => show(JSON.parse(data)));
  events.addEventListener('error', async () => {
    connected = false;
    showLive();
    if (events.readyState !== EventSource.CLOSED) return; // it tries again by itself
    await askSession();
    setTimeout(() => connect(begin, show), 3000);
  });
}

async function start() {
  let session = await askSession();
  while (session === undefined) {
    text(byId('loading'), 'The console does not answer. Trying again …');
    await new Promise((resolve) => setTimeout(resolve, 2000));
    session = await askSession();
  }
  text(byId('source'), session.source);
  text(byId('source-title'), session.source);
  document.title = `${session.source} – Tidemark`;
  byId('logout').hidden = !session.login;
  const pruning = new Pruning(session);
  const days = new Days();
  let plots;
  let history;
  startTheme(byId('theme'), () => plots?.readColours());
  onChoice(byId('range'), (value) => plots?.show(Number(value)));
  const show = (picture) => {
    newest = Date.now();
    showLive();
    showHalts(picture);
    showPipeline(picture);
    showDepths(picture);
    showSlot(picture);
    showServices(picture);
    showRoom(picture);
    showTables(picture);
    pruning.show(picture);
    void days.follow(picture);
    text(byId('foot-facts'), picture.archive === null ? '' : `${count(picture.archive.files)} files in the archive`);
    byId('loading').hidden = true;
    byId('main').hidden = byId('foot').hidden = false;
    if (plots === undefined) {
      plots = new Plots(byId('plots')); // needs its place to have a size
      plots.begin(history);
    }
    plots.add(picture.sample);
  };
  const begin = (data) => {
    history = data;
    plots?.begin(data);
  };
  connect(begin, show);
  setInterval(showLive, 1000);
}

void start();
