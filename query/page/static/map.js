// How the map is drawn: the outline of the world, or a style of the operator's, and
// the points over it.

import { url } from './state.js';
import { outline } from './world.js';

export const config = JSON.parse(document.querySelector('meta[name="cairn"]')?.content || '{}');
export const layerIDs = ['clusters', 'dots', 'fresh'];

export const dark = () => document.documentElement.dataset.theme === 'dark';

const colours = {
  light: { sea: '#d7e6ee', land: '#f6f4ed', coast: '#9db0ab', low: '#5fb8a8', mid: '#148a77', high: '#07463c', rim: '#ffffff', fresh: '#d4483b', chosen: '#c2410c' },
  dark: { sea: '#0e181d', land: '#22302d', coast: '#4a5d58', low: '#2f8375', mid: '#4fd1bd', high: '#d6fff7', rim: '#0e181d', fresh: '#ff7a6b', chosen: '#ffb454' },
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

export const collection = (features) => ({ type: 'FeatureCollection', features });

export function addPoints(map, tiles) {
  map.addSource('points', { type: 'vector', tiles: [tiles], maxzoom: 14, promoteId: 'id' });
  for (const name of ['fresh', 'chosen']) map.addSource(name, { type: 'geojson', data: collection([]) });
  for (const layer of layers()) map.addLayer(layer);
  paint(map);
}

/** Colours for the theme. Those of an operator's style are its own. */
export function paint(map) {
  if (!map.getLayer('dots')) return;
  const c = dark() ? colours.dark : colours.light;
  if (!config.style) {
    map.setPaintProperty('sea', 'background-color', c.sea);
    map.setPaintProperty('land', 'fill-color', c.land);
    map.setPaintProperty('coast', 'line-color', c.coast);
  }
  map.setPaintProperty('clusters', 'circle-color', shade(c));
  map.setPaintProperty('dots', 'circle-color', c.mid);
  map.setPaintProperty('fresh', 'circle-color', c.fresh);
  for (const layer of layerIDs) map.setPaintProperty(layer, 'circle-stroke-color', c.rim);
  map.setPaintProperty('chosen', 'circle-stroke-color', c.chosen);
}
