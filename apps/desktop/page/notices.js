// Lines above the conversation that say what is wrong: the server's own and the page's.

import { call } from "./api.js";
import { byId, el, iconButton } from "./dom.js";
import { sentence } from "./format.js";
import { app, on } from "./state.js";

const local = new Map(); // key: {kind, text}

/** Show a line until it is dismissed or taken back; the same `key` replaces it. */
export function notice(key, text, kind = "error") {
  local.set(key, { kind, text });
  draw();
}

/** Take a line back. */
export function unnotice(key) {
  if (local.delete(key)) draw();
}

/** Show an error of a call. */
export function failed(error, key = "call") {
  notice(key, error.message);
}

function draw() {
  const hidden = draw.hidden;
  const theirs = (app.server?.notices ?? []).filter((one) => !hidden.has(one.id + one.text));
  const lines = [
    ...[...local].map(([key, one]) => line(one, () => unnotice(key))),
    ...theirs.map((one) => line(one, () => dismiss(one))),
  ];
  byId("notices").replaceChildren(...lines);
}
draw.hidden = new Set();

function dismiss(one) {
  draw.hidden.add(one.id + one.text);
  call("DELETE", `/app/notices/${encodeURIComponent(one.id)}`).catch(() => null);
  draw();
}

function line({ kind, text }, close) {
  return el(
    "div",
    { class: `notice ${kind}` },
    el("p", {}, sentence(text)),
    iconButton("close", "Dismiss", close, { kind: "small" }),
  );
}

on("state", draw);
