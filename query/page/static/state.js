// What the page shows is in its URL, so that a link shows the same: filters in the
// query string, the map's place in the fragment (MapLibre's own), what is open beside the
// filters.

const names = ['name', 'datetime', 'near'];

/** The filters that are set, as the parameters that GET /points takes. */
export function filters(search = location.search) {
  const out = new URLSearchParams();
  for (const [name, value] of new URLSearchParams(search)) {
    if (value !== '' && (names.includes(name) || name.startsWith('properties.'))) out.append(name, value);
  }
  return out;
}

// What else the address says: the view (points or devices), the point or device whose
// card is open, and of a device's track which span is shown, and the time on it.
const members = ['view', 'point', 'device', 'span', 'at'];
const now = Object.fromEntries(members.map((m) => [m, new URLSearchParams(location.search).get(m)]));

export const chosen = (member) => now[member];

/** Replaces the filters in the URL, and the members that change; the fragment stays. */
export function remember(params, changes = {}) {
  Object.assign(now, changes);
  const next = new URLSearchParams(params);
  for (const m of members) if (now[m]) next.set(m, now[m]);
  const query = next.toString();
  history.replaceState(null, '', (query ? '?' + query : location.pathname) + location.hash);
}

/** A URL of this service, whatever prefix a proxy gave it. */
export function url(path, params) {
  const u = new URL(path, new URL('.', document.baseURI));
  if (params) u.search = params.toString();
  return u.href;
}

const keyName = 'cairn-key';
export const key = {
  get: () => sessionStorage.getItem(keyName) || '',
  set: (value) => (value ? sessionStorage.setItem(keyName, value) : sessionStorage.removeItem(keyName)),
};

export function headers(more = {}) {
  return key.get() ? { ...more, Authorization: 'Bearer ' + key.get() } : more;
}

/** fetch, whose failure is an Error with what the server said. */
export async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (response.ok || options.accept?.includes(response.status)) return response;
  let said = '';
  try { said = (await response.json()).detail; } catch { /* not a problem document */ }
  throw new Error(said || `the server answered ${response.status}`);
}
