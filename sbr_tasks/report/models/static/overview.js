// The first view: the live champion, the charts, the session box, the table of decisions.

import { DAY_MS, chart, dayTicks } from "./chart.js";
import {
  METRICS,
  ask,
  askPin,
  askRollback,
  badge,
  byId,
  count,
  dagLink,
  dayInWords,
  decisionTable,
  el,
  facts,
  instant,
  noteStale,
  plural,
  runLink,
  score,
  showProblem,
  signed,
  svg,
  versionLink,
} from "./common.js";

const ROWS_AT_FIRST = 10,
  ROWS_MORE = 100;
const RANGES = [
  ["14 days", 14],
  ["30 days", 30],
  ["90 days", 90],
  ["1 year", 365],
];

function showChampion(champion, mayRollBack, mayPin) {
  const place = byId("champion-content");
  byId("champion").hidden = false;
  if (!champion) {
    place.append(
      el("p", { class: "name" }, "None yet"),
      el(
        "p",
        {},
        "There is no champion yet. The first version from ",
        dagLink("daily_retrain"),
        " that passes the gate becomes champion.",
      ),
    );
    return;
  }
  const { facts: made, metrics } = champion;
  const how = champion.outcome === "rollback" ? "Restored by a rollback" : champion.label;
  const about = [
    el("p", { class: "name" }, versionLink(champion.version)),
    el(
      "p",
      { class: "calm" },
      `${how} on `,
      instant(champion.since),
      champion.before ? [", replacing ", versionLink(champion.before)] : "",
      ", by ",
      runLink(champion.run, champion.outcome),
    ),
    el(
      "ul",
      { class: "why" },
      champion.reasons.map((reason) => el("li", {}, reason)),
    ),
  ];
  const tile = (name, value, small) =>
    el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, small ? el("small", {}, ` ${small}`) : ""));
  const tiles = el(
    "dl",
    { class: "tiles" },
    tile("Recall@20", score(metrics.recall_at_20)),
    tile("MRR@20", score(metrics.mrr_at_20)),
    tile("Test events", count(metrics.n_events)),
    tile("Age", count(champion.days_old), champion.days_old === 1 ? "day" : "days"),
  );
  place.append(el("div", { class: "live" }, el("div", {}, about), tiles));
  if (champion.pin) {
    const { at, run, outcome, reason } = champion.pin;
    const pinned = [el("strong", {}, "Pinned"), " since ", instant(at), " by ", runLink(run, outcome), `: ${reason}`];
    place.append(el("div", { class: "note", id: "pin" }, pinned));
  }
  if (champion.fault) place.append(el("div", { class: "note" }, champion.fault));
  const late = el("div");
  place.append(late);
  if (made) place.append(lineage(champion, made));
  if (made) noteStale(champion.version, late);
  const button = (text, click) => el("button", { type: "button", click }, text);
  const buttons = [
    mayRollBack &&
      champion.may_return.length > 0 &&
      button("Roll back …", () => askRollback({ champion: champion.version, choices: champion.may_return })),
    mayPin &&
      button(champion.pin ? "Unpin …" : "Pin …", () =>
        askPin({ champion: champion.version, isPinned: Boolean(champion.pin) }),
      ),
  ];
  if (buttons.some(Boolean)) place.append(el("div", { class: "actions" }, buttons));
}

/** The newest entry, where it isn't the one that made the champion. */
function showLast(rows, champion) {
  const [last] = rows;
  if (!last || last.entry === champion?.entry) return;
  const about = [
    el("p", { class: "headline" }, badge(last), " ", versionLink(last.version)),
    el(
      "ul",
      { class: "why" },
      last.reasons.map((reason) => el("li", {}, reason)),
    ),
    el("p", { class: "calm" }, instant(last.at), ", by ", runLink(last.run, last.outcome)),
  ];
  byId("last").append(...about);
  byId("last").hidden = false;
}

function lineage(champion, made) {
  const days = made.window_days;
  return facts([
    ["Day", dayInWords(champion.day)],
    ["Trained", made.trained_at && instant(made.trained_at)],
    ["Training data", `${count(made.n_events)} events, ${count(made.n_items)} items`],
    ["Window", days.length && `${plural(days.length, "day")}, ${days[0]} to ${days.at(-1)}`],
    ["Warm start", made.parent ? ["from ", versionLink(made.parent)] : "no (trained from scratch)"],
    ["Commit", made.git_revision && el("code", { title: made.git_revision }, made.git_revision.slice(0, 12))],
  ]);
}

