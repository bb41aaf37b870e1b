// The review tab: one sentence at a time, teacher and student side by side, decided by keys.
import {
  $, call, el, fill, marked, percent, place, plural, post, save, say, shown, spaced, whole,
} from "./dom.js";

const SIDES = ["teacher", "student"];
const WORD = { teacher: "the teacher’s answer", student: "the student’s answer", corrected: "your answer", dismissed: "dismissed" };

let task = null;
let rows = [];
let at = 0;
let side = "teacher";
let edit = null; // the records being edited, or null
let last = null; // the row decided last, for undo
let open = 0;
let busy = false;
let picked = ""; // words selected in the sentence

export async function counted() {
  try {
    const made = await (await call("v1/review?limit=1", { again: false })).json();
    count(made.counts.open);
  } catch { /* no database, or a token is wanted: the tab says so when it is opened */ }
}

function count(number) {
  open = Math.max(0, number);
  $("review-count").textContent = whole(open);
  $("review-count").hidden = !open;
  $("review-title").textContent = plural(open, "sentence");
}

export async function opened() {
  $("reviewer").value ||= localStorage.getItem("raydistill.reviewer") || "";
  await load();
}

async function load(after = 0) {
  const reason = $("reason").value;
  try {
    const query = new URLSearchParams({ after, limit: 100, ...(reason && { reason }) });
    const made = await (await call(`v1/review?${query}`)).json();
    task = made.task;
    count(made.counts.open);
    rows = after ? [...rows, ...made.rows] : made.rows;
    if (!after) at = 0;
    draw();
  } catch (problem) {
    empty(problem.status === 404 ? "Review is off" : "The queue cannot be read", problem.message);
  }
}
$("reason").addEventListener("change", () => load());
$("reviewer").addEventListener("change", () => localStorage.setItem("raydistill.reviewer", $("reviewer").value.trim()));
$("labels").addEventListener("click", async () => {
  try {
    save("labels.csv", "text/csv;charset=utf-8", await (await call("v1/review/labels.csv")).text());
  } catch (problem) { complain(problem.message); }
});

function empty(title, text) {
  $("review-body").hidden = true;
  $("review-empty").hidden = false;
  $("review-empty").replaceChildren(el("h2", {}, title), el("p", {}, text));
}

// ------------------------------------------------------------------ drawing

function draw() {
  edit = null;
  if (!rows.length && !last) {
    const rest = $("reason").value
      ? [el("button", { type: "button", onclick: () => { $("reason").value = ""; load(); } }, "Show all")] : [];
    empty("Nothing to review", "Sentences come here when the student abstains, or when it and the teacher disagree.");
    $("review-empty").append(...rest);
    return;
  }
  $("review-empty").hidden = true;
  $("review-body").hidden = false;
  at = Math.max(0, Math.min(at, rows.length - 1));
  $("queue").replaceChildren(...rows.map((row, index) => el("li", {},
    el("button", {
      type: "button", "aria-current": index === at ? "true" : null, onclick: () => { at = index; draw(); },
    }, el("span", { class: `dot ${row.reason}`, title: row.reason }), el("span", { class: "cut" }, row.text)))));
  const now = $("queue").children[at];
  if (now && $("queue").scrollHeight > $("queue").clientHeight) {
    $("queue").scrollTop = now.offsetTop - $("queue").clientHeight / 2;
  }
  const row = rows[at];
  if (row) side = row.teacher ? "teacher" : "student";
  card();
}

function card() {
  const row = rows[at];
  // What is replaced would take the focus with it.
  if ($("row").contains(document.activeElement)) $("row").focus({ preventScroll: true });
  if (!row) {
    fill($("row"), el("div", { class: "done" }, el("h2", {}, "All done"), el("p", {}, "The queue is empty.")), toast());
    return;
  }
  const words = el("p", { class: "words large", id: "words" }, marked(row.text, [
    ...SIDES.flatMap((one) => held(row, one).map((record) => spansOf(record, row.text, one))).flat(),
  ], (names) => names.length > 1 ? "both" : names[0], false));
  fill($("row"),
    el("p", { class: "about" },
      el("span", { class: `chip ${row.reason}` }, row.reason === "abstained" ? "The student abstained" : "They disagree"),
      row.confidence !== null && el("span", {}, `${percent(row.confidence)} confident`),
      row.skip_score !== null && el("span", {}, `skip ${row.skip_score.toFixed(2)}`),
      el("span", {}, row.release),
      row.filing_id !== "served" && el("span", { class: "from" }, row.filing_id),
      el("span", { class: "key" }, ["teacher", "student", "both"].map((one) => el("mark", { class: one }, one)))),
    words,
    edit ? form(row) : compared(row),
    edit ? null : actions(row),
    toast(),
  );
}

