// The quality tab: agreement, skip rate and drift by day, drawn as small SVG plots.
import { $, call, choice, el, ms, percent, plural, svg, whole } from "./dom.js";

let days = "30";
let held = null;

export async function opened() {
  choice($("days"), "days", [["7", "7 days"], ["30", "30 days"], ["90", "90 days"]], days, (value) => { days = value; opened(); });
  try {
    held = await (await call(`v1/quality?days=${days}`)).json();
    draw();
  } catch (problem) {
    empty(problem.status === 404 ? "Nothing is measured" : "Quality cannot be read", problem.message);
  }
}

function empty(title, text) {
  $("quality-body").hidden = true;
  $("quality-empty").hidden = false;
  $("quality-empty").replaceChildren(el("h2", {}, title), el("p", {}, text));
}

/** Where the axis of agreement begins: 0, or 50% where nothing is below it. */
const floor = ({ by_day: points, bar }) =>
  Math.min(bar ?? 1, ...points.map((one) => one.low ?? 1)) > 0.5 ? 0.5 : 0;
const last = (list) => list.filter((one) => one.value !== null).at(-1);

function draw() {
  $("quality-empty").hidden = true;
  $("quality-body").hidden = false;
  const { agreement, skip, drift, traffic } = held;
  const shift = [last(drift.decisions), last(drift.types)].filter(Boolean).sort((a, b) => b.value - a.value)[0];
  const word = !shift ? "not enough events" : shift.value > drift.limit ? "drifted" : shift.value > drift.watch ? "moved" : "stable";
  const total = agreement.total;
  $("figures").replaceChildren(
    figure("Agreement with the teacher", percent(total.value, 1),
      total.rows ? `${percent(total.low, 1)} to ${percent(total.high, 1)}, ${plural(total.rows, "sentence")} compared` : "nothing compared yet"),
    figure("Dropped by skip", percent(skip.total.value, 1), skip.total.rows ? `of ${plural(skip.total.rows, "candidate")}` : "no candidates yet"),
    figure("Drift", shift ? shift.value.toFixed(2) : "–", `stability index, ${word}`, shift && shift.value > drift.limit ? "bad" : ""),
    figure("Answered", whole(traffic.sentences), traffic.requests ? `sentences, ${ms(traffic.ms / traffic.requests)} a request` : "sentences"));
  const reach = (days) => Math.max(1.6 * drift.limit, ...days.map((one) => one.value || 0));
  const index = (days) => ({ top: reach(days), line: drift.limit, called: "limit", many: "counted" });
  const types = plot("Drift of event types", "The same index over the student’s event types, of the week up to each day.",
    drift.types, index(drift.types));
  if (drift.moved.length) types.append(moved(drift.moved));
  const slow = Math.max(1, ...held.time.map((one) => one.value || 0));
  $("plots").replaceChildren(
    plot("Agreement", "Sentences with an event on either side on which student and teacher agree wholly. The band is a 95% interval.",
      agreement.by_day, { bottom: floor(agreement), top: 1, percent: true, line: agreement.bar, called: "gate", many: "compared" }),
    plot("Skip rate", "Share of candidates that the skip classifier drops. A sudden step means other text or another release.",
      skip.by_day, { top: 1, percent: true, many: "candidates" }),
    plot("Time", "Milliseconds a request, on average.", held.time, { top: slow * 1.15, time: true, many: "requests" }),
    plot("Drift of decisions", "How far the shares of dropped, skipped and extracted sentences are from the first days: the population stability index.",
      drift.decisions, index(drift.decisions)),
    types);
}

function figure(name, value, note, kind = "") {
  return el("div", { class: "figure" }, el("span", {}, name), el("b", { class: kind }, value), el("span", {}, note));
}

function moved(rows) {
  return el("details", {}, el("summary", {}, "What moved most"), el("table", { class: "plain" },
    el("tr", {}, ["event type", "at first", "now"].map((one) => el("th", { scope: "col" }, one))),
    rows.map(([name, before, now]) => el("tr", {}, el("td", {}, String(name).replaceAll("_", " ")),
      el("td", {}, percent(before, 1)), el("td", {}, percent(now, 1))))));
}

// ------------------------------------------------------------------ a plot

const EDGE = { left: 44, right: 14, top: 22, bottom: 24 };

