"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // Plots, in the colours of the page.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const paint = (doc) => {
    const ink = colour("quiet"), line = colour("line");
    for (const model of doc.all_models) {
      const tag = (model.tags || [])[0];
      if (["better", "worse", "same", "accent"].includes(tag)) {
        const own = colour(tag);
        const fill = model.type === "Scatter" ? { fill_color: own } : {};
        model.setv({ line_color: own, ...fill });
      } else if (/Axis$/.test(model.type)) {
        model.setv({ axis_label_text_color: ink, major_label_text_color: ink, axis_line_color: line, major_tick_line_color: line });
      } else if (model.type === "Grid") {
        model.setv({ grid_line_color: line });
      } else if (model.type === "Legend") {
        model.setv({ label_text_color: ink, background_fill_color: null, border_line_color: null });
      }
    }
  };
  const documents = [];
  const repaint = () => documents.forEach(paint);
  for (const [id, item] of Object.entries(JSON.parse(byId("plots").textContent))) {
    if (!byId(id)) continue;
    Bokeh.embed.embed_item(item, id).then((views) => {
      const view = views.get_by_id ? [...views][0] : views[0] || [...views.roots][0];
      documents.push(view.model.document);
      paint(view.model.document);
      document.documentElement.dataset.drawn = documents.length;
    });
  }
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", repaint);

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details.printed")) part.open = true;
  });

  // The list of questions.
  const list = byId("questions");
  if (!list) return;
  const rows = [...list.children].map((element) => ({
    element,
    text: element.textContent.toLowerCase(),
    sign: element.dataset.sign,
    change: Number(element.dataset.change),
    before: Number(element.dataset.before),
    after: Number(element.dataset.after),
  }));
  const orders = {
    change: (a, b) => Math.abs(b.change) - Math.abs(a.change),
    better: (a, b) => b.change - a.change,
    worse: (a, b) => a.change - b.change,
    before: (a, b) => a.before - b.before,
    after: (a, b) => a.after - b.after,
  };
  const step = 20;
  let shown = step;
  const update = () => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const sign = byId("sign").value;
    const found = rows
      .filter((row) => (!sign || row.sign === sign) && words.every((word) => row.text.includes(word)))
      .sort(orders[byId("sort").value]);
    list.replaceChildren(...found.slice(0, shown).map((row) => row.element));
    byId("count").textContent = `${Math.min(shown, found.length)} of ${found.length} shown`;
    byId("more").hidden = found.length <= shown;
  };
  byId("tools").hidden = false;
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["search", "sign", "sort"]) byId(id).addEventListener("input", () => { shown = step; update(); });
  byId("more").addEventListener("click", () => { shown += 2 * step; update(); });
  update();
})();
