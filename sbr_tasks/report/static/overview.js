// The chart of the Models page: what the server wrote into the page as `points`.

import { DAY_MS, chart, dayTicks } from "./chart.js";
import { el } from "./page.js";

const RANGES = [
  ["14 days", 14],
  ["30 days", 30],
  ["90 days", 90],
  ["1 year", 365],
];

const score = (value) => (value === null ? "–" : value.toFixed(4));
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;
const versionOf = (point) => `version?name=${encodeURIComponent(point.version)}`;
const badge = (tone, text) => el("span", { class: `badge ${tone}` }, text);

function dayInWords(day) {
  return new Date(`${day}T00:00:00Z`).toLocaleDateString("en-GB", {
    day: "numeric",
    month: "long",
    year: "numeric",
    timeZone: "UTC",
  });
}

function draw(points) {
  const last = points.at(-1).at;
  const panels = points[0].scores.map(({ title }, n) => ({
    title,
    series: [
      { name: "challenger", value: (point) => point.scores[n].challenger },
      { name: "champion", value: (point) => point.scores[n].champion ?? NaN },
    ],
    range: (point) => interval(point.scores[n]),
    isMarked: (point) => point.becameChampion,
  }));
  const buttons = rangeButtons(points, (days) => plots.show(last - days * DAY_MS, Infinity));
  const plots = chart(document.getElementById("plots"), {
    label: "Day",
    points,
    x: (point) => point.at,
    ticks: dayTicks,
    panels,
    describe: inWords,
    tip: tooltip,
    open: (point) => (location.href = versionOf(point)),
    zoomed: (from, to) => {
      for (const [button, days] of buttons)
        button.setAttribute("aria-pressed", to === last && from === Math.max(points[0].at, to - days * DAY_MS));
    },
  });
  const shown = [...buttons].reverse().find(([, days]) => days <= 90) ?? buttons.at(-1);
  plots.show(last - shown[1] * DAY_MS, Infinity);
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
  document.getElementById("ranges").append(...buttons.map(([button]) => button));
  return buttons;
}

function inWords(point) {
  const scores = point.scores.map(({ title, challenger, champion, difference }) => {
    const against = champion === null ? "" : `, champion ${score(champion)}`;
    return `${title} ${score(challenger)}${against}${difference ? `, difference ${signed(difference.value)}` : ""}`;
  });
  return `${dayInWords(point.day)}: ${point.label}. ${scores.join(". ")}. Version ${point.version}.`;
}

function tooltip(point) {
  const cells = ({ challenger, champion, difference }) => [
    [score(challenger)],
    [score(champion)],
    difference ? [signed(difference.value), el("small", {}, `${signed(difference.lower)} to ${signed(difference.upper)}`)] : ["–"],
  ];
  const rows = point.scores.map((one) => el("tr", {}, el("th", {}, one.title), cells(one).map((cell) => el("td", {}, ...cell))));
  const head = ["", "challenger", "champion", "difference"].map((text) => el("th", {}, text));
  const isCompared = Boolean(point.scores[0].difference);
  const events = `${point.nEvents.toLocaleString("en")} test events`;
  return [
    el("strong", {}, dayInWords(point.day)),
    badge(point.tone, point.label),
    ...(point.isRetired ? [badge("back", "Retired")] : []),
    el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)),
    el("p", {}, `${point.version}, ${events}${isCompared ? "; 95% intervals" : ""}`),
  ];
}

const source = document.getElementById("points");
if (source) draw(JSON.parse(source.textContent).map((point) => ({ ...point, at: Date.parse(`${point.day}T00:00:00Z`) })));
performance.mark("drawn");
