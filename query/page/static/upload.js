// Loading files: one request each, with its progress and the rejected rows.

import { headers, key, url } from './state.js';

const types = {
  csv: 'text/csv', tsv: 'text/tab-separated-values', tab: 'text/tab-separated-values', txt: 'text/csv',
  geojson: 'application/geo+json', json: 'application/json', ndjson: 'application/x-ndjson', jsonl: 'application/x-ndjson',
  geojsonl: 'application/x-ndjson', geojsons: 'application/geo+json-seq', gpx: 'application/gpx+xml', kml: 'application/vnd.google-earth.kml+xml', xml: 'application/xml',
};

/** A key that is the same for the same file, so that dropping it twice adds nothing. */
async function fileKey(file) {
  if (!crypto.subtle || file.size > 256 << 20) return `${file.name}-${file.size}-${file.lastModified}`.replace(/[^!-~]/g, '_').slice(0, 255);
  const sum = await crypto.subtle.digest('SHA-256', await file.arrayBuffer());
  return 'page-' + Array.from(new Uint8Array(sum), (b) => b.toString(16).padStart(2, '0')).join('');
}

export async function load(file, into, done) {
  const box = document.createElement('div');
  box.className = 'upload';
  const title = document.createElement('div');
  const bar = document.createElement('progress');
  bar.max = 1;
  bar.setAttribute('aria-label', 'Progress of ' + file.name);
  title.textContent = file.name + ': sending';
  box.append(title, bar);
  into.prepend(box);
  const extension = file.name.toLowerCase().replace(/\.gz$/, '').split('.').pop(); // what is packed is known by its beginning
  const type = types[extension];
  if (!type) {
    bar.remove();
    title.textContent = `${file.name}: this page takes ${Object.keys(types).join(', ')}. Others can be converted: ogr2ogr -f GeoJSONSeq out.geojsonl ${file.name}`;
    return;
  }
  const request = new XMLHttpRequest(); // fetch has no progress of what is sent
  request.open('POST', url('point'));
  const all = headers({ 'Content-Type': type, 'Idempotency-Key': await fileKey(file), Prefer: 'wait=30' });
  for (const [name, value] of Object.entries(all)) request.setRequestHeader(name, value);
  request.upload.onprogress = (e) => { if (e.lengthComputable) bar.value = e.loaded / e.total; };
  request.onerror = () => { bar.remove(); title.textContent = `${file.name}: the connection broke. Drop the file again: what was stored is not stored twice.`; };
  request.onload = () => {
    bar.remove();
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* told below */ }
    if (request.status < 300 && answer.id !== undefined) answer.accepted = 1; // a file of one Feature is answered as one point
    report(file.name, request.status, answer, title, box);
    if (answer.accepted) done(answer);
  };
  request.send(file);
}

function report(name, status, answer, title, box) {
  const counts = ['accepted', 'rejected', 'created', 'replaced', 'unchanged', 'deleted_before', 'conflicts']
    .filter((n) => typeof answer[n] === 'number' && (answer[n] > 0 || n === 'accepted')).map((n) => `${answer[n]} ${n.replace('_', ' ')}`);
  title.textContent = `${name}: ` + (status < 300 ? counts.join(', ') : `${answer.detail || 'refused with ' + status}${counts.length ? ' (' + counts.join(', ') + ')' : ''}`);
  const rows = [...(answer.rejections || []).map((r) => `row ${r.row}: ${r.reason}`),
    ...(answer.warnings || []).map((w) => `warning${w.row ? ', row ' + w.row : ''}: ${w.field ? w.field + ': ' : ''}${w.reason}${w.count > 1 ? ` (${w.count} rows so)` : ''}`)];
  if (rows.length === 0) return;
  const list = document.createElement('ul');
  for (const text of rows) {
    const item = document.createElement('li');
    item.textContent = text;
    list.append(item);
  }
  box.append(list);
}
