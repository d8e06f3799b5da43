// Sends pictures that are chosen, dropped, pasted or taken without leaving the
// page, and puts the answer's part of what comes back in its place.
'use strict';

const form = document.querySelector('form');
const drop = document.querySelector('.drop');
const say = document.getElementById('status');
const answer = document.getElementById('answer');
const kind = document.getElementById('map');
let last = null; // The picture that is shown.
let running = null; // What aborts the request under way.

document.documentElement.classList.add('scripts');

// What is below for the eye as well need not be seen twice.
function tell(text, isShownBelow = false) {
  say.textContent = text;
  say.classList.toggle('heard', isShownBelow);
}

function complain(text) {
  const paragraph = document.createElement('p');
  paragraph.className = 'warning';
  paragraph.setAttribute('role', 'alert');
  paragraph.textContent = text;
  answer.replaceChildren(paragraph);
  tell('');
}

async function send(file) {
  running?.abort();
  const mine = (running = new AbortController());
  const limit = Number(form.dataset.maxBytes);
  // The form around the picture takes some bytes too.
  if (file.size > limit - 2000) {
    complain(`The file has ${(file.size / 2 ** 20).toFixed(1)} MiB; at most ${limit / 2 ** 20} MiB are read.`);
    return;
  }
  last = file;
  const body = new FormData();
  body.append('file', file);
  body.append('map', kind ? kind.value : '');
  tell('Looking at it…');
  answer.classList.add('busy');
  const start = performance.now();
  try {
    const response = await fetch('/', { method: 'POST', body, signal: mine.signal });
    const text = await response.text();
    const found = new DOMParser().parseFromString(text, 'text/html').getElementById('answer');
    if (!found) {
      complain(`The server answered with status ${response.status}; try again.`);
      return;
    }
    answer.replaceChildren(...found.childNodes);
    const title = document.getElementById('found');
    tell(title ? `It is most like: ${title.textContent}` : '', true);
    const trip = document.getElementById('trip');
    if (trip) trip.textContent = ` ${Math.round(performance.now() - start)} ms with the way there and back.`;
  } catch (error) {
    if (error.name !== 'AbortError') complain('The server does not answer; is it still running?');
  } finally {
    if (running === mine) {
      running = null;
      answer.classList.remove('busy');
    }
  }
}

function sendFirst(files) {
  const file = [...files].find((one) => one.type.startsWith('image/')) ?? files[0];
  if (file) send(file);
  else complain('There is no picture in it; drop, paste or choose a picture file.');
}

for (const field of form.querySelectorAll('input[type=file]')) {
  field.addEventListener('change', () => {
    if (field.files.length) sendFirst(field.files);
    field.value = ''; // The same one may be chosen again.
  });
}
kind?.addEventListener('change', () => { if (last) send(last); });
form.addEventListener('submit', (event) => { event.preventDefault(); if (last) send(last); });

document.addEventListener('paste', (event) => sendFirst(event.clipboardData.files));
// Dropped beside the box, the browser would leave the page for the picture.
document.addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over'); });
document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) drop.classList.remove('over'); });
document.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  sendFirst(event.dataTransfer.files);
});
