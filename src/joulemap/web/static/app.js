"use strict";

// Charts: Vega-Embed draws the specification that stands in the page, in the page's own colours.
const NARROW_PX = 760;
const script = document.currentScript;
const INKS = JSON.parse(script.dataset.inks); // the colours that a page puts its own in the place of
let loading = null;

function vega() {
  loading ??= new Promise((done, failed) => {
    const tag = document.createElement("script");
    tag.src = script.dataset.vega;
    tag.onload = () => done(window.vegaEmbed);
    tag.onerror = () => failed(new Error("the drawing library cannot be loaded"));
    document.head.append(tag);
  });
  return loading;
}

function inPageColours(text) {
  const style = getComputedStyle(document.documentElement);
  return text.replace(/"#[0-9a-f]{6}"/gi, (found) => {
    const name = INKS[found.slice(1, -1).toLowerCase()];
    return name ? JSON.stringify(style.getPropertyValue(name).trim()) : found;
  });
}

const width = () => (window.innerWidth <= NARROW_PX ? "narrow" : "wide");
let asked = {}; // the page's charts by width, as texts, asked for once

function charts(size) {
  asked[size] ??= fetch(location.href, { headers: { "X-Joulemap-Part": size, Accept: "text/html" } })
    .then((answer) => answer.json());
  return asked[size];
}

async function draw(place) {
  const [specs, embed] = await Promise.all([charts(width()), vega()]);
  const spec = specs[place.dataset.chart];
  if (!spec || !place.isConnected) return;
  if (spec.description) place.setAttribute("aria-label", spec.description);
  await embed(place, JSON.parse(inPageColours(JSON.stringify(spec))), {
    actions: false, ast: true, renderer: "svg", defaultStyle: false, tooltip: { disableDefaultStyle: true },
  });
  // The description speaks for the whole chart; a label for each mark would only be in the way.
  place.querySelector("svg").setAttribute("aria-hidden", "true");
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((e) => e.isIntersecting)) {
    seen.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "600px" });

function drawAll(root) {
  asked = {}; // what is drawn belongs to the address as it is now
  root.querySelectorAll("[data-chart]").forEach((place) => seen.observe(place));
}

let drawnWidth = width();
function redraw() {
  document.querySelectorAll("[data-chart]:has(svg)").forEach(draw);
}
addEventListener("resize", () => {
  if (width() !== drawnWidth) { drawnWidth = width(); redraw(); }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// Forms whose answer follows the fields: the server renders the part of the page that changes.
function fieldsOf(form) {
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "") fields.append(name, value);
  return fields.toString();
}

function liveForm(form) {
  const place = document.getElementById(form.dataset.answer);
  let asking = null;
  let timer = 0;
  async function ask() {
    asking?.abort();
    asking = new AbortController();
    const address = form.getAttribute("action") + "?" + fieldsOf(form);
    place.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(address, { headers: { "X-Joulemap-Part": "answer", Accept: "text/html" }, signal: asking.signal });
      place.innerHTML = await answer.text();
      history.replaceState(null, "", address);
      drawAll(place);
    } catch (error) {
      if (error.name === "AbortError") return;
      place.textContent = "The server does not answer. Is joulemap serve still running?";
    }
    place.removeAttribute("aria-busy");
  }
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(ask, 60); });
  form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); ask(); });
  // A field that changes which other fields there are needs the page anew.
  form.querySelectorAll("[data-anew]").forEach((field) => field.addEventListener("change", () => {
    clearTimeout(timer);
    location.assign(form.getAttribute("action") + "?" + fieldsOf(form));
  }));
}

