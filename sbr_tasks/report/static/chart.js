// Line charts of a few panels over one axis, explored with the pointer or the keyboard.

import { el, svg } from "./page.js";

const LEFT = 46,
  RIGHT = 12,
  TOP = 22,
  BOTTOM = 22;
const MAX_DOTS = 130; // with more visible points, only lines and a band are drawn

/**
 * A chart in `host`, which becomes one slider: arrow keys move from point to point, and a screen reader reads each.
 *
 * @param {HTMLElement} host Takes the panels.
 * @param {object} what
 * @param {string} what.label What the axis is, for a screen reader.
 * @param {object[]} what.points In the order of the axis.
 * @param {(point) => number} what.x Place on the axis.
 * @param {(from, to, most) => [number, string][]} what.ticks Places and texts of at most so many ticks.
 * @param {object[]} what.panels `title`, `series` (`name`, `value(point)`), and perhaps `range(point)` and `isMarked(point)`.
 * @param {(point) => string} what.describe A point in words.
 * @param {(point) => Node[]} what.tip A point in the tooltip.
 * @param {(point) => void} [what.open] What a click or Enter does.
 * @param {(from, to) => void} [what.zoomed] Called after the visible range has changed; without it there is no zoom.
 * @returns {{show: (from: number, to: number) => void}}
 */
