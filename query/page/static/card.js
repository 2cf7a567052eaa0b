// The card of one point: all that it has, and its editing.

import { ask, url } from './state.js';
import { say } from './toast.js';

const $ = (id) => document.getElementById(id);
const wait = { Prefer: 'wait=10' };
const ours = ['id', 'time', 'received', 'position', 'revision']; // what Cairn adds to what it shows
let shown = null; // the Feature on the card
let changed = () => {};
let closed = () => {};
let ring = () => {};

export const current = () => shown;

export function setUp(onChange, onClose, onShow) {
  [changed, closed, ring] = [onChange, onClose, onShow];
  $('p-close').onclick = () => close();
  $('p-share').onclick = share;
  $('p-edit').onclick = () => openEditor(shown);
  $('p-delete').onclick = remove;
  $('e-form').onsubmit = (e) => { if (e.submitter?.value === 'save') { e.preventDefault(); save(); } };
  document.addEventListener('keydown', (e) => { if (e.key === 'Escape' && !$('point').hidden && !$('editor').open) close(); });
}

export function close() {
  shown = null;
  $('point').hidden = true;
  ring(null);
  closed();
}

export async function show(id, focus = true) {
  const response = await ask(url('points/' + encodeURIComponent(id)), { accept: [404, 410], cache: 'no-cache' });
  if (!response.ok) {
    $('point').hidden = false;
    $('p-title').textContent = response.status === 410 ? 'This point was deleted' : 'There is no such point';
    for (const part of ['p-rows', 'p-own']) $(part).replaceChildren();
    $('p-actions').hidden = true;
    shown = null;
    ring(null);
    return null;
  }
  const feature = await response.json();
  paint(feature, response.headers.get('ETag'));
  if (focus) $('p-title').focus();
  return feature;
}

/** Shows a Feature that came in, without asking for it. */
export function renew(feature) {
  if ($('editor').open) return;
  paint(feature, `"${feature.revision}"`);
}

function paint(feature, tag) {
  shown = { ...feature, tag };
  const properties = ownProperties(feature);
  $('p-title').textContent = properties.name || properties.title || String(feature.id);
  const [lon, lat, height] = feature.geometry.coordinates;
  const when = (text) => new Date(text).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
  const rows = Object.entries(properties).map(([name, value]) => [name, value !== null && typeof value === 'object' ? JSON.stringify(value) : value]);
  if (feature.time) rows.unshift(['time', when(feature.time)]);
  const own = [['latitude', Number(lat.toFixed(7))], ['longitude', Number(lon.toFixed(7))], ['altitude', height === undefined ? undefined : `${height} m`],
    ['id', feature.id], ['received', when(feature.received)], ['position', feature.position], ['revision', feature.revision]];
  $('p-rows').replaceChildren(...rows.map(rowOf));
  $('p-own').replaceChildren(...own.filter(([, value]) => value !== undefined).map(rowOf));
  $('p-json').href = url('points/' + encodeURIComponent(feature.id));
  $('p-note').textContent = '';
  $('p-actions').hidden = false;
  $('point').hidden = false;
  ring(feature);
}

function rowOf([name, value]) {
  const row = document.createElement('tr');
  const head = document.createElement('th');
  head.scope = 'row';
  head.textContent = name;
  const cell = document.createElement('td');
  const text = value === null ? 'null' : String(value);
  if (/^https?:\/\/[^\s]+$/.test(text)) {
    const link = document.createElement('a');
    Object.assign(link, { href: text, textContent: text, target: '_blank', rel: 'noopener noreferrer' });
    cell.append(link);
  } else {
    cell.textContent = text;
  }
  row.append(head, cell);
  return row;
}

async function share() {
  const link = location.href;
  try {
    await navigator.clipboard.writeText(link);
    $('p-note').textContent = 'The link is copied.';
  } catch {
    $('p-note').textContent = link;
  }
}

const pathOf = (id) => url('point/' + encodeURIComponent(id));

