// One stream for all tabs of a browser: HTTP/1.1 gives a browser six connections to
// a host, and a stream holds one of them. The tab that holds the lock reads the
// stream and tells the others; when it closes, another gets the lock. Who comes later
// asks how the stream is.

import { key, url } from './state.js';

export function follow(filter, on) {
  const params = new URLSearchParams(filter);
  params.delete('near'); // the stream has no order to be nearest in
  const name = 'cairn-stream ' + url('stream', params);
  const channel = new BroadcastChannel(name);
  let state = null; // of the stream that this tab reads
  channel.onmessage = ({ data }) => {
    if (data.kind !== 'ask') handle(data, on);
    else if (state) channel.postMessage(state);
  };
  channel.postMessage({ kind: 'ask' });
  const ended = new AbortController();
  navigator.locks.request(name, { signal: ended.signal }, () => read(params, ended.signal, (what) => {
    if (what.kind === 'state') state = what;
    handle(what, on);
    channel.postMessage(what);
  })).catch(() => { /* ended before this tab got the lock */ });
  return () => { ended.abort(); channel.close(); };
}

function handle(what, on) {
  on[what.kind]?.(what);
}

function read(params, signal, tell) {
  return new Promise((done) => {
    if (key.get()) params.set('key', key.get()); // an EventSource sends no header
    const source = new EventSource(url('stream', params));
    const event = (kind) => (e) => tell({ kind, position: Number(e.lastEventId) || 0, data: e.data ? JSON.parse(e.data) : null });
    source.onopen = () => tell({ kind: 'state', on: true });
    source.onerror = () => tell({ kind: 'state', on: false });
    source.onmessage = event('created');
    source.addEventListener('updated', event('updated'));
    source.addEventListener('deleted', event('deleted'));
    source.addEventListener('reset', event('reset'));
    signal.addEventListener('abort', () => { source.close(); done(); });
  });
}
