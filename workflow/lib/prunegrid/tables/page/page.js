// Charts, tables and the state of a study's page. Texts of the data go through textContent alone.
"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = {}, specs = read("charts"), views = {}, root = document.documentElement;
  for (const [name, { columns, rows }] of Object.entries(read("data")))
    data[name] = rows.map((row) => Object.fromEntries(columns.map((c, i) => [c, row[i]])));
  window.prunegrid = { data, views };  // what a reader may look at in the console

  // The state of the page is its URL's fragment: selectors, searches, open drawers, theme, place.
  const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const keep = (name, value) => {
    if (value) state.set(name, value); else state.delete(name);
    history.replaceState(null, "", "#" + state);
  };
  const inputs = [...document.querySelectorAll("select[id], input[id]")];
  for (const one of inputs) if (state.has(one.id)) {
    const is = state.get(one.id);
    if (one.type === "checkbox") one.checked = is === "1";
    else if (one.tagName !== "SELECT" || [...one.options].some((o) => o.value === is)) one.value = is;
  }
  const go = (id) => {
    const place = document.getElementById(id);
    if (!place) return;
    if (place.tagName === "DETAILS") place.open = true;
    place.scrollIntoView();
  };
  const open = new Set((state.get("open") || "").split(" ").filter(Boolean));
  for (const one of document.querySelectorAll("details[id]")) {
    if (open.has(one.id)) one.open = true;
    one.addEventListener("toggle", () => {
      if (one.open) open.add(one.id); else open.delete(one.id);
      keep("open", [...open].join(" "));
      one.querySelectorAll("table[data-rows]").forEach(fill);
    });
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link) return;
    event.preventDefault();
    keep("at", link.getAttribute("href").slice(1));
    go(state.get("at"));
  });
  // A step of a lineage gets its settings when it is opened: many rows share a step.
  document.addEventListener("toggle", (event) => {
    const step = event.target, source = document.getElementById(step.dataset.clone);
    if (source && step.open && step.childElementCount === 1) step.append(source.content.cloneNode(true));
  }, true);

  // Light and dark.
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  if (["dark", "light"].includes(state.get("theme"))) root.dataset.theme = state.get("theme");
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    keep("theme", root.dataset.theme);
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());

  // A spec's "$select" stands for the value of a selector, "$select:label" and "$select:name" for
  // its label and its data-name; "$select=name" stands for the JSON of its data-name.
  const chosen = (text) => {
    for (const one of document.querySelectorAll("select[id]")) {
      const option = one.selectedOptions[0], own = option ? option.dataset : {};
      const values = { ...own, label: option ? option.textContent : "" };
      for (const [name, value] of Object.entries(values))
        text = text.replaceAll('"$' + one.id + "=" + name + '"', () => value)
          .replaceAll("$" + one.id + ":" + name, () => JSON.stringify(value).slice(1, -1));
      text = text.replaceAll('$' + one.id, () => JSON.stringify(one.value).slice(1, -1));
    }
    return text;
  };
  // A chart takes the width that the page has, at most that of its spec; `beside` is left for its
  // axis. What needs more room, such as a heatmap, scrolls in its own box.
  const BESIDE = 100, NARROWEST = 240, CHARACTER = 7.5;
  const wrapped = (text, room) => text.split(" ").reduce((lines, word) => {
    const last = lines[lines.length - 1];
    if (last !== undefined && (last + " " + word).length * CHARACTER <= room) lines[lines.length - 1] += " " + word;
    else lines.push(word);
    return lines;
  }, []);
  const fit = (spec, room, beside) => {
    if (spec.columns) spec.columns = Math.max(1, Math.min(spec.columns, Math.floor(room / (NARROWEST + 2 * BESIDE))));
    const free = Math.max(NARROWEST, Math.floor(room / (spec.columns || 1)) - beside);
    const each = (view) => {
      if (!view || typeof view !== "object") return;
      const isView = "mark" in view || "layer" in view;
      if (isView && typeof view.width === "number") view.width = Math.min(view.width, free);
      if (isView && typeof view.title === "string") view.title = wrapped(view.title, free);
      else if (view.title && typeof view.title.text === "string") view.title.text = wrapped(view.title.text, free);
      Object.values(view).forEach(each);
    };
    each(spec);
    return spec;
  };
  // The page's blue is too dark on a dark page.
  const BLUE = ["#0072B2", "#3F8FE0"];
  const config = (room) => {
    const ink = getComputedStyle(root).getPropertyValue("--ink").trim();
    const quiet = getComputedStyle(root).getPropertyValue("--quiet").trim();
    const rule = getComputedStyle(root).getPropertyValue("--rule").trim();
    return {
      background: "transparent", font: "system-ui, sans-serif", view: { stroke: rule },
      axis: { labelColor: ink, titleColor: quiet, gridColor: rule, domainColor: rule, tickColor: rule, titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12, titleLimit: 360, labelLimit: 320 },
      legend: { symbolBaseFillColor: quiet, symbolBaseStrokeColor: quiet, labelColor: ink, titleColor: quiet, titleFontWeight: "normal", labelFontSize: 12, labelLimit: 320, orient: "top", columns: Math.max(1, Math.floor(room / 230)), gradientLength: Math.min(240, room - 80) },
      header: { labelColor: ink, titleColor: quiet, labelFontSize: 12, labelLimit: 600 }, title: { color: ink, anchor: "start" }, text: { color: ink }, rule: { color: quiet },
    };
  };
  const used = (spec, found = new Set()) => {
    if (spec && typeof spec === "object") {
      if (spec.data && spec.data.name) found.add(spec.data.name);
      Object.values(spec).forEach((part) => used(part, found));
    }
    return found;
  };
  const roomOf = (place) => place.closest("section").clientWidth;
  const draw = async (id) => {
    const place = document.getElementById(id), room = roomOf(place);
    const text = chosen(JSON.stringify(specs[id]));
    const spec = JSON.parse(dark() ? text.replaceAll(...BLUE) : text);
    // Of altair's config only the sizes stay: the colours are the page's, light or dark.
    const own = spec.config || {}, ours = config(room);
    spec.config = { ...own, ...ours, view: { ...own.view, ...ours.view } };
    const section = place.closest("section");
    spec.description ||= section.querySelector("h2").textContent + ". " + section.querySelector(".caption").textContent;
    spec.datasets = { ...spec.datasets };
    for (const name of used(spec)) if (data[name]) spec.datasets[name] = data[name];
    const options = { renderer: "svg", ast: true, logLevel: 1, actions: { export: true, source: false, compiled: false, editor: false } };
    // How wide an axis is, with its names, is known once it is drawn: if it was more, once more.
    for (let beside = BESIDE, turn = 0; turn < 2; turn++) {
      const result = await vegaEmbed(place, fit(spec, room, beside), options);
      if (views[id]) views[id].finalize();
      views[id] = result.view;
      const excess = place.querySelector("svg").getBoundingClientRect().width - room;
      if (excess <= 0) break;
      beside += Math.ceil(excess);
    }
    place.querySelector(".chart-wrapper").tabIndex = 0;  // a box that keyboards can scroll
    place.dataset.drawn = String(Number(place.dataset.drawn || 0) + 1);
  };
  const drawAll = () => Promise.all(Object.keys(specs).map(draw));
  let width = root.clientWidth, waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (root.clientWidth !== width) { width = root.clientWidth; drawAll(); } }, 150);
  });
  for (const one of inputs) one.addEventListener(one.tagName === "SELECT" ? "change" : "input", () => {
    keep(one.id, one.type === "checkbox" ? (one.checked ? "1" : "") : one.value);
    for (const id of Object.keys(specs)) if (JSON.stringify(specs[id]).includes("$" + one.id)) draw(id);
  });

  // Tables: filled from the data, searched and sorted.
  const shown = (value) => value === null ? "" : typeof value === "number" && !Number.isInteger(value)
    ? String(Number(value.toPrecision(5))) : Array.isArray(value) ? value.join("; ") : String(value);
  const MOST = 500;
  function fill(table) {
    const rows = data[table.dataset.rows] || [];
    if (table.tHead || !rows.length) return;
    const columns = Object.keys(rows[0]).filter((c) => rows.some((r) => r[c] !== null));
    const head = table.createTHead().insertRow();
    for (const name of columns) head.append(Object.assign(document.createElement("th"), { textContent: name.replaceAll("_", " "), scope: "col" }));
    const body = table.createTBody();
    table.refill = (words, column, down) => {
      const fits = rows.filter((row) => words.every((w) => columns.some((c) => shown(row[c]).toLowerCase().includes(w))));
      if (column !== undefined) fits.sort((a, b) => order(a[columns[column]], b[columns[column]], down));
      body.replaceChildren();
      for (const row of fits.slice(0, MOST)) {
        const line = body.insertRow();
        for (const name of columns) {
          const cell = line.insertCell();
          cell.textContent = shown(row[name]);
          if (typeof row[name] === "number") cell.className = "number";
        }
      }
      return [Math.min(fits.length, MOST), rows.length];
    };
    table.refill([]);
    prepare(table);
  }
  const order = (a, b, down) => {
    const none = (v) => v === null || v === "";
    if (none(a) || none(b)) return none(a) - none(b);
    const [x, y] = [Number(a), Number(b)];
    const result = Number.isNaN(x) || Number.isNaN(y) ? String(a).localeCompare(String(b), "en", { numeric: true }) : x - y;
    return down ? -result : result;
  };
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  function prepare(table) {
    const heads = [...table.tHead.rows[0].cells], search = document.getElementById(table.dataset.search);
    const count = table.dataset.count && document.getElementById(table.dataset.count);
    let column, down = false;
    const arrange = () => {
      const words = search ? search.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
      let counts;
      if (table.refill) counts = table.refill(words, column, down);
      else {
        const rows = [...table.tBodies[0].rows];
        if (column !== undefined) {
          rows.sort((a, b) => order(key(a, column), key(b, column), down));
          table.tBodies[0].append(...rows);
        }
        for (const row of rows) row.hidden = !words.every((w) => row.textContent.toLowerCase().includes(w));
        counts = [rows.filter((row) => !row.hidden).length, rows.length];
      }
      if (count) count.textContent = `${counts[0]} of ${counts[1]} rows`;
      heads.forEach((head, i) => head.setAttribute("aria-sort", i === column ? (down ? "descending" : "ascending") : "none"));
    };
    heads.forEach((head, index) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        down = column === index && !down;
        column = index;
        if (table.id) keep("sort-" + table.id, `${index}${down ? "d" : ""}`);
        arrange();
      });
    });
    if (search) search.addEventListener("input", arrange);
    const sorted = table.id && /^(\d+)(d?)$/.exec(state.get("sort-" + table.id) || "");
    if (sorted && heads[sorted[1]]) { column = Number(sorted[1]); down = sorted[2] === "d"; }
    arrange();
  }
  // A line of the cells' table leads to the drawer of its number.
  [...document.querySelectorAll("#cells tbody tr")].forEach((line, i) => {
    if (!document.getElementById("cell-" + i)) return;
    const link = Object.assign(document.createElement("a"), { href: "#cell-" + i, textContent: line.cells[0].textContent });
    line.cells[0].replaceChildren(link);
  });
  document.querySelectorAll("table.sortable").forEach(prepare);
  document.querySelectorAll("table[data-rows]").forEach((table) => {
    const closed = table.closest("details:not([open])");
    if (!closed) fill(table);
  });

  document.getElementById("written").textContent = new Date(document.lastModified).toISOString().slice(0, 10);
  drawAll().then(() => {
    root.dataset.ready = "1";
    go(state.get("at") || decodeURIComponent(location.hash.slice(1)));
  });
})();