async function remove() {
  const old = shown;
  try {
    await ask(pathOf(old.id), { method: 'DELETE', headers: { ...wait, 'If-Match': old.tag } });
    changed();
    close();
    say(`${$('p-title').textContent} is deleted.`, () => putBack(old, { 'If-None-Match': '*' }));
  } catch (e) {
    say(e.message);
  }
}

/** Moves the point that is shown, if nobody else has changed it meanwhile. */
export async function move(lngLat) {
  const old = shown;
  await patch(old, { geometry: { type: 'Point', coordinates: [lngLat.lng, lngLat.lat, ...old.geometry.coordinates.slice(2)] } });
  say('Moved.', () => putBack(old, { 'If-Match': shown.tag }));
}

async function patch(feature, body) {
  const response = await ask(pathOf(feature.id), {
    method: 'PATCH', body: JSON.stringify(body),
    headers: { ...wait, 'Content-Type': 'application/merge-patch+json', 'If-Match': feature.tag },
  });
  await response.text();
  changed();
  await show(feature.id, false);
}

/** Makes a point what it was, under a condition on what it is now. */
async function putBack(old, condition) {
  const members = Object.entries(old).filter(([name]) => !['tag', 'received', 'position', 'revision', 'links'].includes(name));
  const feature = { ...Object.fromEntries(members), properties: old.properties && ownProperties(old) };
  const response = await ask(pathOf(old.id), { method: 'PUT', body: JSON.stringify(feature), headers: { ...wait, 'Content-Type': 'application/geo+json', ...condition } });
  await response.text();
  changed();
  await show(old.id, false);
}

/** The properties without those that Cairn itself adds to what it shows. */
function ownProperties(feature) {
  const own = (name) => name.startsWith('cairn_') ? name.slice(6) : name; // Cairn's where the user has one of that name
  return Object.fromEntries(Object.entries(feature.properties || {}).filter(([name, value]) => !ours.includes(own(name)) || String(value) !== String(feature[own(name)])));
}

let editing = null; // the Feature that is edited; its id is undefined for a new one

export function openEditor(feature) {
  editing = feature;
  $('e-title').textContent = feature.id === undefined ? 'Add a point' : 'Edit the point';
  [$('e-lon').value, $('e-lat').value] = feature.geometry.coordinates.map((n) => Number(n.toFixed(7)));
  $('e-time').value = feature.time || '';
  const { name, ...other } = ownProperties(feature);
  const named = name === undefined || typeof name === 'string';
  $('e-name').value = named ? name || '' : '';
  $('e-props').value = JSON.stringify(named ? other : { name, ...other }, null, 2);
  $('e-error').textContent = '';
  $('editor').showModal();
}

/** What the editor has as properties. */
function edited() {
  const other = JSON.parse($('e-props').value || '{}');
  if (other === null || typeof other !== 'object' || Array.isArray(other)) throw new SyntaxError('they begin with { and end with }');
  return $('e-name').value ? { name: $('e-name').value, ...other } : other;
}

async function save() {
  try {
    const properties = edited();
    const geometry = { type: 'Point', coordinates: [Number($('e-lon').value), Number($('e-lat').value), ...editing.geometry.coordinates.slice(2)] };
    const time = $('e-time').value.trim();
    if (editing.id === undefined) {
      const feature = { type: 'Feature', geometry, properties, ...(time && { time }) };
      const response = await ask(url('point'), { method: 'POST', body: JSON.stringify(feature), headers: { ...wait, 'Content-Type': 'application/geo+json' } });
      const made = await response.json();
      $('editor').close();
      changed();
      await show(made.id);
      return;
    }
    // A merge patch removes what is null (RFC 7396, section 2).
    for (const name of Object.keys(ownProperties(editing))) if (!(name in properties)) properties[name] = null;
    const old = editing;
    await patch(old, { geometry, properties, time: time || null });
    $('editor').close();
    say('Saved.', () => putBack(old, { 'If-Match': shown.tag }));
  } catch (e) {
    $('e-error').textContent = e instanceof SyntaxError ? 'The other properties are no JSON object: ' + e.message : e.message;
  }
}
