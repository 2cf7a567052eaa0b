// The map page: points as vector tiles, what is new from the stream, filters,
// a card for a point, editing, and files.

import * as card from './card.js';
import { follow } from './live.js';
import { ask, chosenPoint, filters, key, remember, url } from './state.js';
import { load } from './upload.js';
import { outline } from './world.js';

const $ = (id) => document.getElementById(id);
const config = JSON.parse(document.querySelector('meta[name="cairn"]')?.content || '{}');
const layerIDs = ['clusters', 'dots', 'fresh'];
const maxFresh = 2000; // points of the stream that are drawn beside the tiles
const refreshAfter = 3000; // ms from the first change to new tiles

let params = filters();
let map, stop, version = 0, stale = null;
const fresh = new Map(); // Features of the stream that no tile has yet, by id

function fatal(text) {
  $('fatal').textContent = text;
  $('fatal').hidden = false;
}

function dark() { return document.documentElement.dataset.theme === 'dark'; }

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem('cairn-theme', theme);
  if (map?.isStyleLoaded()) paintTheme();
}

function paintTheme() {
  if (config.style || !map.getLayer('sea')) return;
  map.setPaintProperty('sea', 'background-color', dark() ? '#0f1b22' : '#d5e5ec');
  map.setPaintProperty('land', 'fill-color', dark() ? '#24312e' : '#f4f2ea');
  map.setPaintProperty('coast', 'line-color', dark() ? '#4a5d58' : '#9db0ab');
  map.setPaintProperty('dots', 'circle-color', dark() ? '#4fd1bd' : '#0b6e5f');
}

const tileURL = () => {
  const p = new URLSearchParams(params);
  if (version) p.set('min_position', version);
  if (key.get()) p.set('key', key.get());
  const query = p.toString();
  return url('collections/points/tiles/WebMercatorQuad/') + '{z}/{y}/{x}' + (query ? '?' + query : '');
};

const size = (min, max) => ['interpolate', ['linear'], ['sqrt', ['coalesce', ['get', 'count'], 1]], 1, min, 300, max];

function layers() {
  return [
    { id: 'clusters', type: 'circle', source: 'points', 'source-layer': 'points', filter: ['>', ['coalesce', ['get', 'count'], 1], 1],
      paint: { 'circle-color': '#128c79', 'circle-opacity': 0.75, 'circle-radius': size(5, 26), 'circle-stroke-color': '#ffffff', 'circle-stroke-width': 1 } },
    { id: 'dots', type: 'circle', source: 'points', 'source-layer': 'points', filter: ['<=', ['coalesce', ['get', 'count'], 1], 1],
      paint: { 'circle-color': '#0b6e5f', 'circle-radius': ['interpolate', ['linear'], ['zoom'], 2, 3, 12, 6], 'circle-stroke-color': '#ffffff', 'circle-stroke-width': 1 } },
    { id: 'fresh', type: 'circle', source: 'fresh',
      paint: { 'circle-color': '#d4483b', 'circle-radius': ['interpolate', ['linear'], ['zoom'], 2, 4, 12, 7], 'circle-stroke-color': '#ffffff', 'circle-stroke-width': 1.5 } },
  ];
}

async function baseStyle() {
  if (config.style) return config.style;
  const world = await (await fetch(url('lib/land-50m.json'))).json();
  const { land, coast } = outline(topojson.feature(world, world.objects.land));
  return {
    version: 8,
    sources: { land: { type: 'geojson', data: land, attribution: 'Outline: Natural Earth' }, coast: { type: 'geojson', data: coast } },
    layers: [
      { id: 'sea', type: 'background', paint: { 'background-color': '#d5e5ec' } },
      { id: 'land', type: 'fill', source: 'land', paint: { 'fill-color': '#f4f2ea', 'fill-antialias': false } },
      { id: 'coast', type: 'line', source: 'coast', paint: { 'line-color': '#9db0ab', 'line-width': 0.6 } },
    ],
  };
}

function addPoints() {
  map.addSource('points', { type: 'vector', tiles: [tileURL()], maxzoom: 14, promoteId: 'id' });
  map.addSource('fresh', { type: 'geojson', data: { type: 'FeatureCollection', features: [] }, promoteId: 'id' });
  for (const layer of layers()) map.addLayer(layer);
  paintTheme();
  document.body.dataset.ready = 'yes';
}

/** New tiles, as new as what the stream has told. */
function refresh() {
  stale = null;
  map.getSource('points')?.setTiles([tileURL()]);
  map.once('idle', () => { fresh.clear(); paintFresh(); list(); });
  count();
}

function refreshSoon() { stale ??= setTimeout(refresh, refreshAfter); }

function paintFresh() {
  map.getSource('fresh')?.setData({ type: 'FeatureCollection', features: [...fresh.values()] });
}

