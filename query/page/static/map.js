// How the map is drawn: the outline of the world, or a style of the operator's, and
// the points over it.

import { url } from './state.js';
import { outline } from './world.js';

export const config = JSON.parse(document.querySelector('meta[name="cairn"]')?.content || '{}');
export const layerIDs = ['clusters', 'dots', 'fresh'];
export const deviceLayer = 'devices';
const trackLayers = ['track-rim', 'track', 'track-fixes', 'tail', 'there'];

export const dark = () => document.documentElement.dataset.theme === 'dark';

const colours = {
  light: { sea: '#d7e6ee', land: '#f6f4ed', coast: '#9db0ab', low: '#5fb8a8', mid: '#148a77', high: '#07463c', rim: '#ffffff', fresh: '#d4483b', chosen: '#c2410c', device: '#1d4ed8', track: '#6d28d9', tail: '#c2410c', text: '#16211f' },
  dark: { sea: '#0e181d', land: '#22302d', coast: '#4a5d58', low: '#2f8375', mid: '#4fd1bd', high: '#d6fff7', rim: '#0e181d', fresh: '#ff7a6b', chosen: '#ffb454', device: '#8ab8ff', track: '#c4a7ff', tail: '#ffb454', text: '#eef5f3' },
};

export async function baseStyle() {
  if (config.style) return config.style;
  const world = await (await fetch(url('lib/land-50m.json'))).json();
  const { land, coast } = outline(topojson.feature(world, world.objects.land));
  return {
    version: 8,
    sources: { land: { type: 'geojson', data: land, attribution: 'Outline: Natural Earth' }, coast: { type: 'geojson', data: coast } },
    layers: [
      { id: 'sea', type: 'background', paint: { 'background-color': colours.light.sea } },
      { id: 'land', type: 'fill', source: 'land', paint: { 'fill-color': colours.light.land, 'fill-antialias': false } },
      { id: 'coast', type: 'line', source: 'coast', paint: { 'line-color': colours.light.coast, 'line-width': 0.6 } },
    ],
  };
}

// Clusters stand 8 pixels apart: small ones leave room between them, and what there
// is more of is larger and darker.
const count = ['coalesce', ['get', 'count'], 1];
const radius = ['interpolate', ['linear'], ['ln', count], 0, 2.8, 2, 3.6, 4.6, 5.5, 7, 9, 9.2, 14, 14, 22];
const shade = (c) => ['interpolate', ['linear'], ['ln', count], 0, c.low, 4.6, c.mid, 10, c.high];

function layers() {
  const c = colours.light;
  const many = ['>', count, 1];
  return [
    { id: 'clusters', type: 'circle', source: 'points', 'source-layer': 'points', filter: many, layout: { 'circle-sort-key': count },
      paint: { 'circle-radius': radius, 'circle-color': shade(c), 'circle-opacity': 0.85, 'circle-stroke-color': c.rim, 'circle-stroke-width': 0.5 } },
    { id: 'dots', type: 'circle', source: 'points', 'source-layer': 'points', filter: ['!', many],
      paint: { 'circle-radius': ['interpolate', ['linear'], ['zoom'], 2, 2.4, 8, 3.6, 14, 6], 'circle-color': c.mid, 'circle-stroke-color': c.rim, 'circle-stroke-width': 1 } },
    { id: 'fresh', type: 'circle', source: 'fresh',
      paint: { 'circle-radius': ['interpolate', ['linear'], ['zoom'], 2, 3.5, 12, 7], 'circle-color': c.fresh, 'circle-stroke-color': c.rim, 'circle-stroke-width': 1.5 } },
    { id: 'chosen', type: 'circle', source: 'chosen',
      paint: { 'circle-radius': 11, 'circle-opacity': 0, 'circle-stroke-color': c.chosen, 'circle-stroke-width': 3 } },
  ];
}

// A device is a dot, or an arrow where it says whither it goes. The letters are drawn by
// the browser, in its own font, unless the operator's style brings letters.
function deviceLayers(font) {
  const c = colours.light;
  const line = { 'line-cap': 'round', 'line-join': 'round' };
  const mark = { 'icon-allow-overlap': true, 'icon-ignore-placement': true, 'icon-rotation-alignment': 'map',
    'icon-image': ['case', ['has', 'heading'], 'arrow', 'dot'], 'icon-rotate': ['coalesce', ['get', 'heading'], 0] };
  return [
    { id: 'track-rim', type: 'line', source: 'track', layout: line, paint: { 'line-color': c.rim, 'line-width': 6, 'line-opacity': 0.8 } },
    { id: 'track', type: 'line', source: 'track', layout: line, paint: { 'line-color': c.track, 'line-width': 3 } },
    { id: 'track-fixes', type: 'circle', source: 'track', minzoom: 13, paint: { 'circle-radius': 3.5, 'circle-color': c.rim, 'circle-stroke-color': c.track, 'circle-stroke-width': 2 } },
    { id: 'tail', type: 'line', source: 'tail', layout: line, paint: { 'line-color': c.tail, 'line-width': 5 } },
    { id: deviceLayer, type: 'symbol', source: 'devices',
      layout: { ...mark, 'symbol-sort-key': ['get', 'age'], 'icon-size': ['interpolate', ['linear'], ['zoom'], 2, 0.7, 10, 1], 'text-field': ['get', 'name'], 'text-optional': true,
        'text-size': 13, 'text-anchor': 'top', 'text-offset': [0, 0.8], 'text-max-width': 12, ...(font && { 'text-font': font }) },
      paint: { 'icon-opacity': ['case', ['get', 'quiet'], 0.5, 1], 'text-color': c.text, 'text-halo-color': c.land, 'text-halo-width': 1.5 } },
    { id: 'there', type: 'symbol', source: 'there', layout: { ...mark, 'icon-image': ['case', ['has', 'heading'], 'arrow-there', 'dot-there'], 'icon-size': 1.25 } },
  ];
}