const value = (row, one) => row[one] ?? null;
function held(row, one) {
  const answer = value(row, one);
  if (!answer || answer.skip) return [];
  return task.single ? [answer] : answer[task.key] || [];
}

function spansOf(record, text, one) {
  return task.fields.filter((field) => field.kind === "span")
    .map((field) => place(record[field.name], text)).filter(Boolean).map((found) => ({ [one]: found }));
}

/** Records of both sides in pairs, the most alike together. */
function pairs(left, right) {
  const rest = right.map((_, index) => index);
  const out = left.map((record) => {
    const alike = (index) => task.fields.filter((field) => same(record, right[index], field)).length;
    const best = rest.length ? rest.reduce((a, b) => alike(b) > alike(a) ? b : a) : undefined;
    if (best !== undefined) rest.splice(rest.indexOf(best), 1);
    return [record, right[best]];
  });
  return [...out, ...rest.map((index) => [undefined, right[index]])];
}
const same = (one, other, field) => String(one?.[field.name] ?? "") === String(other?.[field.name] ?? "");

const worded = (value, field) => field.snake ? spaced(shown(value)) : shown(value);

function compared(row) {
  const [left, right] = SIDES.map((one) => held(row, one));
  const head = el("tr", {}, el("th", { scope: "col" }, el("span", { class: "spoken" }, "field")), SIDES.map((one, index) => el("th", { scope: "col" },
    el("button", {
      type: "button", class: `side ${one}`, "aria-pressed": String(side === one), disabled: value(row, one) === null,
      onclick: () => { side = one; card(); },
    }, one, el("kbd", {}, String(index + 1))))));
  const found = pairs(left, right);
  const nothing = (one) => value(row, one) === null ? "no answer" : "no event";
  const body = found.length ? found.flatMap(([one, other], index) => [
    found.length > 1 && el("tr", { class: "part" }, el("th", { colspan: 3, scope: "rowgroup" }, `Event ${index + 1}`)),
    ...task.fields.map((field, line) => el("tr", { class: one && other && !same(one, other, field) ? "differs" : null },
      el("th", { scope: "row" }, spaced(field.name)),
      [one, other].map((record, which) => record ? el("td", {}, worded(record[field.name], field))
        : line === 0 ? el("td", { rowspan: task.fields.length, class: "nothing" }, nothing(SIDES[which])) : null))),
  ]) : [el("tr", {}, el("th", { scope: "row" }), SIDES.map((one) => el("td", { class: "nothing" }, nothing(one))))];
  return el("table", { class: `sides chosen-${side}` }, el("thead", {}, head), el("tbody", {}, body));
}

function actions(row) {
  const button = (key, label, act, kind = "", off = false) =>
    el("button", { type: "button", class: kind, onclick: act, disabled: off }, label, el("kbd", {}, key));
  return el("div", { class: "actions" },
    button("a", `Accept the ${side}’s`, accept, "primary", value(row, side) === null),
    button("e", "Edit", begin), button("n", "No event", none, "", task.single),
    button("d", "Dismiss", () => decide("dismissed")));
}

function toast() {
  return last && el("p", { class: "toast" }, el("span", {}, `Recorded: ${WORD[last.state]}.`),
    el("button", { type: "button", onclick: undo }, "Undo", el("kbd", {}, "u")));
}

function complain(text) {
  $("row").querySelector(".complaint")?.remove();
  $("row").append(el("p", { class: "complaint notice bad", role: "alert" }, text));
}

// ------------------------------------------------------------------ deciding

async function decide(verdict, answer) {
  const row = rows[at];
  const reviewer = $("reviewer").value.trim();
  if (busy || !row) return;
  if (!reviewer) {
    $("reviewer").focus();
    complain("Your name goes with each label: write it below first.");
    return;
  }
  busy = true;
  try {
    last = await (await post(`v1/review/${row.id}`, { verdict, reviewer, ...(answer && { answer }) })).json();
    say(`Recorded: ${WORD[verdict]}`);
    gone(row);
  } catch (problem) {
    if (problem.status === 409) { gone(row); complain(`${problem.message}.`); } else wrong(problem);
  } finally { busy = false; }
}

function gone(row) {
  rows = rows.filter((one) => one.id !== row.id);
  count(open - 1);
  draw();
  if (rows.length < 10 && rows.length < open) load(rows.at(-1)?.id || 0);
}

async function undo() {
  if (busy || !last) return;
  busy = true;
  try {
    const row = await (await post(`v1/review/${last.id}`, { verdict: "open", reviewer: last.reviewer })).json();
    last = null;
    rows = [...rows.filter((one) => one.id !== row.id), row].sort((a, b) => a.id - b.id);
    at = rows.findIndex((one) => one.id === row.id);
    count(open + 1);
    draw();
    say("Taken back");
  } catch (problem) { complain(problem.message); } finally { busy = false; }
}