function showCharts(rows) {
  const points = rows
    .filter((row) => row.recall_at_20 && Number.isFinite(row.recall_at_20.challenger))
    .map((row) => ({ ...row, at: Date.parse(`${row.day}T00:00:00Z`) }))
    .sort((one, other) => one.at - other.at || one.entry - other.entry);
  if (!points.length) return;
  byId("by-day").hidden = false;
  byId("legend").append(...legend());
  const panels = Object.entries(METRICS).map(([metric, title]) => ({
    title,
    series: [
      { name: "challenger", value: (point) => point[metric].challenger },
      { name: "champion", value: (point) => point[metric].champion ?? NaN },
    ],
    range: (point) => interval(point[metric]),
    isMarked: (point) => point.moves_champion,
  }));
  const buttons = rangeButtons(points, (days) => plots.show(points.at(-1).at - days * DAY_MS, Infinity));
  const plots = chart(byId("plots"), {
    label: "Day",
    points,
    x: (point) => point.at,
    ticks: dayTicks,
    panels,
    describe: inWords,
    tip: tooltip,
    open: (point) => (location.href = `version?name=${encodeURIComponent(point.version)}`),
    zoomed: (from, to) => {
      for (const [button, days] of buttons)
        button.setAttribute("aria-pressed", to === points.at(-1).at && from === Math.max(points[0].at, to - days * DAY_MS));
    },
  });
  const shown = [...buttons].reverse().find(([, days]) => days <= 90) ?? buttons.at(-1);
  plots.show(points.at(-1).at - shown[1] * DAY_MS, Infinity);
}

/** The champion's score plus the 95% interval of the difference. */
function interval({ champion, difference }) {
  return difference && champion !== null ? [champion + difference.lower, champion + difference.upper] : null;
}

function rangeButtons(points, choose) {
  const span = (points.at(-1).at - points[0].at) / DAY_MS;
  const choices = [...RANGES.filter(([, days]) => days < span), ["All", Math.ceil(span) || 1]];
  const buttons = choices.map(([text, days]) => [
    el("button", { type: "button", "aria-pressed": "false", click: () => choose(days) }, text),
    days,
  ]);
  byId("ranges").append(...buttons.map(([button]) => button));
  return buttons;
}

function legend() {
  const sample = (...parts) => svg("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" }, parts);
  const line = (name) => svg("path", { class: `line ${name}`, d: "M1 7H25" });
  const entries = [
    [[line("challenger"), svg("circle", { class: "dot challenger", cx: 13, cy: 7, r: 4 })], "Challenger of the day"],
    [[line("champion")], "Champion at the time, on the same events"],
    [
      [svg("line", { class: "whisker", x1: 13, x2: 13, y1: 2, y2: 12 })],
      "Champion's score plus the 95% interval of the difference",
    ],
    [[svg("path", { class: "mark", d: "M7 12L19 12L13 2Z" })], "Became champion"],
  ];
  return entries.map(([parts, text]) => el("span", {}, sample(parts), text));
}

function inWords(point) {
  const metrics = Object.entries(METRICS).map(([metric, label]) => {
    const { challenger, champion, difference } = point[metric];
    const against = champion === null ? "" : `, champion ${score(champion)}`;
    return `${label} ${score(challenger)}${against}${difference ? `, difference ${signed(difference.value)}` : ""}`;
  });
  return `${dayInWords(point.day)}: ${point.label}. ${metrics.join(". ")}. Version ${point.version}.`;
}

function tooltip(point) {
  const difference = ({ difference: found }) =>
    found ? [signed(found.value), el("small", {}, `${signed(found.lower)} to ${signed(found.upper)}`)] : "–";
  const lines = Object.entries(METRICS).map(([metric, label]) =>
    el(
      "tr",
      {},
      el("th", {}, label),
      el("td", {}, score(point[metric].challenger)),
      el("td", {}, score(point[metric].champion)),
      el("td", {}, difference(point[metric])),
    ),
  );
  const head = el(
    "tr",
    {},
    ["", "challenger", "champion", "difference"].map((text) => el("th", {}, text)),
  );
  const isCompared = Boolean(point.recall_at_20.difference);
  return [
    el("strong", {}, dayInWords(point.day)),
    badge(point),
    point.is_retired ? el("span", { class: "badge back" }, "Retired") : "",
    el("table", {}, el("thead", {}, head), el("tbody", {}, lines)),
    el(
      "p",
      {},
      `${point.version}, ${plural(point.n_events, "test event")}${isCompared ? "; 95% intervals" : ""}`,
    ),
  ];
}

