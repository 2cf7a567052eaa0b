// The card of one point: all that it has, and its editing.

import { ask, url } from './state.js';

const $ = (id) => document.getElementById(id);
const wait = { Prefer: 'wait=10' };
let shown = null; // the Feature on the card
let changed = () => {};
let closed = () => {};

export const current = () => shown;

export function setUp(onChange, onClose) {
  changed = onChange;
  closed = onClose;
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
  closed();
}

export async function show(id, focus = true) {
  const response = await ask(url('points/' + encodeURIComponent(id)), { accept: [404, 410], cache: 'no-cache' });
  if (!response.ok) {
    $('point').hidden = false;
    $('p-title').textContent = response.status === 410 ? 'This point was deleted' : 'There is no such point';
    $('p-rows').replaceChildren();
    shown = null;
    return null;
  }
  const feature = await response.json();
  paint(feature, response.headers.get('ETag'));
  if (focus) $('p-title').focus();
  return feature;
}

function paint(feature, tag) {
  shown = { ...feature, tag };
  const properties = feature.properties || {};
  $('p-title').textContent = properties.name || properties.title || String(feature.id);
  const rows = [['place', feature.geometry.coordinates.map((n) => Number(n.toFixed(6))).join(', ')], ['id', feature.id]];
  for (const name of ['time', 'received', 'position', 'revision']) {
    const value = feature[name] ?? properties[name];
    if (value !== undefined) rows.push([name, name === 'time' || name === 'received' ? new Date(value).toLocaleString() : value]);
  }
  for (const [name, value] of Object.entries(properties)) {
    if (!['time', 'received', 'position', 'revision'].includes(name)) rows.push([name, typeof value === 'object' ? JSON.stringify(value) : value]);
  }
  $('p-rows').replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement('tr');
    const head = document.createElement('th');
    head.scope = 'row';
    head.textContent = name;
    const cell = document.createElement('td');
    cell.textContent = String(value);
    row.append(head, cell);
    return row;
  }));
  $('p-json').href = url('points/' + encodeURIComponent(feature.id));
  $('p-note').textContent = '';
  $('point').hidden = false;
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

async function remove() {
  if (!confirm(`Delete ${$('p-title').textContent}? This cannot be undone.`)) return;
  try {
    await ask(url('point/' + encodeURIComponent(shown.id)), { method: 'DELETE', headers: { ...wait, 'If-Match': shown.tag } });
    changed();
    close();
  } catch (e) {
    $('p-note').textContent = e.message;
  }
}

/** Moves the point that is shown, if nobody else has changed it meanwhile. */
export async function move(lngLat) {
  await patch({ geometry: { type: 'Point', coordinates: [lngLat.lng, lngLat.lat, ...shown.geometry.coordinates.slice(2)] } });
}

async function patch(body) {
  const response = await ask(url('point/' + encodeURIComponent(shown.id)), {
    method: 'PATCH', body: JSON.stringify(body),
    headers: { ...wait, 'Content-Type': 'application/merge-patch+json', 'If-Match': shown.tag },
  });
  await response.text();
  changed();
  await show(shown.id, false);
}

/** The properties without those that Cairn itself adds to what it shows. */
function ownProperties(feature) {
  const added = ['id', 'time', 'received', 'position', 'revision'];
  return Object.fromEntries(Object.entries(feature.properties || {}).filter(([name, value]) => !added.includes(name) || String(value) !== String(feature[name])));
}

let editing = null; // the Feature that is edited; its id is undefined for a new one

export function openEditor(feature) {
  editing = feature;
  $('e-title').textContent = feature.id === undefined ? 'Add a point' : 'Edit the point';
  [$('e-lon').value, $('e-lat').value] = feature.geometry.coordinates.map((n) => Number(n.toFixed(7)));
  $('e-time').value = feature.time || '';
  const own = ownProperties(feature);
  $('e-props').value = JSON.stringify(own, null, 2);
  $('e-error').textContent = '';
  $('editor').showModal();
}

async function save() {
  try {
    const properties = JSON.parse($('e-props').value || '{}');
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
    $('editor').close();
    await patch({ geometry, properties, time: time || null });
  } catch (e) {
    if (!$('editor').open) $('editor').showModal();
    $('e-error').textContent = e instanceof SyntaxError ? 'The properties are not a JSON object: ' + e.message : e.message;
  }
}
