// The frame: tabs, theme, token, what is being served.
import { $, call, onToken, token } from "./dom.js";
import * as extract from "./extract.js";
import * as review from "./review.js";
import * as quality from "./quality.js";

const NAMES = ["extract", "review", "quality"];
const PARTS = { extract, review, quality };
let current = "";

function show(name, focus = false) {
  if (!NAMES.includes(name)) name = "extract";
  if (name !== current) {
    current = name;
    for (const one of NAMES) {
      const tab = $(`tab-${one}`), chosen = one === name;
      $(one).hidden = !chosen;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    if (location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
    PARTS[name].opened();
  }
  if (focus) $(`tab-${name}`).focus();
}

for (const [at, name] of NAMES.entries()) {
  $(`tab-${name}`).addEventListener("click", () => show(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const to = step ? NAMES[(at + step + NAMES.length) % NAMES.length]
      : { Home: NAMES[0], End: NAMES.at(-1) }[event.key];
    if (to) { event.preventDefault(); show(to, true); }
  });
}
addEventListener("hashchange", () => {
  if (NAMES.includes(location.hash.slice(1))) show(location.hash.slice(1));
});
addEventListener("keydown", (event) => { if (current === "review") review.pressed(event); });

// ------------------------------------------------------------------ theme

const dark = matchMedia("(prefers-color-scheme: dark)");
function themed() {
  const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  $("theme").setAttribute("aria-label", now === "dark" ? "Light colours" : "Dark colours");
  $("theme").title = $("theme").getAttribute("aria-label");
  return now;
}
$("theme").addEventListener("click", () => {
  const next = themed() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("raydistill.theme", next);
  themed();
});
dark.addEventListener("change", themed);
themed();

// ------------------------------------------------------------------ token

let asking = null;
onToken(() => {
  asking ??= new Promise((done) => {
    const dialog = $("token-dialog");
    $("token").value = "";
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener("close", () => {
      asking = null;
      const given = dialog.returnValue === "ok" && $("token").value.trim();
      if (given) token.set(given);
      done(Boolean(given));
    }, { once: true });
  });
  return asking;
});

// ------------------------------------------------------------------ what is served

async function release() {
  try {
    const made = await (await call("v1/release", { again: false })).json();
    const name = made.release?.name || made.release || made.name;
    const mode = made.mode || made.rollout?.mode;
    $("state").textContent = [name, mode && mode.replaceAll("_", " ")].filter(Boolean).join(" · ");
    $("state").hidden = !$("state").textContent;
    extract.released(made);
  } catch { /* it wants a token, or is starting: the first answer says what answered */ }
}

release();
review.counted();
show(location.hash.slice(1) || "extract");