function chart(host, { label, points, x, ticks, panels, height = 190, describe, tip, open, zoomed }) {
  const all = [x(points[0]), x(points.at(-1))];
  let [from, to] = all;
  let active = points.length - 1;
  let drawn = [];
  let drag = null;
  const box = el("div", { class: "tip", hidden: "" });
  host.classList.add("plots");
  host.append(box);
  set({
    tabindex: 0,
    role: "slider",
    "aria-label": label,
    "aria-valuemin": 0,
    "aria-valuemax": points.length - 1,
    "aria-orientation": "horizontal",
  });
  move(active, false);

  function set(attributes) {
    for (const [name, value] of Object.entries(attributes)) host.setAttribute(name, value);
  }

  function draw() {
    const visible = points.filter((point) => x(point) >= from && x(point) <= to);
    for (const panel of drawn) panel.root.remove();
    drawn = panels.map((panel) => drawPanel(panel, visible));
    host.prepend(...drawn.map((panel) => panel.root));
    if (!box.hidden) move(active, true);
  }

  function drawPanel(panel, visible) {
    const width = Math.max(host.clientWidth, 160);
    const span = to - from || 1;
    const toX = (value) => LEFT + ((value - from) / span) * (width - LEFT - RIGHT);
    const known = visible
      .flatMap((point) => [...panel.series.map((one) => one.value(point)), ...(panel.range?.(point) ?? [])])
      .filter(Number.isFinite);
    const scale = niceScale(Math.min(...known), Math.max(...known));
    const toY = (value) => TOP + (1 - (value - scale.from) / (scale.to - scale.from)) * (height - TOP - BOTTOM);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    root.append(svg("text", { class: "panel-title", x: LEFT, y: 12 }, panel.title));
    for (const value of known.length ? scale.ticks : []) {
      root.append(svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: toY(value), y2: toY(value) }));
      root.append(svg("text", { class: "axis", x: LEFT - 6, y: toY(value) + 4, "text-anchor": "end" }, scale.text(value)));
    }
    for (const [value, text] of ticks(from, to, Math.floor((width - LEFT - RIGHT) / 78))) {
      const place = toX(value);
      const anchor = place > width - 34 ? "end" : place < LEFT + 20 ? "start" : "middle";
      root.append(svg("text", { class: "axis", x: place, y: height - 5, "text-anchor": anchor }, text));
    }
    const isDense = visible.length > MAX_DOTS;
    root.append(...(panel.range ? drawRanges(visible, panel.range, toX, toY, isDense) : []));
    for (const one of [...panel.series].reverse()) {
      root.append(svg("path", { class: `line ${one.name}`, d: path(visible, one.value, toX, toY) }));
      if (!isDense) {
        const shown = visible.filter((point) => Number.isFinite(one.value(point)));
        root.append(
          ...shown.map((point) =>
            svg("circle", {
              class: `dot ${one.name}`,
              cx: toX(x(point)),
              cy: toY(one.value(point)),
              r: one === panel.series[0] ? 4 : 3,
            }),
          ),
        );
      }
    }
    const marked = panel.isMarked
      ? visible.filter((point) => panel.isMarked(point) && Number.isFinite(panel.series[0].value(point)))
      : [];
    root.append(
      ...marked.map((point) =>
        svg("path", { class: "mark", d: triangle(toX(x(point)), toY(panel.series[0].value(point)) - 6, isDense ? 4 : 6) }),
      ),
    );
    const cursor = svg("line", { class: "cursor", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
    const rings = panel.series.map(() => svg("circle", { class: "ring", r: 6, visibility: "hidden" }));
    const dragged = svg("rect", { class: "drag", y: TOP, height: height - TOP - BOTTOM, visibility: "hidden" });
    root.append(cursor, ...rings, dragged);
    return { root, panel, width, toX, toY, cursor, rings, dragged };
  }

  function drawRanges(visible, range, toX, toY, isDense) {
    const ranged = visible.filter((point) => range(point));
    if (!isDense) {
      return ranged.map((point) => {
        const [lower, upper] = range(point);
        return svg("line", { class: "whisker", x1: toX(x(point)), x2: toX(x(point)), y1: toY(lower), y2: toY(upper) });
      });
    }
    const upper = ranged.map((point) => `${toX(x(point))},${toY(range(point)[1])}`);
    const lower = ranged.map((point) => `${toX(x(point))},${toY(range(point)[0])}`).reverse();
    return [svg("polygon", { class: "band", points: [...upper, ...lower].join(" ") })];
  }

  function path(visible, value, toX, toY) {
    let pen = "M";
    return visible
      .map((point) => {
        if (!Number.isFinite(value(point))) {
          pen = "M";
          return "";
        }
        const step = `${pen}${toX(x(point)).toFixed(1)} ${toY(value(point)).toFixed(1)}`;
        pen = "L";
        return step;
      })
      .join("");
  }

  function move(i, isShown) {
    active = Math.min(Math.max(i, 0), points.length - 1);
    const point = points[active];
    set({ "aria-valuenow": active, "aria-valuetext": describe(point) });
    if (!isShown) return;
    let place = null;
    for (const { root, panel, toX, toY, cursor, rings } of drawn) {
      const at = toX(x(point));
      place ??= at + root.getBoundingClientRect().left - host.getBoundingClientRect().left;
      show(cursor, { x1: at, x2: at });
      panel.series.forEach((one, n) => {
        const value = one.value(point);
        if (Number.isFinite(value)) show(rings[n], { cx: at, cy: toY(value) });
        else rings[n].setAttribute("visibility", "hidden");
      });
    }
    box.replaceChildren(...tip(point));
    box.hidden = false;
    const room = host.clientWidth - box.offsetWidth;
    const left = place + 16 > room ? place - box.offsetWidth - 16 : place + 16;
    box.style.left = `${Math.max(0, Math.min(left, room))}px`;
    box.style.top = `${TOP + 4}px`;
  }

  function show(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.setAttribute("visibility", "visible");
  }

  function hide() {
    box.hidden = true;
    for (const { cursor, rings } of drawn) for (const node of [cursor, ...rings]) node.setAttribute("visibility", "hidden");
  }

  /** The panel under the pointer, and the place on the axis that the pointer is at. */
  function under(event) {
    const panel = drawn.find(({ root }) => root.contains(event.target)) ?? drawn[0];
    const inside = event.clientX - panel.root.getBoundingClientRect().left;
    const share = (inside - LEFT) / (panel.width - LEFT - RIGHT);
    return { panel, inside, value: from + Math.min(Math.max(share, 0), 1) * (to - from) };
  }

  function nearest(value) {
    let best = active,
      distance = Infinity;
    points.forEach((point, i) => {
      const found = x(point) < from || x(point) > to ? Infinity : Math.abs(x(point) - value);
      if (found <= distance) [best, distance] = [i, found];
    });
    return best;
  }

  function zoom(start, end) {
    [from, to] = [Math.max(start, all[0]), Math.min(end, all[1])];
    if (points.filter((point) => x(point) >= from && x(point) <= to).length < 2) [from, to] = all;
    hide();
    draw();
    zoomed?.(from, to);
  }

  /** Half or twice the range, around the active point. */
  function zoomBy(factor) {
    const half = ((to - from) * factor) / 2;
    zoom(x(points[active]) - half, x(points[active]) + half);
  }

  host.addEventListener("pointermove", (event) => {
    const { value, inside } = under(event);
    if (drag && zoomed) {
      drag.now = value;
      const [a, b] = [drag.inside, inside].sort((one, other) => one - other);
      show(drag.panel.dragged, { x: Math.max(a, LEFT), width: Math.max(b - Math.max(a, LEFT), 0) });
    }
    move(nearest(value), true);
  });
  host.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType === "mouse") drag = under(event);
  });
  host.addEventListener("pointerup", (event) => {
    const began = drag;
    drag = null;
    if (!began) return;
    began.panel.dragged.setAttribute("visibility", "hidden");
    const { inside, value } = under(event);
    if (zoomed && Math.abs(inside - began.inside) > 8) zoom(Math.min(began.value, value), Math.max(began.value, value));
    else open?.(points[nearest(value)]);
  });
  host.addEventListener("pointerleave", () => {
    drag?.panel.dragged.setAttribute("visibility", "hidden");
    drag = null;
    if (document.activeElement !== host) hide();
  });
  host.addEventListener("focus", () => host.matches(":focus-visible") && move(active, true));
  host.addEventListener("blur", hide);
  host.addEventListener("keydown", (event) => {
    const keys = {
      ArrowRight: () => step(1),
      ArrowUp: () => step(1),
      ArrowLeft: () => step(-1),
      ArrowDown: () => step(-1),
      PageUp: () => step(10),
      PageDown: () => step(-10),
      Home: () => step(-points.length),
      End: () => step(points.length),
      Escape: hide,
      Enter: open && (() => open(points[active])),
      "+": zoomed && (() => zoomBy(0.5)),
      "-": zoomed && (() => zoomBy(2)),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  /** Moves to another point, and scrolls it into view. */
  function step(by) {
    move(active + by, false);
    const place = x(points[active]);
    if (place < from || place > to) {
      const shift = place < from ? place - from : place - to;
      [from, to] = [from + shift, to + shift];
      draw();
      zoomed?.(from, to);
    }
    move(active, true);
  }

  new ResizeObserver(draw).observe(host);
  return { show: zoom };
}

function triangle(x, y, size) {
  return `M${x - size} ${y}L${x + size} ${y}L${x} ${y - 1.6 * size}Z`;
}

/** Round ticks around some values; a flat line gets room above and below. */
function niceScale(low, high) {
  const span = high - low || Math.abs(high) * 0.2 || 1;
  const raw = span / 4;
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * magnitude).find((one) => one >= raw);
  const from = Math.floor((high === low ? low - span / 2 : low) / step) * step;
  const to = Math.ceil((high === low ? high + span / 2 : high) / step) * step;
  const ticks = Array.from({ length: Math.round((to - from) / step) + 1 }, (_, i) => from + i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)) + (step / magnitude === 2.5 ? 1 : 0));
  return { from, to, ticks, text: (value) => value.toFixed(Math.min(digits, 6)) };
}

