// The extract tab: sentences or a filing in, marks and a table of events out.
import {
  $, Problem, call, choice, csv, cutter, el, lines, marked, ms, percent, plural, post, save, say, shown, spaced, whole,
} from "./dom.js";

const BATCH = 200; // sentences of one request: the service takes 256
const PAGE = 100; // sentences drawn at once
const FEW = 20; // events shown before somebody asks for all of them
const EXAMPLES = [
  "Acme Corp. amended its credit agreement with Wells Fargo on May 3, 2021.",
  "On November 9, 2010, the Board of Harbor Systems, Inc. suspended the quarterly dividend.",
  "Certain statements in this report are forward-looking and involve risks and uncertainties.",
  "Northfield Energy received a notice of delisting from the New York Stock Exchange.",
];
const FILTERS = {
  all: ["All", () => true],
  records: ["With events", (row) => row.records.length > 0],
  read: ["Extracted", (row) => row.decision === "extract" || row.decision === "teacher"],
  dropped: ["Dropped", (row) => row.decision === "keyword" || row.decision === "skip"],
  error: ["Failed", (row) => row.decision === "error"],
};
const WAYS = {
  keyword: "no keyword", skip: "skipped", extract: "extracted", teacher: "asked the teacher", error: "failed",
};

let thresholds = {};
let fields = []; // names of the task's fields, in order
let held = null; // the answer on the page
let filter = "all";
let drawn = 0;
let running = null;

export function opened() { $("text").focus({ preventScroll: true }); }

/** What the service says of its release: thresholds and the order of fields. */
export function released(made) {
  const one = made.releases ? Object.values(made.releases)[0] : made;
  thresholds = one?.thresholds || {};
  fields = (one?.task?.fields || []).map((field) => field.name);
}

// ------------------------------------------------------------------ asking

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (!text.trim()) { $("text").focus(); return; }
  if (new FormData($("ask")).get("form") === "filing") ask((signal) => filing(text, "text/plain", "", signal));
  else ask((signal) => sentences(text.split("\n").map((one) => one.trim()).filter(Boolean), signal));
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("ask").requestSubmit(); }
});
$("example").addEventListener("click", () => {
  $("text").value = EXAMPLES.join("\n");
  $("ask").elements.form.value = "sentences";
  $("ask").requestSubmit();
});
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { if ($("file").files[0]) read($("file").files[0]); $("file").value = ""; });
$("stop").addEventListener("click", () => running?.abort());

