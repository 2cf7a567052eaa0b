// The map page: points as vector tiles, what is new from the stream, or where each
// device is; filters, a card for a point, editing, and files.

import * as card from './card.js';
import * as devices from './devices.js';
import { isNear } from './geo.js';
import { follow } from './live.js';
import { addPoints, baseStyle, boxOf, collection, dark, deviceLayer, layerIDs, paint, showLayers } from './map.js';
import { ask, chosen, filters, headers, key, remember, url } from './state.js';
import { local, setUpTime } from './time.js';
import { say } from './toast.js';
import * as track from './track.js';
import { load } from './upload.js';

const $ = (id) => document.getElementById(id);
const maxFresh = 2000; // points of the stream that are drawn beside the tiles
const refreshAfter = 3000; // ms from the first change to new tiles
const phone = 640; // pixels: narrower is a phone

let params = filters();
let map, stop, version = 0, stale = null;
let tracking = false; // devices are shown, not points
const fresh = new Map(); // Features of the stream that no tile has yet, by id

function fatal(text) {
  $('fatal').textContent = text;
  $('fatal').hidden = false;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $('theme').textContent = theme === 'dark' ? 'Light' : 'Dark';
  if (map) paint(map);
}

const tileURL = () => {
  const p = new URLSearchParams(params);
  if (version) p.set('min_position', version);
  const query = p.toString();
  return url('collections/points/tiles/WebMercatorQuad/') + '{z}/{y}/{x}' + (query ? '?' + query : '');
};

/** New tiles, as new as what the stream has told. */
function refresh() {
  stale = null;
  if (tracking) return; // the stream tells of devices
  map.getSource('points')?.setTiles([tileURL()]);
  map.once('idle', () => { fresh.clear(); paintFresh(); list(); });
  count();
}

function refreshSoon() { stale ??= setTimeout(refresh, refreshAfter); }

function paintFresh() {
  map.getSource('fresh')?.setData(collection([...fresh.values()]));
}

const streamState = ({ on }) => { $('live').textContent = on ? 'live' : 'reconnecting'; $('live').classList.toggle('on', on); };

function followStream() {
  stop?.();
  let painting = false;
  const near = params.get('near');
  const seen = ({ position, data }) => {
    version = Math.max(version, position);
    fresh.delete(data.id);
    refreshSoon();
    if (!isNear(near, data.geometry.coordinates)) return;
    fresh.set(data.id, { type: 'Feature', geometry: data.geometry, properties: { id: String(data.id), name: data.properties?.name || '' } });
    if (fresh.size > maxFresh) fresh.delete(fresh.keys().next().value);
    if (!painting) { painting = true; requestAnimationFrame(() => { painting = false; paintFresh(); }); }
  };
  stop = follow(params, {
    state: streamState,
    created: seen,
    updated: (e) => { seen(e); if (String(card.current()?.id) === String(e.data.id)) card.show(e.data.id, false); },
    deleted: ({ position, data }) => { version = Math.max(version, position); fresh.delete(data.id); paintFresh(); refreshSoon(); },
    reset: () => refreshSoon(),
  });
}

let telling = null;

/** Counts and lists the devices anew, some times a second at most. */
function tellDevices() {
  telling ??= setTimeout(() => { telling = null; if (tracking) { countDevices(); list(); } }, 250);
}

function followDevices() {
  let failed = null;
  devices.show(map, params, {
    state: streamState,
    failed: (e) => { failed = e; if (e) $('count').textContent = e.message; },
    changed: (name, feature) => {
      if (!failed) tellDevices();
      if (!feature || name !== chosen('device') || !card.current()) return;
      card.renew(feature);
      track.append(Date.parse(feature.time || feature.received), feature.geometry.coordinates);
    },
  });
}