const markSize = 26, sharp = 2; // pixels on the map, and how many of the image are one

/** The image of a mark: an arrow to the north, or a dot. */
function drawMark(arrow, fill, rim) {
  const canvas = Object.assign(document.createElement('canvas'), { width: markSize * sharp, height: markSize * sharp });
  const pen = canvas.getContext('2d');
  pen.scale(sharp, sharp);
  pen.translate(markSize / 2, markSize / 2);
  pen.beginPath();
  if (arrow) for (const [x, y] of [[0, -11], [8, 9], [0, 5], [-8, 9]]) pen.lineTo(x, y);
  else pen.arc(0, 0, 6, 0, 2 * Math.PI);
  pen.closePath();
  Object.assign(pen, { fillStyle: fill, strokeStyle: rim, lineWidth: 2, lineJoin: 'round' });
  pen.fill();
  pen.stroke();
  return pen.getImageData(0, 0, canvas.width, canvas.height);
}

function drawMarks(map, c) {
  for (const [kind, fill] of [['', c.device], ['-there', c.tail]]) {
    for (const shape of ['arrow', 'dot']) {
      const image = drawMark(shape === 'arrow', fill, c.rim);
      if (map.hasImage(shape + kind)) map.updateImage(shape + kind, image);
      else map.addImage(shape + kind, image, { pixelRatio: sharp });
    }
  }
}

/** MapLibre's bounds as the parameter bbox. */
export function boxOf(bounds) {
  const clamp = (n, most) => Math.max(-most, Math.min(most, n));
  const [w, e] = bounds.getEast() - bounds.getWest() >= 360 ? [-180, 180] : [bounds.getWest(), bounds.getEast()];
  return [w, clamp(bounds.getSouth(), 90), e, clamp(bounds.getNorth(), 90)].map((n) => n.toFixed(6)).join(',');
}

export const collection = (features) => ({ type: 'FeatureCollection', features });

export function addPoints(map, tiles) {
  map.addSource('points', { type: 'vector', tiles: [tiles], maxzoom: 14, promoteId: 'id' });
  for (const name of ['fresh', 'chosen', 'track', 'tail', 'devices', 'there']) map.addSource(name, { type: 'geojson', data: collection([]) });
  const lettered = map.getStyle().layers.find((l) => l.type === 'symbol' && Array.isArray(l.layout?.['text-font']));
  drawMarks(map, colours.light);
  for (const layer of [...layers(), ...deviceLayers(lettered?.layout['text-font'])]) map.addLayer(layer);
  paint(map);
}

/** Shows the points, or the devices: tiles that are not shown are not asked for. */
export function showLayers(map, devices) {
  for (const id of [...layerIDs, deviceLayer, ...trackLayers]) {
    map.setLayoutProperty(id, 'visibility', devices === !layerIDs.includes(id) ? 'visible' : 'none');
  }
}

/** Colours for the theme. Those of an operator's style are its own. */
export function paint(map) {
  if (!map.getLayer('dots')) return;
  const c = dark() ? colours.dark : colours.light;
  const all = [['clusters', 'circle-color', shade(c)], ['dots', 'circle-color', c.mid], ['fresh', 'circle-color', c.fresh], ['chosen', 'circle-stroke-color', c.chosen],
    ...layerIDs.map((layer) => [layer, 'circle-stroke-color', c.rim]), ['track-rim', 'line-color', c.rim], ['track', 'line-color', c.track], ['tail', 'line-color', c.tail],
    ['track-fixes', 'circle-color', c.rim], ['track-fixes', 'circle-stroke-color', c.track], [deviceLayer, 'text-color', c.text], [deviceLayer, 'text-halo-color', c.land]];
  if (!config.style) all.push(['sea', 'background-color', c.sea], ['land', 'fill-color', c.land], ['coast', 'line-color', c.coast]);
  for (const [layer, property, value] of all) map.setPaintProperty(layer, property, value);
  drawMarks(map, c);
}
