// The way of one device: its track as a line, and a player that goes along it.

import { bearing, beside, metres } from './geo.js';
import { collection } from './map.js';
import { ask, chosen, key, url } from './state.js';

const $ = (id) => document.getElementById(id);
const second = 1000, hour = 3600 * second, day = 24 * hour;
// Of each span: its name in the URL, its text, how long it is, and the pause after
// which the line is broken.
const spans = [['hour', 'last hour', hour, hour / 6], ['day', 'last day', day, hour], ['week', 'last week', 7 * day, day / 4],
  ['month', 'last month', 30 * day, day], ['any', 'all', 0, 7 * day]];
const speeds = [[1, 'real time'], [10, '10×'], [60, '1 min/s'], [600, '10 min/s'], [3600, '1 h/s'], [6 * 3600, '6 h/s'], [24 * 3600, '1 day/s'], [7 * 24 * 3600, '1 week/s']];
const wholeIn = 30; // seconds that the player takes for all, about, unless it is told
const tailFixes = 200; // of the way behind the player that are drawn bright
const maxBytes = 32 << 20; // of a track that is read: half a million fixes
const steady = matchMedia('(prefers-reduced-motion: reduce)');

let map, changed = () => {};
let track = null; // {name, until, gap}, of each fix times, places and parts; begins: the first fix of each part
let reading = 0, playing = 0, drawing = null;
let at = 0; // where the player is, ms

export function setUp(theMap, onChange) {
  [map, changed] = [theMap, onChange];
  $('k-span').replaceChildren(...spans.map(([value, text]) => new Option(text, value)));
  $('k-speed').replaceChildren(...speeds.map(([n, text]) => new Option(text, String(n))));
  $('k-span').onchange = () => { changed({ span: $('k-span').value, at: null }); open(track.name, track.until, {}); };
  $('k-play').onclick = () => (playing ? pause() : play());
  $('k-time').oninput = () => { pause(); go(Number($('k-time').value)); };
  $('k-time').onchange = () => changed({ at: stamp() });
  $('k-whole').onclick = fit;
}

export const current = () => track?.name;

/** Where the player is, for the URL; null at the end, where it is live. */
const stamp = () => (track && at < last() ? new Date(at).toISOString() : null);
const last = () => track.times[track.times.length - 1];

export function close() {
  reading++;
  pause();
  track = null;
  $('track').hidden = true;
  for (const source of ['track', 'tail', 'there']) map.getSource(source)?.setData(collection([]));
}

/** Reads and draws the track of a name up to the time, that of its newest fix. */
export async function open(name, until, { from = null, whole = false }) {
  const mine = ++reading;
  pause();
  const [value, , length, gap] = spans.find(([v]) => v === chosen('span')) || spans[1];
  track = { name, until, gap, times: [], places: [], parts: [], begins: [] };
  $('k-span').value = value;
  $('track').hidden = false;
  $('k-note').textContent = 'Reading the track …';
  $('k-count').textContent = '';
  const p = new URLSearchParams({ gap: gap / second });
  if (length) p.set('datetime', new Date(until - length).toISOString() + '/..');
  links(name, p);
  try {
    const response = await ask(url('tracks/' + encodeURIComponent(name), new URLSearchParams([...p, ['f', 'geojson']])), { cache: 'no-cache' });
    const line = JSON.parse(await text(response));
    if (mine !== reading) return;
    fill(line);
  } catch (e) {
    if (mine === reading) $('k-note').textContent = e.message;
    return;
  }
  const n = track.times.length;
  $('k-play').disabled = $('k-time').disabled = n < 2;
  if (n === 0) { $('k-note').textContent = 'There are no fixes in this time.'; return; }
  $('k-speed').value = String(speeds.findLast(([s]) => (last() - track.times[0]) / second / s >= wholeIn)?.[0] || 1);
  limits();
  drawTrack();
  const wanted = Date.parse(from);
  go(wanted >= track.times[0] && wanted <= last() ? wanted : last());
  if (whole) fit();
}

/** The body, unless it is more than the page can hold. */
async function text(response) {
  const reader = response.body.getReader(), decoder = new TextDecoder(), parts = [];
  for (let size = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return parts.join('') + decoder.decode();
    if ((size += value.length) > maxBytes) {
      await reader.cancel();
      throw new Error('The track is too long to be shown: choose a shorter time, or download it.');
    }
    parts.push(decoder.decode(value, { stream: true }));
  }
}

function fill({ geometry, properties }) {
  if (!geometry) return;
  const whole = geometry.type === 'LineString';
  const parts = whole ? [geometry.coordinates] : geometry.coordinates;
  const times = whole ? [properties.coordTimes] : properties.coordTimes;
  parts.forEach((part, i) => {
    // A part of one fix has it twice (RFC 7946, section 3.1.4).
    const once = part.length === 2 && times[i][0] === times[i][1] && String(part[0]) === String(part[1]);
    for (let j = 0; j < (once ? 1 : part.length); j++) add(Date.parse(times[i][j]), part[j], j === 0);
  });
}

