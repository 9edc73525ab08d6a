// The first start without a model: what it is, which models there are, and a way on when one is here.

import { announce } from "./dialogs.js";
import { button, byId, el } from "./dom.js";
import { sentence } from "./format.js";
import { endGallery, gallery, watchRunning } from "./gallery.js";
import { app, changeSettings, emit, on, usableModels } from "./state.js";

const place = byId("first-run");
let entry = null;
let readOnly = false; // the person reads old conversations without a model

function show() {
  const start = button("Start", { kind: "primary", disabled: true, id: "start" }, done);
  entry = gallery(() => {
    start.disabled = false;
    start.focus();
  });
  const { device } = app.server;
  place.replaceChildren(
    el(
      "div",
      { class: "inner" },
      el("img", { src: "/page/icon.svg", alt: "" }),
      el("h1", {}, "An assistant that lives on this device"),
      el(
        "p",
        { class: "lead" },
        "Choose a model. It is fetched once; from then on every answer is made here, with or without a network, and nothing you write leaves this device unless you say so.",
      ),
      lost(),
      entry.home,
      el(
        "p",
        { class: "small dim" },
        `This device: ${device.cpu}, ${device.cores} cores. Speeds are expected until they are measured.`,
      ),
      el(
        "div",
        { class: "first-foot" },
        start,
        button("Read my conversations", { kind: "quiet", id: "read", hidden: true }, read),
      ),
    ),
  );
  place.hidden = false;
  byId("app").inert = true;
  place.querySelector("button:not(:disabled)")?.focus();
  byId("read").hidden = !app.conversations.length;
  announce("Welcome. Choose a model to begin.");
  watchRunning();
}

/** What became of a model that was here. */
function lost() {
  const { models, settings } = app.server;
  const broken = models.map((one) =>
    el("p", { class: "problem" }, `${one.name} cannot be used: ${sentence(one.problem)}`),
  );
  if (!broken.length && settings.first_run_done) {
    broken.push(
      el(
        "p",
        { class: "problem" },
        "The model that answered here is gone from this device. Your conversations are all there.",
      ),
    );
  }
  return broken;
}

function hide() {
  endGallery(entry);
  entry = null;
  place.hidden = true;
  place.replaceChildren();
  byId("app").inert = false;
}

function read() {
  readOnly = true;
  hide();
  byId("main").focus();
}

async function done() {
  hide();
  await changeSettings({ first_run_done: true }).catch(() => null);
  emit("conversation", {});
}

on("state", () => {
  if (usableModels().length) readOnly = false;
  else if (!entry && !readOnly) show();
});
on("conversations", () => {
  const offer = byId("read");
  if (offer) offer.hidden = !app.conversations.length;
});