function followStream() {
  stop?.();
  let painting = false;
  const seen = ({ position, data }) => {
    version = Math.max(version, position);
    fresh.delete(data.id);
    fresh.set(data.id, { type: 'Feature', geometry: data.geometry, properties: { id: String(data.id), name: data.properties?.name || '' } });
    if (fresh.size > maxFresh) fresh.delete(fresh.keys().next().value);
    if (!painting) { painting = true; requestAnimationFrame(() => { painting = false; paintFresh(); }); }
    refreshSoon();
  };
  stop = follow(params, {
    state: ({ on }) => { $('live').textContent = on ? 'live' : 'reconnecting'; $('live').classList.toggle('on', on); },
    created: seen,
    updated: (e) => { seen(e); if (String(card.current()?.id) === String(e.data.id)) card.show(e.data.id, false); },
    deleted: ({ position, data }) => { version = Math.max(version, position); fresh.delete(data.id); paintFresh(); refreshSoon(); },
    reset: () => refreshSoon(),
  });
}

const boxOf = (bounds) => {
  const clamp = (n, most) => Math.max(-most, Math.min(most, n));
  const [w, e] = bounds.getEast() - bounds.getWest() >= 360 ? [-180, 180] : [bounds.getWest(), bounds.getEast()];
  return [w, clamp(bounds.getSouth(), 90), e, clamp(bounds.getNorth(), 90)].map((n) => n.toFixed(6)).join(',');
};

let counting = 0;
async function count() {
  const mine = ++counting;
  const p = new URLSearchParams(params);
  if (!p.has('near')) p.set('bbox', boxOf(map.getBounds()));
  p.set('limit', 1);
  p.set('numberMatched', 'true');
  try {
    const page = await (await ask(url('points', p), { cache: 'no-cache' })).json();
    if (mine !== counting) return;
    $('count').textContent = page.numberMatched === undefined ? '' : `${page.numberMatched.toLocaleString()} points in view`;
  } catch (e) {
    if (mine === counting) $('count').textContent = e.message;
  }
}

async function list() {
  if (!$('list').open) return;
  const p = new URLSearchParams(params);
  if (!p.has('near')) p.set('bbox', boxOf(map.getBounds()));
  p.set('limit', 50);
  try {
    const page = await (await ask(url('points', p), { cache: 'no-cache' })).json();
    $('rows').replaceChildren(...page.features.map((f) => {
      const item = document.createElement('li');
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = `${f.properties?.name || f.id} (${f.geometry.coordinates[1].toFixed(3)}, ${f.geometry.coordinates[0].toFixed(3)})`;
      button.onclick = () => choose(f.id);
      item.append(button);
      return item;
    }));
    $('rows-note').textContent = page.features.length < 50 ? '' : p.has('near') ? 'The 50 nearest.' : 'The newest 50.';
  } catch (e) {
    $('rows-note').textContent = e.message;
  }
}

async function choose(id, fly = false) {
  try {
    const feature = await card.show(id);
    if (feature && fly) map.jumpTo({ center: feature.geometry.coordinates.slice(0, 2), zoom: Math.max(map.getZoom(), 9) });
    remember(params, feature ? id : null);
  } catch (e) {
    fatal(e.message);
  }
}

function onClick(e) {
  if ($('add').getAttribute('aria-pressed') === 'true') {
    press('add', false);
    const at = e.lngLat.wrap();
    card.openEditor({ type: 'Feature', geometry: { type: 'Point', coordinates: [at.lng, at.lat] }, properties: {} });
    return;
  }
  if ($('p-move').getAttribute('aria-pressed') === 'true') {
    press('p-move', false);
    card.move(e.lngLat.wrap()).catch((err) => { $('p-note').textContent = err.message; });
    return;
  }
  const around = [[e.point.x - 5, e.point.y - 5], [e.point.x + 5, e.point.y + 5]];
  const [hit] = map.queryRenderedFeatures(around, { layers: layerIDs.filter((l) => map.getLayer(l)).reverse() });
  if (!hit) return;
  if (hit.properties.count > 1) map.easeTo({ center: hit.geometry.coordinates, zoom: Math.min(map.getZoom() + 2, 16) });
  else choose(hit.properties.id);
}

function press(id, on) {
  $(id).setAttribute('aria-pressed', String(on));
  document.body.classList.toggle('adding', on);
}

function readForm() {
  const p = new URLSearchParams();
  if ($('f-name').value) p.set('name', $('f-name').value);
  if ($('f-key').value && $('f-value').value) p.set('properties.' + $('f-key').value, $('f-value').value);
  const iso = (v) => (v ? new Date(v).toISOString() : '..');
  if ($('f-from').value || $('f-to').value) p.set('datetime', iso($('f-from').value) + '/' + iso($('f-to').value));
  return p;
}

