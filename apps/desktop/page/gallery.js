// Models that can be fetched: size, licence, expected speed, a download that can be stopped and gone
// on with, and a measurement at its end. Used by the first run and by "Get more models".

import { call, stream } from "./api.js";
import { announce, openDialog } from "./dialogs.js";
import { button, el } from "./dom.js";
import { bytes, rate, sentence } from "./format.js";
import { measure } from "./measuring.js";
import { app, on, refreshQuietly } from "./state.js";

/** The download that runs, if one does, shared by every gallery that is open. */
const pull = { name: "", stage: "", done: 0, total: 0, problem: "", problemOf: "", stopped: false };
const galleries = new Set();

/** A list of offers that keeps itself up to date; `ready(name)` is called when a model is here. */
export function gallery(ready = () => null) {
  const home = el("div", { class: "offers" });
  const measured = new Map();
  const entry = { home, ready, measured, draw: () => drawOffers(entry) };
  galleries.add(entry);
  entry.draw();
  return entry;
}

export const endGallery = (entry) => galleries.delete(entry);

function drawOffers(entry) {
  const focused = document.activeElement?.closest?.(".offer")?.dataset.name;
  const inside = entry.home.contains(document.activeElement);
  entry.home.replaceChildren(...app.server.offered.map((one) => offer(one, entry)));
  if (inside) entry.home.querySelector(`[data-name="${focused}"] button`)?.focus();
}

function offer(one, entry) {
  const running = pull.name === one.name;
  const fetched = one.partial_bytes > 0 && !one.installed;
  const speed = one.installed
    ? ""
    : one.expected_tps
      ? `about ${rate(one.expected_tps)} expected here`
      : "speed not known";
  const node = el(
    "article",
    { class: "offer", data: { name: one.name }, "aria-label": one.name },
    el("h3", {}, one.name),
    el("p", { class: "about" }, one.summary),
    el(
      "p",
      { class: "facts-line" },
      [bytes(one.download_bytes), one.licence, speed]
        .filter(Boolean)
        .map((text) => el("span", {}, text)),
    ),
    el("div", { class: "act" }, action(one, running, fetched)),
  );
  if (running) node.append(progress());
  else if (pull.problem && pull.problemOf === one.name)
    node.append(
      el(
        "p",
        { class: `progress ${pull.stopped ? "dim" : "problem"}`, role: "status" },
        pull.problem,
      ),
    );
  else if (fetched)
    node.append(
      el("p", { class: "progress dim" }, `${bytes(one.partial_bytes)} of it are here already.`),
    );
  const bench = entry.measured.get(one.name);
  if (bench) node.append(bench);
  return node;
}

function action(one, running, fetched) {
  if (one.installed) return el("span", { class: "tag" }, "On this device");
  if (running)
    return button("Cancel", { "aria-label": `Cancel the download of ${one.name}` }, cancel);
  const label = fetched ? "Resume" : "Get";
  return button(
    label,
    { kind: "primary", disabled: Boolean(pull.name), "aria-label": `${label} ${one.name}` },
    () => begin(one.name),
  );
}

function progress() {
  const bar = el("progress", { max: "1", "aria-label": `Download of ${pull.name}` });
  if (pull.total) bar.value = pull.done / pull.total;
  const much = pull.total > 1e5 ? `${bytes(pull.done)} of ${bytes(pull.total)}` : "";
  const stage = pull.stage ? pull.stage[0].toUpperCase() + pull.stage.slice(1) : "Starting";
  return el(
    "div",
    { class: "progress" },
    el(
      "div",
      { class: "line" },
      el("span", {}, `${stage}…`),
      el("span", { class: "tabular" }, much),
    ),
    bar,
  );
}

const drawAll = () => galleries.forEach((entry) => entry.draw());

/** Only the line that changes: a button replaced between press and release is not clicked. */
function drawProgress() {
  const line = `[data-name="${pull.name}"] .progress`;
  galleries.forEach(({ home }) => home.querySelector(line)?.replaceWith(progress()));
}

async function cancel() {
  pull.stage = "stopping";
  drawAll();
  await call("DELETE", "/app/pull").catch(() => null);
}

async function begin(name) {
  Object.assign(pull, {
    name,
    stage: "",
    done: 0,
    total: 0,
    problem: "",
    problemOf: "",
    stopped: false,
  });
  drawAll();
  await follow("POST", "/app/pull", { name });
}

/** Watch a download that was begun before the page was loaded. */
export async function watchRunning() {
  const { pull: running } = app.server;
  if (!running || pull.name) return;
  Object.assign(pull, { ...running, problem: "", problemOf: "" });
  drawAll();
  await follow("GET", "/app/pull/events");
}

async function follow(method, path, body) {
  let arrived = "";
  const { name } = pull;
  try {
    await stream(method, path, body, (event, data) => {
      if (event === "progress") Object.assign(pull, data);
      else if (event === "done") arrived = data.model;
      else if (event === "error")
        Object.assign(pull, {
          problem: sentence(data.message),
          problemOf: name,
          stopped: Boolean(data.cancelled),
        });
      if (event === "progress") drawProgress();
    });
  } catch (error) {
    Object.assign(pull, { problem: error.message, problemOf: name });
  }
  pull.name = "";
  await refreshQuietly();
  if (pull.problem) announce(pull.problem);
  drawAll();
  if (arrived) await settle(arrived);
}

async function settle(name) {
  announce(`${name} is on this device now.`);
  for (const entry of [...galleries]) {
    const home = el("div", { class: "progress" });
    entry.measured.set(name, home);
    entry.draw();
    entry.ready(name);
    await measure(name, home);
  }
}

/** The offers in a dialog. */
export function openGallery() {
  const entry = gallery();
  const dialog = openDialog({
    title: "Models",
    name: "gallery",
    body: [
      el(
        "p",
        { class: "dim small" },
        "A download is checked and made ready on this device; afterwards no network is needed.",
      ),
      entry.home,
    ],
    foot: [button("Close", {}, () => dialog.close())],
    submit: () => dialog.close(),
    closed: () => endGallery(entry),
  });
}

on("state", drawAll);
