// Where each device is: the newest position of each name, from /latest, kept so by
// /stream?latest. MapLibre draws them all as one layer.

import { isNear } from './geo.js';
import { follow } from './live.js';
import { boxOf, collection } from './map.js';
import { ask, url } from './state.js';

const $ = (id) => document.getElementById(id);
export const maxDevices = 20000; // that are held and drawn: above it the page is slow to move
const pageSize = 2000; // Features a request, about a megabyte
const listed = 100; // devices in the list
const many = 500; // devices from which on the map is drawn anew once a second only
const quietAfter = 15 * 60e3; // ms without a fix, after which a device is drawn pale
const tryAgain = 5000; // ms, where /latest is not to be had
const courses = ['course', 'heading', 'bearing', 'cog', 'dir', 'direction']; // names of it in tracking programs

const all = new Map(); // what is known of each device, by name
let map, params, on;
let stop = null, loading = 0, waiting = null, drawing = null, again = null;
let partly = false; // there are more than the page holds: those in view are asked for
let cut = false; // and even there are more

/** Degrees from north, where the fix says it; iOS says -1 where it does not know. */
function headingOf(properties) {
  for (const name of courses) {
    const n = properties[name];
    if (typeof n === 'number' && n >= 0 && n <= 360) return n;
  }
  return undefined;
}

function deviceOf(f) {
  const p = f.properties || {};
  return { name: String(p.name), id: String(f.id), place: f.geometry.coordinates.slice(0, 2), time: Date.parse(f.time || f.received), heading: headingOf(p) };
}

export const get = (name) => all.get(name);
export const size = () => all.size;

/** Shows the devices that pass the filter, from now until the next call or halt. Told are
 * state(of the stream), changed(name, Feature; null of both: all), failed(error or null). */
export function show(theMap, filter, handlers) {
  halt();
  [map, params, on] = [theMap, new URLSearchParams(filter), handlers];
  stop = follow(new URLSearchParams([...params, ['latest', 'true']]), {
    state: (e) => { on.state(e); if (e.on) load(); }, // what came before the stream was there
    created: (e) => take(e.data),
    deleted: (e) => take(null, e.data?.name),
    reset: load,
  });
  load();
}

export function halt() {
  stop?.();
  stop = null;
  loading++;
  clearTimeout(again);
  all.clear();
  waiting = null;
  partly = cut = false;
}

/** After the map was moved. */
export function moved() {
  if (stop && partly) load();
}

/** What is to be said of what is not shown. */
export function lack() {
  if (!partly) return '';
  return cut ? `The first ${maxDevices.toLocaleString()} of those in view: filter, or look closer.` : 'There are too many to show all: these are in view.';
}

/** A change of one device; while a load is under way it is heeded after it. */
function take(feature, gone) {
  if (waiting) { waiting.push([feature, gone]); return; }
  const name = feature ? String(feature.properties?.name) : gone;
  if (!feature || !isNear(params.get('near'), feature.geometry.coordinates)) all.delete(name);
  else if (all.size < maxDevices || all.has(name)) all.set(name, deviceOf(feature));
  on.changed(name, feature);
  drawSoon();
}

async function load() {
  const mine = ++loading;
  clearTimeout(again);
  waiting ??= [];
  const found = new Map();
  try {
    const first = new URLSearchParams(params);
    first.set('limit', pageSize);
    if (partly && !first.has('near')) first.set('bbox', boxOf(map.getBounds()));
    for (let next = url('latest', first); next && found.size < maxDevices;) {
      const page = await (await ask(next, { cache: 'no-cache' })).json();
      if (mine !== loading) return;
      for (const f of page.features) found.set(String(f.properties?.name), deviceOf(f));
      const link = page.links?.find((l) => l.rel === 'next')?.href;
      next = link && url('latest', new URL(link).searchParams); // by the way that this page came
      cut = Boolean(next);
    }
    if (cut && !partly) { partly = true; load(); return; }
    all.clear();
    for (const [name, d] of found) all.set(name, d);
    on.failed(null);
  } catch (e) {
    if (mine !== loading) return;
    again = setTimeout(load, tryAgain);
    on.failed(e);
  }
  const came = waiting;
  waiting = null;
  for (const [feature, gone] of came) take(feature, gone);
  on.changed(null, null);
  draw();
}

function drawSoon() {
  drawing ??= setTimeout(draw, all.size > many ? 1000 : 100);
}

function draw() {
  clearTimeout(drawing);
  drawing = null;
  const now = Date.now();
  map.getSource('devices')?.setData(collection([...all.values()].map((d) => ({
    type: 'Feature', geometry: { type: 'Point', coordinates: d.place },
    properties: { name: d.name, id: d.id, age: -d.time, quiet: now - d.time > quietAfter, ...(d.heading !== undefined && { heading: d.heading }) },
  }))));
}

/** How many are within MapLibre's bounds. */
export function countIn(bounds) {
  let n = 0;
  for (const d of all.values()) if (bounds.contains(d.place)) n++;
  return n;
}

const words = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' });

function ago(ms) {
  const seconds = Math.round(ms / 1000);
  for (const [unit, length] of [['day', 86400], ['hour', 3600], ['minute', 60]]) {
    if (Math.abs(seconds) >= length) return words.format(-Math.round(seconds / length), unit);
  }
  return words.format(-seconds, 'second');
}

/** Fills the list with the devices whose names hold the text, the first by name. A row
 * that stays is the same element, so that a key's focus stays on it. */
export function list(text, choose) {
  const wanted = text.toLowerCase();
  const names = [...all.keys()].filter((n) => n.toLowerCase().includes(wanted)).sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const old = new Map([...$('rows').children].map((item) => [item.dataset.name, item]));
  const rows = names.slice(0, listed).map((name) => {
    const item = old.get(name) || rowOf(name, choose);
    item.querySelector('small').textContent = ago(Date.now() - all.get(name).time);
    return item;
  });
  if (rows.length !== old.size || rows.some((r, i) => r !== $('rows').children[i])) $('rows').replaceChildren(...rows);
  $('rows-note').textContent = names.length > listed ? `The first ${listed} of ${names.length.toLocaleString()} names.` : '';
}

function rowOf(name, choose) {
  const item = document.createElement('li');
  item.dataset.name = name;
  const button = document.createElement('button');
  button.type = 'button';
  const [text, age] = [document.createElement('span'), document.createElement('small')];
  text.textContent = name;
  button.append(text, age);
  button.onclick = () => choose(name);
  item.append(button);
  return item;
}