function fillForm() {
  const local = (v) => { if (!v || v === '..') return ''; const d = new Date(v); return new Date(d - d.getTimezoneOffset() * 60000).toISOString().slice(0, 16); };
  $('f-name').value = params.get('name') || '';
  const [from, to] = (params.get('datetime') || '/').split('/');
  $('f-from').value = local(from);
  $('f-to').value = local(to);
  const property = [...params].find(([n]) => n.startsWith('properties.'));
  $('f-key').value = property ? property[0].slice('properties.'.length) : '';
  $('f-value').value = property ? property[1] : '';
}

function apply(next) {
  params = next;
  remember(params, card.current()?.id);
  fresh.clear();
  paintFresh();
  refresh();
  followStream();
}

function nearMe() {
  const go = (lon, lat) => {
    const p = readForm();
    p.set('near', `${lon.toFixed(5)},${lat.toFixed(5)},20000`);
    map.jumpTo({ center: [lon, lat], zoom: 10 });
    $('list').open = true;
    apply(p);
  };
  navigator.geolocation?.getCurrentPosition(({ coords }) => go(coords.longitude, coords.latitude), () => {
    const at = map.getCenter().wrap(); // no place is told: the middle of the map
    go(at.lng, at.lat);
  }, { timeout: 5000 });
}

function wire() {
  $('filter').onsubmit = (e) => { e.preventDefault(); apply(readForm()); };
  $('clear').onclick = () => { $('filter').reset(); for (const id of ['f-name', 'f-key', 'f-value', 'f-from', 'f-to']) $(id).value = ''; apply(new URLSearchParams()); };
  $('here').onclick = nearMe;
  $('theme').onclick = () => setTheme(dark() ? 'light' : 'dark');
  $('toggle').onclick = () => {
    const open = $('tools').hidden;
    $('tools').hidden = !open;
    $('toggle').textContent = open ? 'Hide' : 'Show';
    $('toggle').setAttribute('aria-expanded', String(open));
  };
  $('add').onclick = () => press('add', $('add').getAttribute('aria-pressed') !== 'true');
  $('p-move').onclick = () => press('p-move', $('p-move').getAttribute('aria-pressed') !== 'true');
  $('key').value = key.get();
  $('key').onchange = () => { key.set($('key').value.trim()); apply(params); };
  $('list').ontoggle = list;
  $('file').onchange = () => { take($('file').files); $('file').value = ''; };
  card.setUp(refresh, () => remember(params, null));
  for (const kind of ['dragenter', 'dragover']) document.addEventListener(kind, (e) => { e.preventDefault(); $('drop').hidden = false; });
  document.addEventListener('dragleave', (e) => { if (!e.relatedTarget) $('drop').hidden = true; });
  document.addEventListener('drop', (e) => { e.preventDefault(); $('drop').hidden = true; take(e.dataTransfer.files); });
}

function take(files) {
  $('edit').open = true;
  for (const file of files) load(file, $('uploads'), (answer) => { version = Math.max(version, answer.position || 0); refresh(); });
}

async function start() {
  const saved = localStorage.getItem('cairn-theme');
  document.documentElement.dataset.theme = saved || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  if (innerWidth <= 640) { $('tools').hidden = true; $('toggle').textContent = 'Show'; $('toggle').setAttribute('aria-expanded', 'false'); }
  if (!window.maplibregl) return fatal('This build has no map: build it with make build, which puts the map library in.');
  maplibregl.setWorkerUrl(url('lib/maplibre-gl-csp-worker.js')); // a file of ours, as the page's policy wants it
  fillForm();
  map = new maplibregl.Map({ container: 'map', style: await baseStyle(), hash: 'map', center: [10, 25], zoom: 1.5, maxZoom: 20, attributionControl: { compact: true },
    transformRequest: (address) => ({ url: address }) });
  map.addControl(new maplibregl.NavigationControl({ showCompass: false }), 'top-right');
  map.addControl(new maplibregl.ScaleControl(), 'bottom-right');
  map.on('load', () => { addPoints(); followStream(); count(); if (chosenPoint()) choose(chosenPoint(), !location.hash.includes('map=')); });
  map.on('moveend', () => { count(); list(); });
  map.on('click', onClick);
  for (const layer of layerIDs) {
    map.on('mouseenter', layer, () => { map.getCanvas().style.cursor = 'pointer'; });
    map.on('mouseleave', layer, () => { map.getCanvas().style.cursor = ''; });
  }
  map.on('idle', () => { document.body.dataset.idle = String(Number(document.body.dataset.idle || 0) + 1); });
  wire();
  window.cairnMap = map; // for tests, and for the curious
}

start().catch((e) => fatal(e.message));