// A slider beside a number: its steps are the values listed, so that it may be logarithmic.
function slider(range) {
  const number = document.getElementById(range.dataset.for);
  const values = range.dataset.values.split(" ").map(Number);
  const far = (v, wanted) => Math.abs(Math.log(v / wanted));
  const follow = () => {
    const wanted = Number(number.value || number.placeholder);
    if (!(wanted > 0)) return;
    range.value = values.reduce((best, v, i) => (far(v, wanted) < far(values[best], wanted) ? i : best), 0);
    range.setAttribute("aria-valuetext", String(wanted));
  };
  range.max = values.length - 1;
  range.hidden = false;
  follow();
  number.addEventListener("input", follow);
  range.addEventListener("input", () => {
    number.value = values[range.value];
    range.setAttribute("aria-valuetext", number.value);
  });
}

// The table of runs: two may be ticked.
function compare(form) {
  const told = form.querySelector("[data-chosen]");
  const button = form.querySelector("[data-explain]");
  const chosen = [];
  const show = () => {
    button.disabled = chosen.length !== 2;
    told.textContent = chosen.length === 1 ? "Tick one more." : chosen.length === 2 ? `A: ${chosen[0].value.slice(0, 8)} · B: ${chosen[1].value.slice(0, 8)}` : "";
  };
  form.addEventListener("change", (event) => {
    if (event.target.name !== "run") return;
    if (event.target.checked) chosen.push(event.target);
    else chosen.splice(chosen.indexOf(event.target), 1);
    if (chosen.length > 2) chosen.shift().checked = false;
    show();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (chosen.length === 2) location.assign(`/explain?a=${chosen[0].value}&b=${chosen[1].value}`);
  });
  form.querySelectorAll("input[name=run]:checked").forEach((box) => chosen.push(box));
  show();
}

// A measurement in progress: the server sends the part of the page anew whenever something happened.
function follow(place) {
  const source = new EventSource(place.dataset.events);
  source.addEventListener("part", (event) => {
    place.innerHTML = JSON.parse(event.data);
    drawAll(place);
  });
  source.addEventListener("end", () => source.close());
}

// A part of the page that is still being computed when the page is sent.
async function later(place) {
  const answer = await fetch(place.dataset.later, { headers: { "X-Joulemap-Part": "answer", Accept: "text/html" } });
  if (answer.status === 202) { setTimeout(() => later(place), 1000); return; }
  place.innerHTML = await answer.text();
  drawAll(place);
}

// Two forms that ask the same in different ways: one is shown at a time.
function tab(link) {
  const show = (name) => {
    document.querySelectorAll("[data-panel]").forEach((panel) => { panel.hidden = panel.id !== name; });
    document.querySelectorAll("[data-tab]").forEach((l) => l.toggleAttribute("aria-current", l.dataset.tab === name));
  };
  link.addEventListener("click", (event) => { event.preventDefault(); show(link.dataset.tab); });
  if (link.hasAttribute("aria-current")) show(link.dataset.tab);
}

// A button that has been pressed says that something is under way, and is not pressed twice.
document.addEventListener("submit", (event) => {
  const button = event.target.querySelector("button:not([type=button])");
  if (event.defaultPrevented || !button) return;
  button.disabled = true;
  button.dataset.label = button.textContent;
  button.textContent = "Computing …";
});
addEventListener("pageshow", () => {
  document.querySelectorAll("button[data-label]").forEach((button) => {
    button.disabled = false;
    button.textContent = button.dataset.label;
  });
});

drawAll(document);
document.querySelectorAll("[data-tab]").forEach(tab);
document.querySelectorAll("input[type=range][data-for]").forEach(slider);
document.querySelectorAll("form[data-answer]").forEach(liveForm);
document.querySelectorAll("form[data-compare]").forEach(compare);
document.querySelectorAll("[data-events]").forEach(follow);
document.querySelectorAll("[data-later]").forEach(later);
document.querySelectorAll("form:not([data-answer]) [data-anew]").forEach((field) => field.addEventListener("change", () => {
  // Another model has other tasks: the rest of the form would not fit it.
  location.assign(field.form.getAttribute("action") + "?" + new URLSearchParams({ [field.name]: field.value }));
}));
document.querySelectorAll("form[data-submit-on-change] select").forEach((field) => field.addEventListener("change", () => field.form.requestSubmit()));
