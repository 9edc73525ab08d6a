// The conversation that is shown: its turns, the one in progress, and where it is scrolled to.

import { regenerate } from "./answers.js";
import { byId } from "./dom.js";
import { failed } from "./notices.js";
import { hidePanel, showPanel, togglePanel } from "./passages.js";
import { app, currentModel, on } from "./state.js";
import { answerTurn, LiveTurn, questionTurn } from "./turn.js";
import { welcome } from "./welcome.js";

const thread = byId("thread");
const scroller = byId("main");
const DRAW_MS = 60; // between two drawings of an answer in progress
const NEAR = 80; // pixels from the end that count as being there

let live = null;
let following = true;

function draw({ message = null, again = false } = {}) {
  const { conversation } = app;
  const top = scroller.scrollTop;
  live = null;
  const turns = conversation ? conversation.messages.map((one, at) => turn(one, at)) : [];
  const running = conversation && app.running.get(conversation.id);
  if (running) {
    const partial = turns.at(-1);
    if (partial?.classList.contains("assistant")) turns.pop(); // kept so far by the server
    live = new LiveTurn();
    live.show(running);
    turns.push(live.node);
  }
  thread.replaceChildren(...(turns.length ? turns : [welcome()]));
  offerCloud();
  if (message) reveal(message);
  else if (again) scroller.scrollTop = top;
  else toEnd();
  header();
}

function turn(message, at) {
  if (message.role === "user") return questionTurn(message);
  const last = at === app.conversation.messages.length - 1;
  return answerTurn(message, {
    again: last ? () => anew("none") : null,
    cloud: last && couldAsk(message) ? () => anew("cloud") : null,
    passages: togglePanel,
  });
}

const couldAsk = (message) => message.details?.source !== "cloud" && message.state !== "failed";

/** The cloud is offered where it could answer now. */
function offerCloud() {
  const possible = app.server?.cloud.state === "online";
  for (const button of thread.querySelectorAll(".ask-cloud")) button.hidden = !possible;
}

async function anew(cloud) {
  if (app.running.has(app.conversation.id)) return;
  try {
    await regenerate(app.conversation, cloud);
  } catch (error) {
    failed(error, "answer");
    draw({ again: true });
  }
}

/** Answer the last question again, where there is one. */
export function answerAgain() {
  if (app.conversation?.messages.length) anew("none");
}

function reveal(id) {
  const node = [...thread.children].find((one) => one.dataset.id === id);
  if (!node) return toEnd();
  node.scrollIntoView({ block: "center" });
  node.classList.add("found");
  setTimeout(() => node.classList.remove("found"), 2500);
}

function toEnd() {
  following = true;
  scroller.scrollTop = scroller.scrollHeight;
}

scroller.addEventListener("scroll", () => {
  following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR;
  byId("to-end").hidden = following || !live;
});
byId("to-end").addEventListener("click", toEnd);

// An answer in progress is drawn a few times a second, however fast its tokens come.

let waiting = 0;
on("progress", (running) => {
  if (running.conversation !== app.conversation?.id) return;
  if (!live) draw();
  if (waiting) return;
  waiting = setTimeout(() => {
    waiting = 0;
    if (!live || app.running.get(app.conversation?.id) !== running) return;
    live.show(running);
    if (following) scroller.scrollTop = scroller.scrollHeight;
    else byId("to-end").hidden = false;
  }, DRAW_MS);
});

on("begun", (running) => {
  if (running.conversation === app.conversation?.id) draw();
});

on("ended", ({ running, message }) => {
  if (running.conversation !== app.conversation?.id) return;
  const stay = !following;
  const focusInside = live?.node.contains(document.activeElement);
  draw({ again: stay });
  if (focusInside) thread.lastElementChild.querySelector("button")?.focus();
  if (message.passages.length) showPanel(message.passages);
  else hidePanel();
});

on("running", (running) => {
  byId("to-end").hidden = following || !live;
  if (running?.stopped && live && app.running.has(running.conversation)) live.show(running);
});

function header() {
  const title = app.conversation?.title || "New conversation";
  byId("title").textContent = title;
  document.title = app.conversation?.title ? `${title} – Assistant` : "Assistant";
  const dot = byId("instructions-set");
  dot.hidden = !(app.conversation ?? app.fresh).system;
}

on("conversation", draw);
on("header", header);
on("documents", () => thread.querySelector(".welcome") && draw());
let welcomed = "";
on("state", () => {
  offerCloud();
  // The empty page names the model; what is written in the thread is left alone.
  const shown = JSON.stringify([currentModel()?.name, currentModel()?.speed]);
  if (shown !== welcomed && thread.querySelector(".welcome")) draw();
  welcomed = shown;
});
