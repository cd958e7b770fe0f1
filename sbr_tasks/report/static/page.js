// What every page does: follows links out of Airflow's frame, loads notes that take longer, and asks before it triggers a DAG.

const AIRFLOW = document.body.dataset.airflow; // the path of Airflow on its host
const DAGS = `${AIRFLOW}/api/v2/dags`;

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-out]");
  if (link) followOut(link, event);
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
  event.target.closest("[data-close]")?.closest("dialog").close();
});

for (const place of document.querySelectorAll("[data-load]")) {
  fetch(place.dataset.load).then(async (response) => {
    if (response.ok) place.innerHTML = await response.text(); // escaped by the server
    else place.append(el("p", { class: "note" }, "Could not check whether this version is stale."));
  });
}

for (const form of document.querySelectorAll("form[data-dag]")) {
  form.elements.reason.addEventListener("input", () => form.elements.reason.setCustomValidity(""));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form);
  });
}

/** An element; functions among the attributes are listeners. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children.flat());
  return node;
}

/**
 * The frame may neither open windows nor lead the page around it elsewhere, so a link of that page is followed instead.
 */
function followOut(link, event) {
  if (window.parent === window) return;
  event.preventDefault();
  const outer = window.parent.document.createElement("a");
  outer.href = link.href;
  if (link.target || event.ctrlKey || event.metaKey) Object.assign(outer, { target: "_blank", rel: "noopener" });
  window.parent.document.body.append(outer);
  outer.click();
  outer.remove();
}

/** Triggers the DAG of a dialog's form with its fields, and follows the run; reloads the page when it is done. */
async function submit(form) {
  const { reason } = form.elements;
  const [dialog, status] = [form.closest("dialog"), form.querySelector("[role=status]")];
  const [cancel, send] = form.querySelectorAll("button");
  reason.setCustomValidity(reason.value.trim() ? "" : "Enter a reason.");
  if (!form.reportValidity()) return;
  const conf = { ...Object.fromEntries(new FormData(form)), reason: reason.value.trim() };
  for (const box of form.querySelectorAll("[type=checkbox]")) conf[box.name] = box.checked;
  const fields = [...form.elements].filter((field) => field !== cancel);
  for (const field of fields) field.disabled = true;
  cancel.textContent = "Close"; // closing the dialog does not stop the run
  let isDone = false;
  try {
    isDone = await trigger(form.dataset.dag, conf, form.dataset.done, (...words) => status.replaceChildren(...words));
  } catch (error) {
    status.replaceChildren(el("div", { class: "problem" }, error.message));
  }
  for (const field of fields) field.disabled = isDone;
  if (!isDone) return;
  if (!dialog.open) location.reload();
  dialog.addEventListener("close", () => location.reload());
  send.hidden = true;
  cancel.focus();
}

/** Triggers a DAG and waits for its run; returns whether it succeeded. */
async function trigger(dag, conf, doneText, say) {
  say("Starting the run …");
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ logical_date: null, conf });
  const { dag_run_id: id } = await ask(`${DAGS}/${dag}/dagRuns`, { method: "POST", headers, body });
  const place = `${dag}/runs/${encodeURIComponent(id)}`;
  const link = el("a", { href: `${AIRFLOW}/dags/${place}`, "data-out": "" }, "the run");
  for (;;) {
    const { state } = await ask(`${DAGS}/${dag}/dagRuns/${encodeURIComponent(id)}`);
    if (state === "success") {
      say(el("p", {}, el("strong", {}, "Done."), ` ${doneText} See `, link, "."));
      return true;
    }
    if (state === "failed") {
      say(el("div", { class: "problem" }, "The run failed. The task log has the error. See ", link, "."));
      return false;
    }
    const { is_paused: isPaused } = await ask(`${DAGS}/${dag}`);
    const waits = isPaused ? `The DAG ${dag} is paused; unpause it to continue. See ` : `The run is ${state} … See `;
    say(el("p", {}, waits, link, "."));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

/** JSON of Airflow's API; an error response becomes an Error with its message. */
async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("Airflow isn't responding. Check that the api-server is running, then reload the page.");
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const messages = {
    401: "Your session has expired. Reload Airflow to log in again.",
    403: "You don't have permission to do this in Airflow.",
  };
  const detail = typeof body.detail === "string" ? body.detail : null;
  throw new Error(messages[response.status] ?? detail ?? `Airflow returned an error (${response.status}).`);
}

export { el, svg };
