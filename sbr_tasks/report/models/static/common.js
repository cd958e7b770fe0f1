// What both pages share: asking the server, numbers and outcomes in words, links out of the frame, the rollback's dialog.

const BASE = location.pathname.replace(/\/sbr-models\/.*$/, ""); // where Airflow isn't at the root of its host
const DAGS = `${BASE}/api/v2/dags`;
const ROLLBACK = "rollback_champion";
const PIN = "pin_champion";
const DAG_OF = { rollback: ROLLBACK, pin: PIN, unpin: PIN };
const METRICS = { recall_at_20: "Recall@20", mrr_at_20: "MRR@20" };

const OUTCOMES = {
  promote: ["Promoted", "good"],
  bootstrap: ["First champion", "good"],
  forced: ["Forced", "good"],
  keep_champion: ["Champion kept", ""],
  would_promote: ["Would be promoted", ""],
  would_keep: ["Champion would stay", ""],
  too_few_events: ["Too few events", "warn"],
  below_baseline: ["Below baseline", "warn"],
  rollback: ["Rolled back to", "back"],
  pin: ["Pinned", "back"],
  unpin: ["Unpinned", ""],
};

/** An element; attributes that are null or false are left out, functions are listeners. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const byId = (id) => document.getElementById(id);

/** JSON of the server; a refusal becomes an Error with its sentence and the `status`. */
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("Airflow doesn't answer. Is the api-server running? Reload the page to try again.");
  }
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const refused = {
    401: "You aren't logged in any more. Reload Airflow to log in again.",
    403: "Airflow doesn't allow you to do this.",
  };
  const detail = typeof body.detail === "string" ? body.detail : null;
  const error = new Error(refused[answer.status] ?? detail ?? `Airflow answered with an error (${answer.status}).`);
  error.status = answer.status;
  throw error;
}

function showProblem(error) {
  const place = byId("problem");
  place.textContent = error.message;
  place.hidden = false;
  document.querySelector("main").removeAttribute("aria-busy");
}

const count = (n) => (n === null || n === undefined ? "–" : Math.round(n).toLocaleString("en"));
const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(4));
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

function dayInWords(day) {
  return new Date(`${day}T00:00:00Z`).toLocaleDateString("en-GB", {
    day: "numeric",
    month: "long",
    year: "numeric",
    timeZone: "UTC",
  });
}

/** An instant as the reader's clock shows it; the log's own writing in its title. */
function instant(text) {
  const at = new Date(text);
  const shown = at.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return el("time", { datetime: text, title: text }, Number.isNaN(at.getTime()) ? text : shown);
}

function outcomeLabel(outcome) {
  return OUTCOMES[outcome]?.[0] ?? (outcome[0].toUpperCase() + outcome.slice(1)).replaceAll("_", " ");
}

function badge(row) {
  return el(
    "span",
    { class: `badge ${OUTCOMES[row.outcome]?.[1] ?? (row.moves_champion ? "good" : "")}` },
    outcomeLabel(row.outcome),
  );
}

function versionLink(name, text = name) {
  return el("a", { href: `version?name=${encodeURIComponent(name)}` }, text);
}

/**
 * A link out of the frame that Airflow shows this page in. The frame may neither open windows nor lead the page around it
 * elsewhere, so a link of that page is followed instead.
 */
function outLink(href, text, { tab = false } = {}) {
  const follow = (event) => {
    if (window.parent === window) return;
    event.preventDefault();
    const link = window.parent.document.createElement("a");
    link.href = new URL(href, location.href).href;
    if (tab || event.ctrlKey || event.metaKey) Object.assign(link, { target: "_blank", rel: "noopener" });
    window.parent.document.body.append(link);
    link.click();
    link.remove();
  };
  return el("a", { href, target: tab ? "_blank" : null, rel: tab ? "noopener" : null, click: follow }, text, tab ? " ↗" : "");
}

