// The slider: a span of time that is moved over all the time that the points have.

import { ask, url } from './state.js';

const $ = (id) => document.getElementById(id);
const hour = 3600e3, day = 24 * hour;
const spans = [['any time', 0], ['an hour', hour], ['a day', day], ['a week', 7 * day], ['a month', 30 * day], ['a year', 365 * day], ['ten years', 3652 * day]];
const settle = 250; // ms without a move before points are asked for

let from = 0, to = 0; // of all points, ms

/** The time of the oldest or newest point, ms; NaN where there is none. */
async function edge(order) {
  const page = await (await ask(url('points', new URLSearchParams({ limit: 1, sortby: order })))).json();
  const [f] = page.features;
  return f ? Date.parse(f.time || f.received) : NaN;
}

/** Prepares the slider; changed is called when another time is chosen. */
export async function setUpTime(changed) {
  [from, to] = await Promise.all([edge('time'), edge('-time')]);
  if (!(to > from)) return; // nothing to move over
  $('span').replaceChildren(...spans.filter(([, ms]) => ms < to - from).map(([text, ms]) => new Option(text, String(ms))));
  $('slide').hidden = $('span').length < 2;
  let timer = null;
  const soon = () => { show(); clearTimeout(timer); timer = setTimeout(changed, settle); };
  $('slider').oninput = () => { if ($('span').value === '0') $('span').selectedIndex = $('span').length - 1; soon(); };
  $('span').onchange = soon;
}

/** Puts the span where the slider is into the fields. */
function show() {
  const span = Number($('span').value);
  const begin = from + (to - from - span) * Number($('slider').value) / Number($('slider').max);
  $('f-from').value = span ? local(begin) : '';
  $('f-to').value = span ? local(begin + span + 60e3) : ''; // whole minutes: the last one too
  $('slider').setAttribute('aria-valuetext', span ? `${new Date(begin).toLocaleString()} to ${new Date(begin + span).toLocaleString()}` : 'any time');
}

/** A time as a field of the kind datetime-local has it. */
export function local(ms) {
  const d = new Date(ms);
  return Number.isNaN(d.getTime()) ? '' : new Date(d - d.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}
