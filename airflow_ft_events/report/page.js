"use strict";
(() => {
  const figure = JSON.parse(document.getElementById("figure").textContent);
  const chart = document.getElementById("chart");
  const keys = document.getElementById("keys");
  const scale = document.getElementById("scale");
  const dark = matchMedia("screen and (prefers-color-scheme: dark)");
  const narrow = matchMedia("screen and (max-width: 760px)");
  const looks = {
    light: { ink: "#33383f", soft: "#616b78", grid: "#e6e8eb", box: "#ffffff", edge: "#c9ced5", card: "#ffffff" },
    dark: { ink: "#d9dee4", soft: "#97a1ae", grid: "#2a3038", box: "#1f252d", edge: "#3b434e", card: "#171b21" },
  };
  const axes = Object.keys(figure.layout).filter((name) => /^[xy]axis\d*$/.test(name));
  const legends = Object.keys(figure.layout).filter((name) => /^legend\d*$/.test(name));

  const inColours = (look) => {
    const change = {
      paper_bgcolor: look.card,
      plot_bgcolor: look.card,
      "font.color": look.ink,
      "hoverlabel.bgcolor": look.box,
      "hoverlabel.bordercolor": look.edge,
      "hoverlabel.font.color": look.ink,
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": look.edge,
      "modebar.activecolor": look.soft,
    };
    for (const axis of axes) {
      change[axis + ".gridcolor"] = look.grid;
      change[axis + ".tickfont.color"] = look.soft;
      if (axis === "xaxis") change["xaxis.spikecolor"] = look.soft;
    }
    for (const legend of legends) change[legend + ".font.color"] = look.ink;
    return change;
  };
  const margin = { ...figure.layout.margin };
  const inWidth = (isNarrow) => {
    const change = { "margin.l": isNarrow ? 40 : margin.l, "margin.r": isNarrow ? 10 : margin.r };
    for (const legend of legends) change[legend + ".visible"] = !isNarrow;
    return change;
  };
  const shown = () => ({ ...inColours(dark.matches ? looks.dark : looks.light), ...inWidth(narrow.matches) });

  const groupsOf = (data) => {
    const groups = new Map();
    data.forEach((trace, place) => {
      if (!trace.legendgroup) return;
      const key = trace.yaxis + " " + trace.legendgroup;
      const group = groups.get(key) || { trace, places: [] };
      if (trace.showlegend) group.trace = trace;
      group.places.push(place);
      groups.set(key, group);
    });
    return [...groups.values()];
  };
  const plainText = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent;
  const writeKeys = () => {
    keys.replaceChildren();
    const paints = [];
    let panel = "";
    for (const group of groupsOf(chart.data)) {
      if (group.trace.yaxis !== panel) {
        panel = group.trace.yaxis;
        const title = document.createElement("h3");
        title.textContent = figure.layout.meta.panels[panel];
        keys.append(title);
      }
      const key = document.createElement("button");
      const dot = document.createElement("i");
      dot.style.background = group.trace.line.color;
      key.type = "button";
      key.append(dot, plainText(group.trace.legendgroup));
      const isOn = () => chart.data[group.places[0]].visible === true;
      const paint = () => key.setAttribute("aria-pressed", String(isOn()));
      key.addEventListener("click", () => {
        Plotly.restyle(chart, { visible: isOn() ? "legendonly" : true }, group.places);
      });
      paints.push(paint);
      paint();
      keys.append(key);
    }
    chart.on("plotly_restyle", () => paints.forEach((paint) => paint()));
  };

  const loss = figure.layout.meta && figure.layout.meta.log_axis;
  const options = {
    responsive: true,
    displaylogo: false,
    displayModeBar: "hover",
    plotlyServerURL: "",
    showSendToCloud: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
    toImageButtonOptions: { format: "svg", filename: "training-curves" },
  };
  const layout = figure.layout;
  if (layout.xaxis) layout.xaxis.unifiedhovertitle = { text: "Step %{x:,d}" };

  for (const [path, value] of Object.entries(shown())) {
    const names = path.split(".");
    const last = names.pop();
    names.reduce((part, name) => (part[name] = part[name] || {}), layout)[last] = value;
  }

  Plotly.newPlot(chart, figure.data, layout, options).then(() => {
    writeKeys();
    if (loss) {
      scale.hidden = false;
      scale.addEventListener("click", () => {
        const pressed = scale.getAttribute("aria-pressed") !== "true";
        scale.setAttribute("aria-pressed", String(pressed));
        Plotly.relayout(chart, { [loss + ".type"]: pressed ? "log" : "linear", [loss + ".autorange"]: true });
      });
    }
    const again = () => Plotly.relayout(chart, shown());
    dark.addEventListener("change", again);
    narrow.addEventListener("change", again);
    const height = layout.height;
    const onPaper = { width: 670, height: Math.min(height, 860), autosize: false };
    let unprinted = [];
    addEventListener("beforeprint", () => {
      unprinted = chart.data.flatMap((trace, place) => (trace.showlegend && trace.visible !== true ? [place] : []));
      const change = { ...inColours(looks.light), ...inWidth(false), ...onPaper };
      if (unprinted.length) Plotly.update(chart, { showlegend: false }, change, unprinted);
      else Plotly.relayout(chart, change);
    });
    addEventListener("afterprint", () => {
      const change = { ...shown(), width: null, height, autosize: true };
      if (unprinted.length) Plotly.update(chart, { showlegend: true }, change, unprinted);
      else Plotly.relayout(chart, change);
    });
    document.documentElement.dataset.drawn = "yes";
  });
})();