function showTry(rows, champion) {
  const names = [...new Set(rows.map((row) => row.version))]
    .filter((name) => name !== champion.version)
    .sort()
    .reverse();
  const wanted = new URLSearchParams(location.search).get("beside");
  if (wanted && wanted !== champion.version && !names.includes(wanted)) names.unshift(wanted);
  const beside = byId("beside");
  beside.append(...names.map((name) => el("option", { value: name }, name)), el("option", { value: "" }, "no other version"));
  if (wanted && names.includes(wanted)) beside.value = wanted;
  byId("try").hidden = false;
  byId("try-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const place = byId("columns");
    place.replaceChildren("Loading …");
    try {
      const { columns } = await ask(`api/recommend?${new URLSearchParams(new FormData(event.target))}`);
      place.replaceChildren(
        ...columns.map((column, i) => recommended(column, columns[1 - i], column.model_version === champion.version)),
      );
    } catch (error) {
      place.replaceChildren(el("div", { class: "problem" }, error.message));
    }
  });
  if (wanted) byId("items").focus();
}

function recommended(column, other, isChampion) {
  const title = el(
    "h3",
    {},
    versionLink(column.model_version),
    " ",
    isChampion && el("span", { class: "badge good" }, "Champion"),
  );
  if (column.fault) return el("div", { class: "column" }, title, el("p", { class: "problem" }, column.fault));
  const notes = [
    column.is_fallback && "This version knows none of these items. Shown instead: the most clicked items and their number of clicks.",
    !column.is_fallback && column.unknown.length && unknownItems(column.unknown),
  ];
  const items = column.items.map((item, i) =>
    el(
      "li",
      {},
      el("code", {}, String(item)),
      moved(item, i, other),
      el("span", { class: "calm" }, column.is_fallback ? count(column.scores[i]) : column.scores[i].toFixed(3)),
    ),
  );
  return el(
    "div",
    { class: "column" },
    title,
    notes.filter(Boolean).map((note) => el("p", { class: "note" }, note)),
    el("ol", {}, items),
  );
}

function unknownItems(items) {
  return items.length === 1
    ? `Item ${items[0]} is unknown to this version and was ignored.`
    : `Items ${items.join(", ")} are unknown to this version and were ignored.`;
}

/** Where the other version has the same item. */
function moved(item, i, other) {
  if (!other?.items) return el("span", {});
  const place = other.items.indexOf(item);
  if (place < 0) return el("span", { class: "only" }, "only in this list");
  return el("span", { class: "same" }, place === i ? "same rank" : `#${place + 1} in the other list`);
}

function showDecisions(rows, log) {
  byId("decisions").hidden = false;
  if (!rows.length) {
    byId("table").append(el("p", { class: "calm" }, "No decisions yet."));
    const hint = ". If runs have made decisions, check that the api-server and the workers use the same store (SBR_STORE).";
    byId("table").append(el("p", { class: "calm" }, "Looked in ", el("code", {}, log), hint));
    byId("find").closest("label").hidden = true;
    return;
  }
  const outcomes = byOutcome(rows);
  let chosen = null,
    most = ROWS_AT_FIRST;
  const choices = [
    [null, "All", rows.length],
    ...[...outcomes].map(([outcome, found]) => [outcome, found[0].label, found.length]),
  ];
  const buttons = choices.map(([outcome, text, n]) =>
    el(
      "button",
      { type: "button", "aria-pressed": String(outcome === null), click: () => choose(outcome) },
      `${text} ${count(n)}`,
    ),
  );
  byId("outcomes").append(...buttons);
  byId("find").addEventListener("input", () => show(ROWS_AT_FIRST));

  function choose(outcome) {
    chosen = outcome;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", choices[i][0] === outcome));
    show(ROWS_AT_FIRST);
  }

  function show(n) {
    most = n;
    const text = byId("find").value.trim();
    const found = rows.filter(
      (row) => (chosen === null || row.outcome === chosen) && (row.version.includes(text) || row.day.includes(text)),
    );
    const more = found.length > most && el("button", { type: "button", click: () => show(most + ROWS_MORE) }, "Show more");
    const summary = found.length
      ? `${count(Math.min(most, found.length))} of ${plural(found.length, "decision")}`
      : "No matching decisions.";
    byId("table").replaceChildren(
      ...(found.length ? [decisionTable(found.slice(0, most))] : []),
      el("div", { class: "more" }, more || "", el("span", { role: "status" }, summary)),
    );
  }
  show(most);
}

function byOutcome(rows) {
  const found = new Map();
  for (const row of rows) found.set(row.outcome, [...(found.get(row.outcome) ?? []), row]);
  return found;
}

try {
  const { champion, decisions, log, may_roll_back: mayRollBack, may_pin: mayPin } = await ask("api/overview");
  showChampion(champion, mayRollBack, mayPin);
  showLast(decisions, champion);
  showCharts(decisions);
  if (champion) showTry(decisions, champion);
  showDecisions(decisions, log);
  document.querySelector("main").removeAttribute("aria-busy");
  performance.mark("drawn");
} catch (error) {
  showProblem(error);
}
