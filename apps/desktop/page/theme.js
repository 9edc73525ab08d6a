// Light or dark before anything is drawn; knows only what was chosen last.
// A plain script in the head: a module would run after the first paint.
(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = "system";
  try {
    chosen = localStorage.getItem("theme") || "system";
  } catch {
    // a web view may have no storage; the system's choice holds
  }
  const apply = () => {
    const dark = chosen === "dark" || (chosen === "system" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  };
  system.addEventListener("change", apply);
  window.chooseTheme = (theme) => {
    chosen = theme;
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // as above
    }
    apply();
  };
  apply();
})();
