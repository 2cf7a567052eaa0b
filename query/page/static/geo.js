// Distances and directions on the globe, as far as a map page needs them.

const radius = 6371008.8; // metres: the mean of the earth
const rad = Math.PI / 180;

/** Metres between two places [longitude, latitude], along the great circle. */
export function metres([lon1, lat1], [lon2, lat2]) {
  const a = Math.sin((lat2 - lat1) * rad / 2) ** 2 + Math.cos(lat1 * rad) * Math.cos(lat2 * rad) * Math.sin((lon2 - lon1) * rad / 2) ** 2;
  return 2 * radius * Math.asin(Math.min(1, Math.sqrt(a)));
}

/** The direction from one place to another, degrees from north; null where they are one. */
export function bearing([lon1, lat1], [lon2, lat2]) {
  if (lon1 === lon2 && lat1 === lat2) return null;
  const d = (lon2 - lon1) * rad;
  const y = Math.sin(d) * Math.cos(lat2 * rad);
  const x = Math.cos(lat1 * rad) * Math.sin(lat2 * rad) - Math.sin(lat1 * rad) * Math.cos(lat2 * rad) * Math.cos(d);
  return (Math.atan2(y, x) / rad + 360) % 360;
}

/** The longitude that is nearest to another one: a line over the antimeridian goes on beyond it. */
export const beside = (lon, other) => lon - 360 * Math.round((lon - other) / 360);

/** Whether a place is in the circle of the filter "near", or there is none. */
export function isNear(near, place) {
  if (!near) return true;
  const [lon, lat, most] = near.split(',').map(Number);
  return metres([lon, lat], place) <= most;
}