const DAY_MS = 86_400_000;
const DAY_STEPS = [1, 2, 3, 7, 14, 28];
const MONTH_STEPS = [1, 2, 3, 6, 12, 24, 60];

/** Ticks of an axis of days, given in milliseconds since 1970. */
function dayTicks(from, to, limit) {
  const days = (to - from) / DAY_MS;
  const step = DAY_STEPS.find((one) => days / one < limit);
  if (step) {
    const last = Math.floor(to / DAY_MS) * DAY_MS;
    const places = [];
    for (let at = last; at >= from; at -= step * DAY_MS) places.push(at);
    return places.map((at) => [
      at,
      new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }),
    ]);
  }
  const months = MONTH_STEPS.find((one) => days / 30.4 / one < limit) ?? 120;
  const first = new Date(from);
  const places = [];
  for (let month = Math.ceil((first.getUTCFullYear() * 12 + first.getUTCMonth() + 0.01) / months) * months; ; month += months) {
    const at = Date.UTC(Math.floor(month / 12), month % 12);
    if (at > to) break;
    if (at >= from)
      places.push([at, new Date(at).toLocaleDateString("en-GB", { month: "short", year: "numeric", timeZone: "UTC" })]);
  }
  return places;
}

export { DAY_MS, chart, dayTicks };