function dagLink(dag) {
  return outLink(`${BASE}/dags/${dag}`, dag);
}

/** Who or which run decided: a link where it was a run of Airflow. */
function runLink(run, outcome) {
  if (!/^(scheduled|manual|backfill|asset_triggered)__/.test(run)) return el("span", {}, run);
  const dag = DAG_OF[outcome] ?? "daily_retrain";
  return outLink(`${BASE}/dags/${dag}/runs/${encodeURIComponent(run)}`, run);
}

function facts(pairs, extra = "") {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "dl",
    { class: `facts ${extra}` },
    shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
}

/** Says in `place` whether clicks of the version's window came late, which takes longer to find out than all the rest. */
async function noteStale(name, place) {
  const { stale } = await ask(`api/stale?name=${encodeURIComponent(name)}`).catch((error) => ({
    stale: `unknown days: ${error.message}`,
  }));
  if (stale)
    place.append(
      el(
        "div",
        { class: "note" },
        `Stale: other clicks were accepted since it was trained, of ${stale}. Run its day again to train on them.`,
      ),
    );
}

/** One row a decision; on narrow screens rows become blocks, so the roles are given and not left to the layout. */
function decisionTable(rows, { withVersion = true } = {}) {
  const heads = ["Day and outcome", ...Object.values(METRICS), "Why"];
  const head = el(
    "div",
    { role: "row", class: "head" },
    heads.map((text) => el("div", { role: "columnheader" }, text)),
  );
  return el(
    "div",
    { role: "table", class: "rows", "aria-label": "Decisions" },
    head,
    rows.map((row) => decisionRow(row, withVersion)),
  );
}

function decisionRow(row, withVersion) {
  const first = [
    el(
      "div",
      { class: "badges" },
      el("span", { class: "day" }, row.day),
      badge(row),
      row.is_retired && el("span", { class: "badge back" }, "Retired"),
    ),
    withVersion && el("div", {}, versionLink(row.version)),
    el("div", { class: "small" }, `Entry ${row.entry}, `, instant(row.at)),
  ];
  const metrics = Object.entries(METRICS).map(([metric, label]) =>
    el("div", { role: "cell" }, el("span", { class: "label" }, label), scores(row[metric])),
  );
  const why = [
    el("div", {}, row.reasons.join(" ")),
    el(
      "div",
      { class: "small" },
      row.before && row.champion !== row.before ? ["Replaced ", versionLink(row.before), ". "] : "",
      "By ",
      runLink(row.run, row.outcome),
    ),
  ];
  return el("div", { role: "row" }, el("div", { role: "cell" }, first), metrics, el("div", { role: "cell" }, why));
}

function scores(found) {
  if (!found) return el("span", { class: "calm" }, "–");
  const gain = found.difference?.value;
  return [
    el("div", { class: "num" }, score(found.challenger)),
    found.champion !== null && el("div", { class: "small num" }, `champion ${score(found.champion)}`),
    gain !== undefined &&
      el(
        "div",
        { class: `small num ${gain > 0 ? "up" : gain < 0 ? "down" : ""}` },
        `${gain > 0 ? "▲" : gain < 0 ? "▼" : "="} ${signed(gain)}`,
      ),
  ];
}

/** Asks for a version and a reason, triggers the DAG through Airflow's API and follows its run. */
function askRollback({ champion, choices, chosen = choices[0] }) {
  const versions = el(
    "select",
    { name: "to", required: true },
    choices.map((name) => el("option", { value: name, selected: name === chosen }, name)),
  );
  const pin = el("input", { type: "checkbox", name: "pin" });
  askToTrigger({
    title: "Roll back",
    text: ["This makes an earlier champion live. ", el("strong", {}, champion), " will be retired and can never be promoted again."],
    fields: [
      el("label", {}, "Version to return to", versions),
      el("label", { class: "check" }, pin, "Pin it: keep it until somebody unpins it, even if a better model comes"),
    ],
    inputs: [versions, pin],
    dag: ROLLBACK,
    conf: (reason) => ({ to: versions.value, reason, pin: pin.checked }),
    done: () => `${versions.value} is the champion again.`,
  });
}