/** Shows the points, or the devices. */
function view(asDevices) {
  if (asDevices !== tracking && card.current()) card.close();
  tracking = asDevices;
  stop?.();
  stop = null;
  devices.halt();
  fresh.clear();
  paintFresh();
  showLayers(map, tracking);
  document.querySelector(`#views input[value="${tracking ? 'devices' : 'points'}"]`).checked = true;
  $('list-title').textContent = tracking ? 'Devices' : 'Points in view';
  $('find').hidden = !tracking;
  $('rows').replaceChildren();
  $('count').textContent = $('rows-note').textContent = '';
  $('empty').hidden = true;
  remember(params, { view: tracking ? 'devices' : null });
  if (tracking) { followDevices(); return; }
  followStream();
  refresh();
  list();
}

function countDevices() {
  const n = devices.size(), seen = devices.countIn(map.getBounds());
  $('count').textContent = `${seen.toLocaleString()} of ${n.toLocaleString()} ${n === 1 ? 'device' : 'devices'} in view`;
  $('empty').textContent = n > 0 ? devices.lack() : [...params].length > 0 ? 'No device passes the filter.' : 'There are no devices yet: each name of points is one. Phones and trackers send theirs with each fix.';
  $('empty').hidden = !$('empty').textContent;
}

let counting = 0;
async function count() {
  if (tracking) { countDevices(); return; }
  const mine = ++counting;
  const p = new URLSearchParams(params);
  if (!p.has('near')) p.set('bbox', boxOf(map.getBounds()));
  p.set('limit', 1);
  p.set('numberMatched', 'true');
  try {
    const page = await (await ask(url('points', p), { cache: 'no-cache' })).json();
    if (mine !== counting || page.numberMatched === undefined) return;
    const n = page.numberMatched;
    $('count').textContent = `${n.toLocaleString()} ${n === 1 ? 'point' : 'points'} ${p.has('near') ? 'near here' : 'in view'}`;
    $('empty').hidden = n > 0;
    if (n === 0) $('empty').textContent = await whyEmpty();
  } catch (e) {
    if (mine === counting) $('count').textContent = e.message;
  }
}

/** What to do where nothing is shown. */
async function whyEmpty() {
  if ([...params].length > 0) return 'Nothing here passes the filter. Clear it, or look elsewhere.';
  const { features } = await (await ask(url('points', new URLSearchParams({ limit: 1 })))).json();
  return features.length > 0 ? 'There are points elsewhere: zoom out to see them.' : 'There are no points yet. Drop a file on the map, or add one below.';
}

async function list() {
  if (!$('list').open) return;
  if (tracking) { devices.list($('f-find').value, (name) => chooseDevice(name, { fly: true })); return; }
  const p = new URLSearchParams(params);
  if (!p.has('near')) p.set('bbox', boxOf(map.getBounds()));
  p.set('limit', 50);
  try {
    const page = await (await ask(url('points', p), { cache: 'no-cache' })).json();
    $('rows').replaceChildren(...page.features.map((f) => {
      const item = document.createElement('li');
      const button = document.createElement('button');
      button.type = 'button';
      const [name, place] = [document.createElement('span'), document.createElement('small')];
      name.textContent = f.properties?.name || f.properties?.title || f.id;
      place.textContent = `${f.geometry.coordinates[1].toFixed(3)}, ${f.geometry.coordinates[0].toFixed(3)}`;
      button.append(name, place);
      button.onclick = () => choose(f.id);
      item.append(button);
      return item;
    }));
    $('rows-note').textContent = page.features.length < 50 ? '' : p.has('near') ? 'The 50 nearest.' : 'The newest 50.';
  } catch (e) {
    $('rows-note').textContent = e.message;
  }
}

/** Moves the map to a place, above the card where that is below. */
function goTo(feature) {
  map.easeTo({ center: feature.geometry.coordinates.slice(0, 2), zoom: Math.max(map.getZoom(), 9), offset: [0, innerWidth <= phone ? -innerHeight / 5 : 0], duration: 0 });
}

