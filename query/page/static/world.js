// The outline of the world: rings that cross the antimeridian are made to go on
// beyond it, and its meridian is no coast.

/** From a GeoJSON feature or collection of polygons: areas to fill and lines to draw. */
export function outline(world) {
  const features = world.features || [world];
  const polygons = features.flatMap((f) => (f.geometry.type === 'Polygon' ? [f.geometry.coordinates] : f.geometry.coordinates));
  return {
    land: geometry('MultiPolygon', polygons.map((rings) => rings.map(unwrapped))),
    coast: geometry('MultiLineString', polygons.flat().flatMap(lines)),
  };
}

const geometry = (type, coordinates) => ({ type: 'Feature', properties: {}, geometry: { type, coordinates } });

function unwrapped(ring) {
  let shift = 0, last = ring[0][0];
  const out = ring.map(([lon, lat]) => {
    if (lon - last > 180) shift -= 360;
    if (lon - last < -180) shift += 360;
    last = lon;
    return [lon + shift, lat];
  });
  return shift === 0 ? out : ring; // around a pole it does not close: as it is
}

function lines(ring) {
  const parts = [[ring[0]]];
  for (let i = 1; i < ring.length; i++) {
    const [a, b] = [ring[i - 1], ring[i]];
    const cut = Math.abs(b[0] - a[0]) > 180 || (Math.abs(a[0]) > 179.9 && Math.abs(b[0]) > 179.9);
    if (cut) parts.push([b]);
    else parts[parts.length - 1].push(b);
  }
  return parts.filter((p) => p.length > 1);
}