const accept = () => { if (rows[at] && value(rows[at], side) !== null) decide(side); };
const none = () => { if (!task.single) decide("corrected", { [task.key]: [] }); };

// ------------------------------------------------------------------ editing

function begin() {
  const row = rows[at];
  if (!row) return;
  edit = held(row, side).map((record) => ({ ...record }));
  if (!edit.length) edit.push(blank());
  card();
  $("row").querySelector("input, select")?.focus();
}

const blank = () => Object.fromEntries(task.fields.map((field) => [field.name, null]));

function form(row) {
  const parts = edit.map((record, index) => el("fieldset", {},
    el("legend", {}, `Event ${index + 1}`),
    el("div", { class: "grid" }, task.fields.map((field) => input(field, record, index))),
    !task.single && el("button", {
      type: "button", class: "remove", onclick: () => { edit.splice(index, 1); card(); },
    }, "Remove this event")));
  const made = el("form", { class: "edit", onsubmit: (event) => { event.preventDefault(); keep(); } }, parts,
    !edit.length && el("p", { class: "note" }, "No event in this sentence."),
    el("div", { class: "actions" },
      el("button", { class: "primary" }, "Save", el("kbd", {}, "s")),
      !task.single && el("button", { type: "button", onclick: () => { edit.push(blank()); card(); } }, "Add an event"),
      el("button", { type: "button", onclick: leave }, "Cancel", el("kbd", {}, "Esc"))));
  return made;
}

function input(field, record, index) {
  const id = `edit-${index}-${field.name}`;
  const change = (event) => {
    const text = event.target.value.trim();
    record[field.name] = text === "" ? null : field.kind === "integer" ? Number(text) : text;
    if (field.kind === "span") event.target.classList.toggle("loose", Boolean(text) && !rows[at].text.includes(text));
  };
  const now = record[field.name] ?? "";
  let box;
  if (field.kind === "choice") {
    box = el("select", { id, onchange: change }, el("option", { value: "" }, "–"),
      field.choices.map((one) => el("option", { value: one, selected: one === now }, one)));
  } else if (field.kind === "integer") {
    box = el("input", { id, type: "number", min: field.low, max: field.high, step: 1, value: now, oninput: change });
  } else {
    const list = field.suggestions?.length ? `${id}-list` : null;
    box = el("input", {
      id, list, value: now, oninput: change, spellcheck: "false", autocomplete: "off",
      placeholder: field.kind === "date" ? "YYYY-MM-DD" : field.kind === "span" ? "words of the sentence" : null,
    });
    if (list) box = [box, el("datalist", { id: list }, field.suggestions.map((one) => el("option", { value: one })))];
  }
  return el("div", { class: "field" }, el("label", { for: id }, spaced(field.name)), box,
    field.kind === "span" && el("button", {
      type: "button", class: "link", title: "Select words in the sentence first",
      onclick: () => { if (picked) { $(id).value = picked; $(id).dispatchEvent(new Event("input")); } },
    }, "take the selection"));
}

document.addEventListener("selectionchange", () => {
  const now = getSelection();
  const words = $("words");
  if (words && now.toString().trim() && words.contains(now.anchorNode)) picked = now.toString().trim();
});

function keep() {
  decide("corrected", task.single ? edit[0] : { [task.key]: edit });
}

/** A refused answer: say why, and go to the field it is about. */
function wrong(problem) {
  complain(problem.message);
  const field = task.fields.find((one) => new RegExp(`: ${one.name}\\b`).test(problem.message));
  if (edit && field) $(`edit-0-${field.name}`)?.focus();
}

function leave() {
  edit = null;
  card();
}

// ------------------------------------------------------------------ keys

export function pressed(event) {
  if ($("review-body").hidden || event.altKey || $("token-dialog").open) return;
  const typing = event.target.closest("input, select, textarea");
  if (edit && event.key === "Escape") { leave(); return; }
  if (edit && event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); keep(); return; }
  if (typing || event.ctrlKey || event.metaKey) return;
  const acts = edit ? { s: keep } : {
    j: () => move(1), k: () => move(-1), a: accept, e: begin, n: none, u: undo,
    d: () => decide("dismissed"), 1: () => choose("teacher"), 2: () => choose("student"),
  };
  const act = acts[event.key];
  if (act) { event.preventDefault(); act(); }
}

function move(step) {
  if (!rows[at + step]) return;
  at += step;
  draw();
  say(`Sentence ${at + 1} of ${rows.length}`);
}

function choose(one) {
  if (rows[at] && value(rows[at], one) !== null) { side = one; card(); }
}
