/* Tabs, colours, runs and the settings of all charts. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const options = { x: "step", smooth: 0, log: false, outliers: true, hiddenRuns: new Set() };
  const charts = [];
  const drawAll = () => charts.forEach((chart) => chart.draw());

  /* ---- light and dark: the system's choice until somebody chooses */
  const root = document.documentElement;
  const themeButton = document.getElementById("theme");
  const store = (value) => {
    // a browser may keep nothing for local files
    try { return value ? localStorage.setItem("fulmen-theme", value) : localStorage.getItem("fulmen-theme"); } catch { return null; }
  };
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    themeButton.textContent = theme === "dark" ? "Light" : "Dark";
  };
  setTheme(store() || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  themeButton.addEventListener("click", () => {
    setTheme(root.dataset.theme === "dark" ? "light" : "dark");
    store(root.dataset.theme);
  });

  /* ---- charts: made when their part is shown first */
  function fill(section) {
    for (const place of section.querySelectorAll("[data-charts]:empty")) {
      const part = place.dataset.charts;
      (part === "first" ? data.groups.slice(0, 1) : data.groups.filter((group) => group.part === part)).forEach((group) => {
        const card = make("article", { class: "card", "data-title": [group.title, ...group.names].join(" ").toLowerCase() });
        place.append(card);
        charts.push(new Chart(card, data, group, options));
      });
    }
    drawAll();
  }

  /* ---- tabs */
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
  function show(tab, remember) {
    for (const other of tabs) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
      panel(other).hidden = other !== tab;
    }
    fill(panel(tab));
    if (remember) history.replaceState(null, "", `#${panel(tab).id}`);
  }
  tabs.forEach((tab, at) => {
    tab.addEventListener("click", () => show(tab, true));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = tabs[(to + tabs.length) % tabs.length];
      next.focus();
      show(next, true);
    });
  });
  const fromAddress = () => show(tabs.find((tab) => `#${panel(tab).id}` === location.hash) || tabs[0], false);
  addEventListener("hashchange", fromAddress);
  addEventListener("beforeprint", () => tabs.forEach((tab) => { panel(tab).hidden = false; fill(panel(tab)); }));
  addEventListener("afterprint", fromAddress);

  /* ---- runs */
  if (data.runs.length > 1) {
    data.runs.forEach((run, r) => {
      const dot = make("span", { class: "dot", style: `background:var(--s${r % 8})` });
      const chip = make("button", { class: "chip", type: "button", "aria-pressed": "true" }, dot, run.label);
      chip.addEventListener("click", () => {
        options.hiddenRuns.has(r) ? options.hiddenRuns.delete(r) : options.hiddenRuns.add(r);
        chip.setAttribute("aria-pressed", String(!options.hiddenRuns.has(r)));
        drawAll();
      });
      document.getElementById("runs").append(chip);
    });
  }

  /* ---- settings: the same control may stand in several parts, and they agree */
  const controls = (name) => [...document.querySelectorAll(`[data-option="${name}"]`)];
  const bind = (name, read, write) => controls(name).forEach((control) => control.addEventListener("input", () => {
    const value = read(control);
    controls(name).forEach((other) => write(other, value));
    options[name] = value;
    drawAll();
  }));
  bind("x", (c) => c.value, (c, v) => { c.value = v; });
  bind("log", (c) => c.checked, (c, v) => { c.checked = v; });
  bind("outliers", (c) => c.checked, (c, v) => { c.checked = v; });
  bind("smooth", (c) => Number(c.value), (c, v) => { c.value = v; c.nextElementSibling.textContent = v.toFixed(2); });
  document.querySelectorAll("[data-filter]").forEach((search) => search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const card of search.closest("section").querySelectorAll("article")) card.hidden = !words.every((w) => card.dataset.title.includes(w));
  }));
  document.querySelectorAll("[data-differences]").forEach((box) => box.addEventListener("input", () => {
    document.body.classList.toggle("only-differences", box.checked);
    document.querySelectorAll("[data-differences]").forEach((other) => { other.checked = box.checked; });
  }));
  fromAddress();
})();