async function choose(id, fly = false) {
  try {
    track.close();
    const feature = await card.show(id);
    if (innerWidth <= phone) openTools(false);
    if (feature && fly) goTo(feature);
    $('p-track').hidden = tracking || typeof feature?.properties?.name !== 'string';
    remember(params, { point: feature ? id : null, device: null, at: null });
  } catch (e) {
    say(e.message);
  }
}

/** Opens the card of a device, and its track. */
async function chooseDevice(name, { fly = false, whole = false, from = null } = {}) {
  try {
    const { features: [newest] } = await (await ask(url('latest', new URLSearchParams({ name })), { cache: 'no-cache' })).json();
    if (!newest) { say(`There is no device ${name}.`); return; }
    await choose(newest.id, fly);
    remember(params, { point: null, device: name, at: from });
    await track.open(name, Date.parse(newest.time || newest.received), { from, whole });
  } catch (e) {
    say(e.message);
  }
}

/** Rings the point whose card is open. */
function ring(feature) {
  map.getSource('chosen')?.setData(collection(feature ? [{ type: 'Feature', properties: {}, geometry: feature.geometry }] : []));
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
    card.move(e.lngLat.wrap()).catch((err) => say(err.message));
    return;
  }
  const around = [[e.point.x - 5, e.point.y - 5], [e.point.x + 5, e.point.y + 5]];
  const [hit] = map.queryRenderedFeatures(around, { layers: tracking ? [deviceLayer] : [...layerIDs].reverse() });
  if (!hit) return;
  if (tracking) { chooseDevice(hit.properties.name); return; }
  if (hit.properties.id === undefined) map.easeTo({ center: hit.geometry.coordinates, zoom: Math.min(map.getZoom() + 2, 16) });
  else choose(hit.properties.id);
}

function press(id, on) {
  $(id).setAttribute('aria-pressed', String(on));
  document.body.classList.toggle('adding', on);
}

function toggle(id, hint) {
  const on = $(id).getAttribute('aria-pressed') !== 'true';
  press(id, on);
  if (on) say(hint);
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
  $('f-name').value = params.get('name') || '';
  const [from, to] = (params.get('datetime') || '/').split('/');
  $('f-from').value = local(Date.parse(from));
  $('f-to').value = local(Date.parse(to));
  const property = [...params].find(([n]) => n.startsWith('properties.'));
  $('f-key').value = property ? property[0].slice('properties.'.length) : '';
  $('f-value').value = property ? property[1] : '';
  showFormats();
}

const formats = [['csv', 'CSV'], ['csv', 'CSV for spreadsheets', { spreadsheet: 'true' }], ['geojson', 'GeoJSON'], ['parquet', 'GeoParquet'], ['ndjson', 'NDJSON'], ['gpx', 'GPX'], ['kml', 'KML']];

function showFormats() {
  $('formats').replaceChildren(...formats.map(([format, text, more]) => {
    const p = new URLSearchParams(params);
    for (const [name, value] of Object.entries(more || {})) p.set(name, value);
    if (key.get()) p.set('key', key.get()); // a link sends no header
    const link = document.createElement('a');
    link.href = url('points.' + format, p);
    link.textContent = text;
    link.download = '';
    return link;
  }));
}

