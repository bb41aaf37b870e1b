// What the tabs share: elements, calls to the service, numbers, files to save.
// Text from documents only ever becomes text nodes: nothing here takes markup.

export const $ = (id) => document.getElementById(id);

export function el(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((one) => one !== null && one !== undefined && one !== false));
  return node;
}

/** Puts children in place of what a node holds; nothing for null and false. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((one) => one !== null && one !== undefined && one !== false));
}

// ------------------------------------------------------------------ the service

export class Problem extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

let askForToken = () => Promise.resolve(false);
export const onToken = (ask) => { askForToken = ask; };
export const token = {
  get: () => sessionStorage.getItem("raydistill.token") || "",
  set: (value) => value ? sessionStorage.setItem("raydistill.token", value)
    : sessionStorage.removeItem("raydistill.token"),
};

/** The response to a call; asks for a token where the service wants one, throws a Problem else. */
export async function call(path, { method = "GET", body, type, signal, again = true } = {}) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (type) headers["Content-Type"] = type;
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, cache: "no-store" });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Problem(0, "The service cannot be reached.");
  }
  if (response.ok) return response;
  if (response.status === 401 && again && await askForToken()) {
    return call(path, { method, body, type, signal, again: false });
  }
  throw await problemOf(response);
}

export const post = (path, value, signal) =>
  call(path, { method: "POST", body: JSON.stringify(value), type: "application/json", signal });

async function problemOf(response) {
  let detail = `The service answered ${response.status}.`;
  try {
    const said = await response.json();
    if (typeof said.detail === "string") detail = said.detail;
    else if (Array.isArray(said.detail) && said.detail[0]?.msg) detail = said.detail[0].msg;
  } catch { /* no JSON: the status has to do */ }
  const wait = Number(response.headers.get("Retry-After")) || 0;
  return new Problem(response.status, wait ? `${detail} Try again in ${wait} s.` : detail, wait);
}

/** The objects of a stream of JSON lines, as they come. */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const parts = (rest + (value || "")).split("\n");
    rest = done ? "" : parts.pop();
    for (const part of parts) if (part.trim()) yield JSON.parse(part);
    if (done) return;
  }
}

// ------------------------------------------------------------------ text and numbers

/** Cuts a text by code points, as the service counts characters; JavaScript counts UTF-16 units. */
export function cutter(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (start, end) => text.slice(start, end);
  const points = Array.from(text);
  return (start, end) => points.slice(start, end).join("");
}

export const percent = (value, digits = 0) =>
  value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)}%`;
export const whole = (value) => Number(value).toLocaleString("en-US");
export const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;
export const ms = (value) => value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(1)} ms`;
export const shown = (value) => value === null || value === undefined || value === "" ? "–" : String(value);
export const spaced = (name) => String(name).replaceAll("_", " ");

// ------------------------------------------------------------------ marks

/**
 * A text as nodes, the places in `spans` marked: one object of places by name a record.
 * Places may overlap; a piece has the classes that `look` gives for the names it is of.
 */
export function marked(text, spans, look, labels = true) {
  const cut = cutter(text);
  const length = points(text);
  const places = spans.flatMap((one, record) => Object.entries(one || {}).map(
    ([name, [start, end]]) => ({ name, record, start: Math.max(0, start), end: Math.min(end, length) })
  )).filter((one) => one.start < one.end);
  const edges = [...new Set([0, length, ...places.flatMap((one) => [one.start, one.end])])];
  edges.sort((a, b) => a - b);
  return edges.slice(0, -1).map((start, at) => {
    const here = places.filter((one) => one.start <= start && one.end >= edges[at + 1]);
    const words = cut(start, edges[at + 1]);
    if (!here.length) return document.createTextNode(words);
    const names = [...new Set(here.map((one) => one.name))];
    const mark = el("mark", {
      class: look(names), title: names.map(spaced).join(", "),
      "data-records": here.map((one) => one.record).join(" "),
    }, words);
    const begun = [...new Set(here.filter((one) => one.start === start).map((one) => one.name))];
    if (labels && begun.length) mark.append(el("span", { class: "role" }, begun.map(spaced).join(", ")));
    return mark;
  });
}

/** Where a value first stands in a text, in code points, or null. */
export function place(value, text) {
  const at = typeof value === "string" && value ? text.indexOf(value) : -1;
  return at < 0 ? null : [points(text.slice(0, at)), points(text.slice(0, at + value.length))];
}

const points = (text) => /[\ud800-\udfff]/.test(text) ? Array.from(text).length : text.length;

/** A group of radio buttons that look like one control. */
export function choice(box, name, options, chosen, picked) {
  box.replaceChildren(...options.map(([value, label, count]) => {
    const input = el("input", { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => picked(value));
    return el("label", {}, input, el("span", {}, label, count === undefined ? null : el("small", {}, ` ${count}`)));
  }));
}

// ------------------------------------------------------------------ files

export function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Rows as CSV; a cell that a spreadsheet would take for a formula gets an apostrophe. */
export function csv(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = /^[=+\-@'\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** Says something to people who listen to the page instead of seeing it. */
export function say(text) {
  $("spoken").textContent = text;
}