let over = 0;
const hasFile = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
addEventListener("dragenter", (event) => { if (hasFile(event)) { over += 1; $("drop").classList.add("on"); } });
addEventListener("dragleave", (event) => { if (hasFile(event) && --over <= 0) { over = 0; $("drop").classList.remove("on"); } });
addEventListener("dragover", (event) => { if (hasFile(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!hasFile(event)) return;
  event.preventDefault();
  over = 0;
  $("drop").classList.remove("on");
  $("tab-extract").click();
  if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
});

async function read(file) {
  const start = await file.slice(0, 4096).text();
  const html = /\.html?$/i.test(file.name) || /^\s*(?:<!doctype html|<html|<\?xml)/i.test(start);
  ask((signal) => filing(file, html ? "text/html" : "text/plain", file.name, signal));
}

async function ask(work) {
  running?.abort();
  const mine = running = new AbortController();
  $("problem").hidden = true;
  $("stop").hidden = false;
  $("progress").hidden = false;
  $("ask").setAttribute("aria-busy", "true");
  held = null;
  try {
    await work(mine.signal);
    if (held) say(`${plural(records(held).length, "event")} in ${plural(held.rows.length, "sentence")}`);
  } catch (problem) {
    if (running === mine) failed(problem);
  } finally {
    if (running === mine) {
      running = null;
      $("stop").hidden = true;
      $("progress").hidden = true;
      $("ask").removeAttribute("aria-busy");
    }
  }
}

function failed(problem) {
  const stopped = problem.name === "AbortError";
  const known = problem instanceof Problem;
  $("problem").textContent = stopped ? "Stopped: what came until then is below."
    : known ? problem.message : "The answer broke off and is not whole.";
  $("problem").hidden = false;
}

async function sentences(texts, signal) {
  const began = performance.now();
  const made = { rows: [], latency: 0, release: "", mode: "", filing: null };
  for (let at = 0; at < texts.length; at += BATCH) {
    progress(at / texts.length);
    const some = texts.slice(at, at + BATCH);
    const answer = await (await post("v1/extract", { sentences: some }, signal)).json();
    made.rows.push(...answer.results.map((row, place) => ({ ...row, index: at + place, text: some[place] })));
    Object.assign(made, { release: answer.release, mode: answer.mode, latency: made.latency + answer.latency_ms });
  }
  made.whole = performance.now() - began;
  show(made);
}

async function filing(body, type, name, signal) {
  const began = performance.now();
  const response = await call("v1/extract", { method: "POST", body, type, signal });
  let made = null, cut = null, ended = false, due = 0;
  for await (const line of lines(response)) {
    if (line.kind === "filing") {
      cut = cutter(line.text);
      const { text, ...rest } = line;
      made = { rows: [], latency: 0, release: line.release, mode: line.mode, filing: { ...rest, name } };
    } else if (line.kind === "sentence") {
      made.rows.push({ ...line, text: cut(line.start, line.end) });
      if (performance.now() > due) {
        progress(made.rows.length / Math.max(1, made.filing.sentences));
        due = performance.now() + 100;
        await new Promise(requestAnimationFrame);
      }
    } else if (line.kind === "end") {
      made.latency = line.latency_ms;
      ended = true;
    } else if (line.kind === "problem") {
      if (made) show(made);
      throw new Problem(line.status, line.detail);
    }
  }
  if (made) { made.whole = performance.now() - began; show(made, made.rows.length > 30 ? "records" : "all"); }
  if (!ended) throw new Error("no end");
}

function progress(share) {
  $("progress").firstElementChild.style.setProperty("--share", String(Math.max(0.04, share)));
}

// ------------------------------------------------------------------ showing

const records = (made) => made.rows.flatMap((row) => row.records.map((record, at) => ({ row, record, at })));

function names(made) {
  const first = records(made)[0]?.record || {};
  return fields.length && Object.keys(first).every((one) => fields.includes(one)) ? fields : Object.keys(first);
}

function spanNames(made) {
  const found = new Set(made.rows.flatMap((row) => row.spans.flatMap((one) => Object.keys(one || {}))));
  return [...names(made).filter((one) => found.has(one)), ...[...found].filter((one) => !names(made).includes(one))];
}

function show(made, chosen = "all") {
  held = made;
  filter = chosen === "records" && !records(made).length ? "all" : chosen;
  $("hello").hidden = true;
  $("answer").hidden = false;
  $("summary").replaceChildren(...summary(made));
  $("events-card").hidden = !records(made).length;
  $("events").replaceChildren(table(made, FEW));
  $("events-more").hidden = records(made).length <= FEW;
  $("events-more").textContent = `All ${plural(records(made).length, "event")}`;
  $("events-title").textContent = plural(records(made).length, "event");
  const spans = spanNames(made);
  $("legend").replaceChildren(...spans.map((name, at) =>
    el("mark", { class: `role-${Math.min(4, at + 1)}` }, spaced(name))));
  filters();
  list();
}

function summary(made) {
  const count = (...ways) => made.rows.filter((row) => ways.includes(row.decision)).length;
  const passed = made.rows.length - count("keyword");
  const steps = [
    ["sentences", made.rows.length], ["with a keyword", passed], ["kept by skip", passed - count("skip")],
    ["with events", made.rows.filter((row) => row.records.length).length],
  ];
  const top = made.filing && (made.filing.company || made.filing.name);
  return [
    top && el("p", { class: "filing" }, el("b", {}, top),
      [made.filing.form, made.filing.filed_at, made.filing.company && made.filing.name]
        .filter(Boolean).map((one) => el("span", {}, one))),
    el("ol", { class: "funnel", "aria-label": "The way through the cascade" }, steps.map(([name, value]) => {
      const bar = el("i", { "aria-hidden": "true" });
      bar.style.setProperty("--share", String(made.rows.length ? value / made.rows.length : 0));
      return el("li", {}, el("b", {}, whole(value)), el("span", {}, name), bar);
    })),
    el("p", { class: "served" }, el("span", {}, `${ms(made.latency)} in the service`),
      el("span", {}, `${ms(made.whole ?? 0)} in all`), el("span", {}, made.release),
      made.mode && el("span", {}, spaced(made.mode))),
  ].filter(Boolean);
}

function table(made, most) {
  const columns = names(made), spans = spanNames(made);
  const head = el("tr", {}, el("th", { scope: "col" }, "#"), columns.map((name) => el("th", { scope: "col" }, spaced(name))));
  const rows = records(made).slice(0, most).map(({ row, record, at }) => el("tr", {},
    el("td", { "data-label": "sentence" }, el("button", {
      type: "button", class: "link", "aria-label": `To sentence ${row.index + 1}`, onclick: () => goto(row.index, at),
    }, String(row.index + 1))),
    columns.map((name, place) => el("td", {
      "data-label": spaced(name), class: place === 0 ? "first" : spans.includes(name) ? "span" : typeof record[name] === "number" ? "number" : null,
    }, place === 0 ? spaced(shown(record[name])) : shown(record[name])))));
  return el("table", { class: "events" }, el("thead", {}, head), el("tbody", {}, rows));
}

$("events-more").addEventListener("click", () => {
  $("events").replaceChildren(table(held, Infinity));
  $("events-more").hidden = true;
});

function goto(index, record) {
  if (!FILTERS[filter][1](held.rows[index])) { filter = "all"; filters(); list(); }
  const place = held.rows.filter(FILTERS[filter][1]).findIndex((row) => row.index === index);
  while (drawn <= place) more();
  const item = $("sentences").children[place];
  item.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  for (const mark of $("sentences").querySelectorAll("mark.on")) mark.classList.remove("on");
  for (const mark of item.querySelectorAll("mark")) {
    if (mark.dataset.records.split(" ").includes(String(record))) mark.classList.add("on");
  }
  item.tabIndex = -1;
  item.focus({ preventScroll: true });
}

function filters() {
  const options = Object.entries(FILTERS)
    .map(([name, [label, test]]) => [name, label, whole(held.rows.filter(test).length)])
    .filter(([name, , count]) => name === "all" || count !== "0");
  choice($("filter"), "filter", options, filter, (name) => { filter = name; list(); });
}

function list() {
  $("sentences").replaceChildren();
  drawn = 0;
  more();
}

function more() {
  const rows = held.rows.filter(FILTERS[filter][1]);
  const spans = spanNames(held);
  $("sentences").append(...rows.slice(drawn, drawn + PAGE).map((row) => sentence(row, spans)));
  drawn = Math.min(rows.length, drawn + PAGE);
  $("sentences").classList.toggle("long", drawn > 30);
  $("more").hidden = drawn >= rows.length;
  $("more").textContent = `Show more (${whole(rows.length - drawn)} left)`;
}
$("more").addEventListener("click", more);

const roles = (spans) => (found) =>
  found.map((name) => `role-${Math.min(4, spans.indexOf(name) + 1)}`).join(" ");

function sentence(row, spans) {
  return el("li", { class: row.records.length ? "found" : "quiet", value: row.index + 1 },
    el("p", { class: "words" }, marked(row.text, row.spans, roles(spans))),
    el("p", { class: "way" }, ...steps(row),
      row.records.map((record) => el("span", { class: "type" }, spaced(shown(Object.values(record)[0]))))));
}

/** How far a sentence came: a chip for each stage that saw it. */
function steps(row) {
  if (row.decision === "error") return [el("span", { class: "step bad" }, `failed: ${spaced(shown(row.error))}`)];
  if (row.decision === "keyword") return [el("span", { class: "step off" }, WAYS.keyword)];
  const out = [el("span", { class: "step" }, "keyword")];
  if (row.skip_score !== null) {
    const limit = thresholds.skip;
    const low = row.decision === "skip";
    const told = `skip ${row.skip_score.toFixed(2)}`;
    out.push(el("span", {
      class: low ? "step off" : "step",
      title: limit === undefined ? "the skip classifier’s probability of an event"
        : `probability of an event; ${limit.toFixed(2)} is needed`,
    }, gauge(row.skip_score, limit), low ? `${told} · dropped` : told));
  } else if (row.decision === "skip") {
    out.push(el("span", { class: "step off", title: "by its words alone no event is likely" }, "glance · dropped"));
  }
  if (row.decision === "teacher") out.push(el("span", { class: "step" }, WAYS.teacher));
  if (row.confidence !== null) {
    out.push(el("span", { class: "step", title: "probability of the whole answer" },
      gauge(row.confidence), `${percent(row.confidence)} confident`));
  }
  if (row.decision !== "skip" && !row.records.length) out.push(el("span", { class: "step off" }, "no event"));
  return out;
}

function gauge(value, limit) {
  const made = el("i", { class: "gauge", "aria-hidden": "true" });
  made.style.setProperty("--share", String(Math.max(0, Math.min(1, value))));
  if (limit !== undefined) { made.classList.add("limited"); made.style.setProperty("--limit", String(limit)); }
  return made;
}

// ------------------------------------------------------------------ saving

$("save-json").addEventListener("click", () => {
  const { rows, release, mode, filing: from, latency } = held;
  save("events.json", "application/json", JSON.stringify({ release, mode, filing: from, latency_ms: latency, results: rows }, null, 2));
});
$("save-csv").addEventListener("click", () => {
  const columns = names(held);
  const head = ["sentence", "text", "decision", "skip_score", "answer_confidence", "error", "ordinal", ...columns];
  const body = held.rows.flatMap((row) => (row.records.length ? row.records : [null]).map((record, at) => [
    row.index + 1, row.text, row.decision, row.skip_score, row.confidence, row.error, record && at,
    ...columns.map((name) => record?.[name]),
  ]));
  save("events.csv", "text/csv;charset=utf-8", csv([head, ...body]));
});