function plot(name, note, points, look) {
  const card = el("section", { class: "card plot" }, el("h3", {}, name), el("p", { class: "note" }, note));
  const known = points.filter((one) => one.value !== null);
  if (known.length) {
    const box = el("div", { class: "canvas" });
    card.append(box, details(points, look));
    new ResizeObserver(() => {
      const width = Math.round(box.clientWidth);
      if (width && box.dataset.width !== String(width)) { box.dataset.width = width; box.replaceChildren(drawn(name, points, look, width, 200)); }
    }).observe(box);
  } else card.append(el("p", { class: "nothing" }, "No figures in this period."));
  return card;
}

const told = (value, look) => look.percent ? percent(value, 1) : look.time ? ms(value) : value.toFixed(2);

function drawn(name, points, look, width, height) {
  const times = points.map((one) => Date.parse(one.day));
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const x = (time) => EDGE.left + (to === from ? 0.5 : (time - from) / (to - from)) * (width - EDGE.left - EDGE.right);
  const bottom = look.bottom || 0, range = look.top - bottom;
  const y = (value) => height - EDGE.bottom
    - (Math.max(0, Math.min(value, look.top) - bottom) / range) * (height - EDGE.top - EDGE.bottom);
  const known = points.map((one, at) => ({ ...one, x: x(times[at]) })).filter((one) => one.value !== null);
  const path = (list) => list.map(([a, b], at) => `${at ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
  const now = known.at(-1);
  const parts = [];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = bottom + share * range, place = y(value);
    parts.push(svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: place, y2: place }));
    if (share * 2 % 1 === 0) parts.push(svg("text", { x: EDGE.left - 8, y: place + 4, "text-anchor": "end" }, look.percent ? percent(value) : look.time ? `${value.toFixed(0)} ms` : value.toFixed(2)));
  }
  if (known.length > 1 && known[0].low !== undefined) {
    const band = [...known.map((one) => [one.x, y(one.high)]), ...known.toReversed().map((one) => [one.x, y(one.low)])];
    parts.push(svg("path", { class: "band", d: `${path(band)}Z` }));
  }
  if (look.line !== null && look.line !== undefined) {
    parts.push(svg("line", { class: "limit", x1: EDGE.left, x2: width - EDGE.right, y1: y(look.line), y2: y(look.line) }),
      svg("text", { class: "limit-name", x: EDGE.left + 4, y: y(look.line) - 5 }, look.called));
  }
  for (const one of held.releases) {
    const place = x(Date.parse(one.day));
    if (Date.parse(one.day) > from) {
      parts.push(svg("line", { class: "release", x1: place, x2: place, y1: EDGE.top, y2: height - EDGE.bottom }, svg("title", {}, `release ${one.release}`)),
        svg("text", { class: "release-name", x: place + 4, y: EDGE.top - 8 }, "new release"));
    }
  }
  parts.push(svg("path", { class: "line", d: path(known.map((one) => [one.x, y(one.value)])) }));
  for (const one of known) {
    parts.push(svg("circle", { class: one === now ? "now" : "point", cx: one.x, cy: y(one.value), r: one === now ? 4 : 2.5 },
      svg("title", {}, `${one.day}: ${told(one.value, look)}`)));
  }
  const ends = from === to ? [[x(from), points[0].day, "middle"]] : [[EDGE.left, points[0].day, "start"], [width - EDGE.right, points.at(-1).day, "end"]];
  for (const [place, day, anchor] of ends) parts.push(svg("text", { x: place, y: height - 6, "text-anchor": anchor }, date(day)));
  return svg("svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": `${name}: ${told(now.value, look)} on ${date(now.day)}, ${told(known[0].value, look)} on ${date(known[0].day)}`,
  }, parts);
}

const date = (day) => new Date(`${day}T00:00:00Z`).toLocaleDateString("en-US", { month: "short", day: "numeric", timeZone: "UTC" });

function details(points, look) {
  const ranged = points.some((one) => one.low !== undefined);
  return el("details", {}, el("summary", {}, "Figures"), el("div", { class: "scroll" }, el("table", { class: "plain" },
    el("tr", {}, ["day", look.many, "value", ranged && "95%"].filter(Boolean).map((one) => el("th", { scope: "col" }, one))),
    points.toReversed().map((one) => el("tr", {}, el("td", {}, one.day), el("td", {}, whole(one.rows)),
      el("td", {}, one.value === null ? "–" : told(one.value, look)),
      ranged && el("td", {}, one.value === null ? "–" : `${told(one.low, look)} to ${told(one.high, look)}`))))));
}
