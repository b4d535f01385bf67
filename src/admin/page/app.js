// Keeps the page up to date: loads it anew and puts in what changed, under whatever has the focus, is selected or open.
"use strict";

const EVERY = 2000; // milliseconds between two looks
const PATIENCE = 5000; // milliseconds for one

let seen = Date.now();
let lost = false;
let looking = false;
let orders = 0; // a page that was asked for before the last was carried out is old
let timer;

const told = document.getElementById("told");

function say(words) {
  told.hidden = !words;
  if (told.textContent !== words) told.textContent = words;
}

function isSelected(node) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(node, true);
}

function isSame(have, fresh) {
  return have.nodeName === fresh.nodeName && have.dataset?.key === fresh.dataset?.key;
}

function patchAttributes(have, fresh) {
  // Whether something is open is the reader's choice.
  for (const { name } of [...have.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) have.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
}

function patch(have, fresh) {
  if (have.nodeType === Node.TEXT_NODE) {
    if (have.data !== fresh.data && !isSelected(have)) have.data = fresh.data;
    return;
  }
  patchAttributes(have, fresh);
  const keys = new Set(Array.from(fresh.children, (child) => child.dataset?.key));
  const known = new Map();
  for (const child of [...have.children]) {
    const key = child.dataset?.key;
    if (key === undefined) continue;
    if (!keys.has(key)) child.remove();
    else if (!known.has(key)) known.set(key, child);
  }
  let at = have.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = wanted.dataset?.key;
    const found = known.get(key) ?? at;
    known.delete(key);
    if (!found || !isSame(found, wanted)) {
      have.insertBefore(wanted, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else have.insertBefore(found, at);
    patch(found, wanted);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function show(fresh) {
  if (fresh.body.dataset.version !== document.body.dataset.version) {
    // Another version of the gateway has another script; who must sign in gets the form.
    location.reload();
    return;
  }
  const focused = document.activeElement;
  document.title = fresh.title;
  patch(document.getElementById("main"), fresh.getElementById("main"));
  // A row that changed its place has lost it.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  seen = Date.now();
  setLost(false);
}

function setLost(yes) {
  if (lost && !yes) say("");
  lost = yes;
  document.body.classList.toggle("lost", yes);
}

async function load(path, request) {
  const answer = await fetch(path, { ...request, signal: AbortSignal.timeout(PATIENCE) });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return { ok: answer.ok, page };
}

async function look() {
  if (looking || document.hidden) return;
  clearTimeout(timer);
  looking = true;
  try {
    const before = orders;
    const { page } = await load("/");
    if (before === orders) show(page);
  } catch {
    setLost(true);
  }
  looking = false;
  timer = setTimeout(look, EVERY);
}

async function press(button) {
  const order = new URLSearchParams([[button.name, button.value]]);
  try {
    const { ok, page } = await load("/nodes", { method: "POST", body: order });
    orders += 1;
    say(ok ? "" : `Not done: ${page.querySelector(".wrong")?.textContent}.`);
    if (ok) show(page);
  } catch {
    say("Not done: the gateway does not answer.");
  }
}

document.addEventListener("submit", (event) => {
  if (!event.submitter?.name) return;
  event.preventDefault();
  press(event.submitter);
});
document.addEventListener("visibilitychange", look);
setInterval(() => {
  if (lost) say(`Connection lost, last seen ${Math.round((Date.now() - seen) / 1000)} s ago.`);
}, 1000);
timer = setTimeout(look, EVERY);