function add(time, [lon, lat], begins) {
  const before = track.places[track.places.length - 1];
  if (begins || !before) track.begins.push(track.times.length);
  track.times.push(time);
  track.parts.push(track.begins.length - 1);
  track.places.push([before ? beside(lon, before[0]) : lon, lat]);
}

function limits() {
  const [from, to] = [track.times[0], last()];
  Object.assign($('k-time'), { min: String(from), max: String(to), step: String(Math.max(1, Math.round((to - from) / 1000))) });
}

function links(name, params) {
  $('k-links').replaceChildren(...[['gpx', 'GPX'], ['csv', 'CSV'], ['geojson', 'GeoJSON']].map(([format, label]) => {
    const p = new URLSearchParams([...params, ['f', format]]);
    if (key.get()) p.set('key', key.get()); // a link sends no header
    return Object.assign(document.createElement('a'), { href: url('tracks/' + encodeURIComponent(name), p), textContent: label, download: `track.${format}` });
  }));
}

/** Adds what came in just now, if it is the newest. */
export function append(time, place) {
  if (!track || track.times.length === 0 || time <= last()) return;
  const live = !playing && at === last();
  add(time, place, time - last() > track.gap);
  track.until = time;
  $('k-play').disabled = $('k-time').disabled = false;
  limits();
  drawing ??= setTimeout(() => { drawing = null; if (track) drawTrack(); }, 500);
  if (live) go(time);
}

function drawTrack() {
  const ends = [...track.begins.slice(1), track.times.length];
  map.getSource('track').setData(collection(ends.map((end, i) => line(track.begins[i], end))));
}

const line = (from, to) => {
  const places = track.places.slice(from, to);
  return { type: 'Feature', properties: {}, geometry: places.length > 1 ? { type: 'LineString', coordinates: places } : { type: 'MultiPoint', coordinates: places } };
};

/** The last fix at or before a time. */
function fixAt(time) {
  let from = 0, to = track.times.length - 1;
  while (from < to) {
    const middle = (from + to + 1) >> 1;
    if (track.times[middle] <= time) from = middle;
    else to = middle - 1;
  }
  return from;
}

/** Shows where the device was at a time: between two fixes of a part, on the line. */
function go(time) {
  at = time;
  const i = fixAt(time), { places, parts, times } = track;
  const a = places[i], b = parts[i + 1] === parts[i] ? places[i + 1] : null;
  let place = a, heading = parts[i - 1] === parts[i] ? bearing(places[i - 1], a) : null;
  if (b) {
    const part = (time - times[i]) / (times[i + 1] - times[i]) || 0;
    place = steady.matches ? a : [a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part];
    heading = bearing(a, b) ?? heading;
  }
  const live = time === last(); // then the device's own mark shows it
  map.getSource('there').setData(collection(live ? [] : [{ type: 'Feature', geometry: { type: 'Point', coordinates: place }, properties: heading === null ? {} : { heading } }]));
  const began = Math.max(track.begins[parts[i]], i - tailFixes);
  map.getSource('tail').setData({ type: 'Feature', properties: {}, geometry: { type: 'LineString', coordinates: [...places.slice(began, i + 1), place] } });
  tell(time, i, b ? metres(a, b) / (times[i + 1] - times[i]) * hour / 1000 : NaN);
  return place;
}

/** Says in words where the player is; speed is in km/h, or NaN. */
function tell(time, i, speed) {
  const when = new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
  $('k-time').value = String(time);
  $('k-time').setAttribute('aria-valuetext', when);
  const fast = Number.isFinite(speed) ? ` · ${speed.toFixed(speed < 10 ? 1 : 0)} km/h` : '';
  $('k-note').textContent = when + fast;
  $('k-count').textContent = `fix ${(i + 1).toLocaleString()} of ${track.times.length.toLocaleString()}`;
}

function play() {
  if (at >= last()) at = track.times[0];
  $('k-play').textContent = 'Pause';
  let before = performance.now();
  const frame = (now) => {
    playing = requestAnimationFrame(frame);
    if (steady.matches && now - before < second) return; // a step a second, and no motion
    const next = Math.min(at + (now - before) * Number($('k-speed').value), last());
    before = now;
    const place = go(next);
    if (!map.getBounds().contains(place)) map.jumpTo({ center: place });
    if (next >= last()) pause();
  };
  playing = requestAnimationFrame(frame);
}

function pause() {
  if (!playing) return;
  cancelAnimationFrame(playing);
  playing = 0;
  $('k-play').textContent = 'Play';
  changed({ at: stamp() });
}

/** Shows all of the track, beside the cards. */
function fit() {
  if (!track?.places.length) return;
  const bounds = new maplibregl.LngLatBounds();
  for (const place of track.places) bounds.extend(place);
  const card = $('point').getBoundingClientRect(), wide = card.width < innerWidth / 2;
  const tools = $('panel').getBoundingClientRect();
  map.fitBounds(bounds, { maxZoom: 16, animate: !steady.matches,
    padding: wide ? { top: 50, bottom: 50, left: tools.right + 30, right: innerWidth - card.left + 30 } : { top: tools.bottom + 20, bottom: innerHeight - card.top + 20, left: 30, right: 30 } });
}