function apply(next) {
  params = next;
  showFormats();
  view(tracking);
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

function openTools(open) {
  $('tools').hidden = !open;
  $('toggle').textContent = open ? 'Hide' : 'Show';
  $('toggle').setAttribute('aria-expanded', String(open));
}

function wire() {
  for (const input of document.querySelectorAll('#views input')) input.onchange = () => view(input.value === 'devices');
  $('f-find').oninput = list;
  $('p-track').onclick = () => {
    const { name } = card.current().properties;
    view(true);
    chooseDevice(name, { whole: true });
  };
  $('filter').onsubmit = (e) => { e.preventDefault(); apply(readForm()); };
  $('clear').onclick = () => { $('filter').reset(); $('span').selectedIndex = 0; for (const id of ['f-name', 'f-key', 'f-value', 'f-from', 'f-to']) $(id).value = ''; apply(new URLSearchParams()); };
  $('here').onclick = nearMe;
  $('theme').onclick = () => {
    const theme = dark() ? 'light' : 'dark';
    localStorage.setItem('cairn-theme', theme);
    setTheme(theme);
  };
  $('toggle').onclick = () => openTools($('tools').hidden);
  $('add').onclick = () => { toggle('add', 'Click the map where the point is. Escape ends it.'); if (innerWidth <= phone) openTools(false); };
  $('p-move').onclick = () => toggle('p-move', 'Click the map where the point belongs. Escape ends it.');
  $('key').value = key.get();
  $('key').onchange = () => { key.set($('key').value.trim()); apply(params); };
  $('list').ontoggle = list;
  document.querySelector('.skip').onclick = async (e) => { // the fragment is the map's place
    e.preventDefault();
    openTools(true);
    $('list').open = true;
    await list();
    $('rows').focus();
  };
  $('file').onchange = () => { take($('file').files); $('file').value = ''; };
  card.setUp(refresh, () => { track.close(); remember(params, { point: null, device: null, at: null }); }, ring);
  document.addEventListener('keydown', (e) => { if (e.key === 'Escape') { press('add', false); press('p-move', false); } });
  for (const kind of ['dragenter', 'dragover']) document.addEventListener(kind, (e) => { e.preventDefault(); $('drop').hidden = false; });
  document.addEventListener('dragleave', (e) => { if (!e.relatedTarget) $('drop').hidden = true; });
  document.addEventListener('drop', (e) => { e.preventDefault(); $('drop').hidden = true; take(e.dataTransfer.files); });
}

function take(files) {
  $('edit').open = true;
  for (const file of files) load(file, $('uploads'), (answer) => { version = Math.max(version, answer.position || 0); refresh(); });
}

async function start() {
  setTheme(localStorage.getItem('cairn-theme') || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'));
  if (innerWidth <= phone) openTools(false);
  const placed = location.hash.includes('map='); // else by the point
  maplibregl.setWorkerUrl(url('lib/maplibre-gl-csp-worker.js')); // a file of ours, as the page's policy wants it
  fillForm();
  map = new maplibregl.Map({ container: 'map', style: await baseStyle(), hash: 'map', center: [10, 25], zoom: 1.5, maxZoom: 20, attributionControl: { compact: true }, fadeDuration: 0, // letters of what moves would flicker
    
    transformRequest: (address) => (address.startsWith(url('')) ? { url: address, headers: headers() } : { url: address }) });
  map.addControl(new maplibregl.NavigationControl({ showCompass: false }), 'top-right');
  map.addControl(new maplibregl.ScaleControl(), 'bottom-right');
  map.on('load', () => {
    addPoints(map, tileURL());
    track.setUp(map, (changes) => remember(params, changes));
    const [point, device, from] = ['point', 'device', 'at'].map(chosen); // before they are another's
    view(chosen('view') === 'devices');
    document.body.dataset.ready = 'yes';
    document.querySelector('.maplibregl-compact-show')?.classList.remove('maplibregl-compact-show');
    if (tracking && device) chooseDevice(device, { from, whole: !placed });
    else if (point) choose(point, !placed);
  });
  map.on('error', (e) => { if (e.error?.status >= 400) say(`The map could not be drawn: the server answered ${e.error.status}.`); });
  map.on('moveend', () => { devices.moved(); count(); list(); });
  map.on('click', onClick);
  for (const layer of [...layerIDs, deviceLayer]) {
    map.on('mouseenter', layer, () => { map.getCanvas().style.cursor = 'pointer'; });
    map.on('mouseleave', layer, () => { map.getCanvas().style.cursor = ''; });
  }
  map.on('idle', () => { document.body.dataset.idle = String(Number(document.body.dataset.idle || 0) + 1); });
  wire();
  window.cairnMap = map; // for tests, and for the curious
  await setUpTime(() => apply(readForm())).catch(() => { /* without a slider */ });
}

start().catch((e) => fatal(e.message));
