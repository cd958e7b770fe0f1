// Airflow's theme, before anything is drawn: from the page around this one, else from local storage, else the system's.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function around() {
    try {
      return window.parent === window ? null : window.parent.document.documentElement;
    } catch {
      return null; // of another origin
    }
  }

  function chosen() {
    const classes = around()?.classList;
    if (classes?.contains("dark")) return "dark";
    if (classes?.contains("light")) return "light";
    const stored = localStorage.getItem("theme");
    return stored === "dark" || stored === "light" ? stored : dark.matches ? "dark" : "light";
  }

  function apply() {
    document.documentElement.dataset.theme = chosen();
  }

  apply();
  dark.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  const root = around();
  if (root) new MutationObserver(apply).observe(root, { attributes: true, attributeFilter: ["class"] });
})();
