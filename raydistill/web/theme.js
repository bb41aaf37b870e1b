// Before the page is drawn: the colours that were chosen last time.
(() => {
  const held = localStorage.getItem("raydistill.theme");
  if (held === "light" || held === "dark") document.documentElement.dataset.theme = held;
})();