/** Asks why the champion is to be pinned, or no longer, and triggers the DAG. */
function askPin({ champion, isPinned }) {
  const what = isPinned
    ? ["From the next decision on, a better model replaces ", el("strong", {}, champion), "."]
    : [el("strong", {}, champion), " stays champion until it is unpinned; decisions are recorded as what they would be."];
  askToTrigger({
    title: isPinned ? "Unpin" : "Pin",
    text: what,
    dag: PIN,
    conf: (reason) => ({ action: isPinned ? "unpin" : "pin", reason }),
    done: () => `${champion} is ${isPinned ? "no longer pinned" : "pinned"}.`,
  });
}

/** A dialog that asks for a reason, triggers a DAG through Airflow's API and follows its run. */
function askToTrigger({ title, text, fields = [], inputs = [], dag, conf, done: doneText }) {
  const reason = el("textarea", { name: "reason", required: true, maxlength: 2000 });
  const status = el("div", { role: "status" });
  const cancel = el("button", { type: "button", click: () => dialog.close() }, "Cancel");
  const submit = el("button", { type: "submit", class: "primary" }, title);
  const form = el(
    "form",
    {},
    fields,
    el("label", {}, "Reason (kept in the promotion log)", reason),
    status,
    el("div", { class: "actions" }, cancel, submit),
  );
  const dialog = el(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    el("h2", { id: "dialog-title" }, title),
    el("p", {}, text),
    form,
  );
  let done = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    reason.setCustomValidity(reason.value.trim() ? "" : "Say why.");
    if (!form.reportValidity()) return;
    for (const part of [submit, reason, ...inputs]) part.disabled = true;
    cancel.textContent = "Close"; // the run continues, whether somebody watches or not
    const say = (...words) => status.replaceChildren(...words);
    try {
      done = await trigger(dag, conf(reason.value.trim()), doneText, say);
    } catch (error) {
      say(el("div", { class: "problem" }, error.message));
    }
    if (done && !dialog.open) location.reload();
    submit.hidden = done;
    for (const part of [submit, reason, ...inputs]) part.disabled = done;
    if (done) cancel.focus();
  });
  reason.addEventListener("input", () => reason.setCustomValidity(""));
  dialog.addEventListener("close", () => (done ? location.reload() : dialog.remove()));
  document.body.append(dialog);
  dialog.showModal();
  reason.focus();
}

/** Triggers a DAG and waits for its run; whether it did its work. */
async function trigger(dag, conf, doneText, say) {
  say("Asking Airflow …");
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ logical_date: null, conf });
  const run = await ask(`${DAGS}/${dag}/dagRuns`, { method: "POST", headers, body });
  const link = outLink(`${BASE}/dags/${dag}/runs/${encodeURIComponent(run.dag_run_id)}`, "the run");
  for (;;) {
    const { state } = await ask(`${DAGS}/${dag}/dagRuns/${encodeURIComponent(run.dag_run_id)}`);
    if (state === "success") {
      say(el("p", {}, el("strong", {}, "Done."), ` ${doneText()} See `, link, "."));
      return true;
    }
    if (state === "failed") {
      say(el("div", { class: "problem" }, "It failed; the error in its task's log says why. See ", link, "."));
      return false;
    }
    const { is_paused: isPaused } = await ask(`${DAGS}/${dag}`);
    const waits = isPaused ? `The DAG ${dag} is paused: unpause it, then this continues. See ` : `The run is ${state} … See `;
    say(el("p", {}, waits, link, "."));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

export {
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
  outLink,
  outcomeLabel,
  percent,
  plural,
  runLink,
  score,
  showProblem,
  signed,
  svg,
  versionLink,
};
