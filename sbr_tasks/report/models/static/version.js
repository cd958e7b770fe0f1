// The page of one version.

import { chart, wholeTicks } from "./chart.js";
import {
  METRICS,
  ask,
  askRollback,
  badge,
  byId,
  count,
  dayInWords,
  decisionTable,
  el,
  facts,
  instant,
  noteStale,
  outLink,
  percent,
  plural,
  score,
  showProblem,
  versionLink,
} from "./common.js";

const SECTIONS = { model: "Model", training: "Training", window: "Window" };
const COLUMNS = { challenger: "This version", champion: "Its champion", popularity: "Popularity", markov: "Markov" };

function card(title, ...content) {
  return el("section", { class: "card" }, el("h2", {}, title), content);
}

function showHead(found) {
  const last = found.decisions.find((row) => row.version === found.version && !["rollback", "pin", "unpin"].includes(row.outcome));
  byId("title").textContent = found.version;
  document.title = found.version;
  byId("badges").append(
    ...[
      found.is_champion && el("span", { class: "badge good" }, "Champion"),
      found.is_retired && el("span", { class: "badge back" }, "Retired"),
      last && !(found.is_champion && last.moves_champion) && badge(last),
      !last && el("span", { class: "badge" }, "Not decided on"),
      el("span", { class: "calm" }, `Day ${dayInWords(found.day)}`),
    ].filter(Boolean),
  );
  const name = encodeURIComponent(found.version);
  const links = [
    found.report && outLink(`report?name=${name}`, "Report of its run", { tab: true }),
    found.data_docs.includes(found.day) &&
      outLink(`data-docs?name=${name}&day=${found.day}`, `Data Docs of ${found.day}`, { tab: true }),
    found.mlflow && outLink(found.mlflow, "All versions in MLflow", { tab: true }),
    found.champion && !found.is_champion && el("a", { href: `./?beside=${name}#try` }, "Recommend beside the champion"),
    found.may_roll_back &&
      found.may_return &&
      el(
        "button",
        { type: "button", click: () => askRollback({ champion: found.champion, choices: [found.version] }) },
        "Roll back to this version …",
      ),
  ];
  return el("div", { class: "actions" }, links);
}

function showMade(found) {
  const made = found.facts;
  return facts(
    [
      ["Trained", made.trained_at && [instant(made.trained_at), made.took_s ? ` in ${count(made.took_s)} s` : ""]],
      ["On", `${count(made.n_events)} events of ${count(made.n_items)} items`],
      [
        "Window",
        made.window_days.length &&
          `${plural(made.window_days.length, "day")}, ${made.window_days[0]} to ${made.window_days.at(-1)}`,
      ],
      ["Went on from", made.parent ? versionLink(made.parent) : "nothing, a fresh start"],
      ["Commit", made.git_revision && el("code", {}, made.git_revision.slice(0, 12))],
      ["Window's fingerprint", el("code", {}, made.window)],
      ["In MLflow", `${found.mlflow_model}, tag sbr.version = ${found.version}`],
      ["Python", made.python],
      ...Object.entries(made.packages),
    ],
    "plain",
  );
}

function showComparison(found) {
  const columns = Object.keys(found.comparison[0].scores);
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "Metric"),
    columns.map((name) => el("th", { scope: "col" }, COLUMNS[name] ?? name)),
  );
  const rows = found.comparison.map(({ metric, title, is_share, scores }) =>
    el(
      "tr",
      { class: METRICS[metric] ? "key" : null },
      el("th", { scope: "row" }, title),
      columns.map((name) => el("td", {}, is_share && scores[name] !== null ? percent(scores[name]) : score(scores[name]))),
    ),
  );
  return table("All on the same events, every item ranked, ties counted against the model.", head, rows);
}

function showSlices(found) {
  const withChampion = found.by_length.some((row) => row.champion);
  const titles = ["Clicks", "Events", "Recall@20", withChampion && "champion", "MRR@20", withChampion && "champion"].filter(
    Boolean,
  );
  const rows = found.by_length.map(({ clicks, challenger, champion }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, clicks),
      el("td", {}, count(challenger.n_events)),
      Object.keys(METRICS).map((metric) => [
        el("td", {}, score(challenger[metric])),
        withChampion && el("td", {}, score(champion?.[metric])),
      ]),
    ),
  );
  return table(
    "By number of clicks of the session.",
    el(
      "tr",
      {},
      titles.map((text) => el("th", { scope: "col" }, text)),
    ),
    rows,
  );
}

function table(caption, head, rows) {
  const content = el("table", { class: "data", "aria-label": caption }, el("thead", {}, head), el("tbody", {}, rows));
  return [
    el("p", { class: "caption" }, caption),
    el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": caption }, content),
  ];
}

