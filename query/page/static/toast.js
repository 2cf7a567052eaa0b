// What is worth telling for a moment, with a way back where there is one.

const $ = (id) => document.getElementById(id);
const shownFor = 12000; // ms: time to read it, and to think better of it
let timer = null;

/** Shows text; undo, where given, is what the button does. */
export function say(text, undo = null) {
  clearTimeout(timer);
  $('t-text').textContent = text;
  $('t-do').hidden = !undo;
  $('t-do').onclick = async () => {
    hide();
    try { await undo(); } catch (e) { say(e.message); }
  };
  $('t-close').onclick = hide;
  $('toast').hidden = false;
  timer = setTimeout(hide, shownFor);
}

function hide() {
  clearTimeout(timer);
  $('toast').hidden = true;
}