function showCurve(found) {
  const host = el("div", { class: "beside" });
  const panels = [
    ["Loss", (epoch) => epoch.loss],
    ["Validation Recall@20", (epoch) => epoch.validation_recall_at_20 ?? NaN],
    ["Validation MRR@20", (epoch) => epoch.validation_mrr_at_20 ?? NaN],
  ]
    .filter(([, value]) => found.curve.some((epoch) => Number.isFinite(value(epoch))))
    .map(([title, value]) => ({
      title,
      series: [{ name: "challenger", value }],
      isMarked: (epoch) => epoch.number === found.best_epoch,
    }));
  const lines = (epoch) =>
    [
      `Loss ${epoch.loss.toFixed(4)}`,
      epoch.validation_recall_at_20 !== null &&
        `Recall@20 ${score(epoch.validation_recall_at_20)}, MRR@20 ${score(epoch.validation_mrr_at_20)}`,
      `${epoch.took_s.toFixed(1)} s, ${count(epoch.events_per_second)} events a second`,
    ].filter(Boolean);
  const isBest = (epoch) => epoch.number === found.best_epoch;
  chart(host, {
    label: "Epoch",
    points: found.curve,
    x: (epoch) => epoch.number,
    ticks: wholeTicks,
    panels,
    height: 160,
    describe: (epoch) => `Epoch ${epoch.number}${isBest(epoch) ? ", the best" : ""}: ${lines(epoch).join(". ")}`,
    tip: (epoch) =>
      [
        el("strong", {}, `Epoch ${epoch.number}`),
        isBest(epoch) ? el("span", { class: "badge good" }, "Best") : "",
        lines(epoch).map((text) => el("div", {}, text)),
      ].flat(),
  });
  return [
    host,
    el(
      "p",
      { class: "hint" },
      `Epoch ${found.best_epoch} (▲) has the best validation Recall@20; its weights are the version's.`,
    ),
  ];
}

function showSettings(found) {
  return Object.entries(found.settings).map(([section, values]) => [
    el("h3", {}, SECTIONS[section] ?? section),
    facts(
      Object.entries(values).map(([name, value]) => [
        name,
        el("code", {}, value === null ? "none" : Array.isArray(value) ? value.join(", ") : String(value)),
      ]),
      "plain",
    ),
  ]);
}

function showProfile(found) {
  const { fault, numbers, plots } = found.profile;
  if (fault) return el("p", { class: "note" }, fault);
  const name = encodeURIComponent(found.version);
  const figures = Object.entries(plots).map(([plot, title]) =>
    el(
      "figure",
      {},
      el("figcaption", {}, title),
      el("img", { src: `plot?name=${name}&plot=${encodeURIComponent(plot)}`, alt: `${title}, as a plot` }),
    ),
  );
  return [facts(Object.entries(numbers), "plain"), el("div", { class: "gallery" }, figures)];
}

function showValidation(found) {
  const name = encodeURIComponent(found.version);
  const docs = (day) => outLink(`data-docs?name=${name}&day=${day}`, day, { tab: true });
  const warnings = found.warnings.map(({ day, warnings: texts }) => [
    el("h3", {}, found.data_docs.includes(day) ? docs(day) : day),
    el(
      "ul",
      { class: "why" },
      texts.map((text) => el("li", {}, text)),
    ),
  ]);
  return [
    warnings.length ? warnings : el("p", {}, "Great Expectations found nothing odd about the clicks it was trained on."),
    found.data_docs.length &&
      el(
        "details",
        {},
        el("summary", {}, `Data Docs of ${plural(found.data_docs.length, "day")}`),
        el(
          "ul",
          { class: "days" },
          found.data_docs.map((day) => el("li", {}, docs(day))),
        ),
      ),
  ];
}

function show(found) {
  const content = byId("content");
  content.append(showHead(found));
  if (found.fault) content.append(el("div", { class: "problem" }, found.fault));
  const late = el("div");
  if (found.facts) {
    content.append(late);
    noteStale(found.version, late);
  }
  const decided = found.decisions.length
    ? decisionTable(found.decisions, { withVersion: found.decisions.some((row) => row.version !== found.version) })
    : el(
        "p",
        {},
        found.report
          ? "Its run was asked not to promote it (promote: Never). Its report has the scores, and what the gate says."
          : "Nothing was decided on it: its run is still at work, failed before promote_if_better, or was asked not to promote it.",
      );
  content.append(card("Decisions", decided));
  const compared = [
    found.comparison.length && card("Comparison", showComparison(found)),
    found.by_length.length && card("Slices", showSlices(found)),
  ].filter(Boolean);
  if (compared.length) content.append(el("div", { class: "grid" }, compared));
  if (!found.facts) return;
  if (found.curve.length) {
    content.append(card("Learning curve", showCurve(found)));
  }
  content.append(el("div", { class: "grid" }, card("Parameters", showSettings(found)), card("Lineage", showMade(found))));
  content.append(card("Validation of its clicks", showValidation(found)));
  content.append(
    card(
      "Data profile",
      found.profile ? showProfile(found) : el("p", {}, "No profile of its clicks is kept: the task write_report makes it."),
    ),
  );
}

const name = new URLSearchParams(location.search).get("name") ?? "";
try {
  show(await ask(`api/version?name=${encodeURIComponent(name)}`));
  document.querySelector("main").removeAttribute("aria-busy");
  performance.mark("drawn");
} catch (error) {
  byId("title").textContent = name || "No version";
  showProblem(error);
}
