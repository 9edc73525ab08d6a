// One turn of the conversation as elements: a question, an answer, an answer in progress.

import { detailsLine } from "./details.js";
import { confirmOn, copy, el, iconButton, button, icon } from "./dom.js";
import { count, sentence } from "./format.js";
import { MarkdownView } from "./markdown.js";
import { passageList } from "./passages.js";

const STATES = {
  cancelled: "Stopped.",
  interrupted: "Interrupted before it was finished.",
};

/** A question. */
export function questionTurn(message) {
  const copying = iconButton(
    "copy",
    "Copy the question",
    async () => {
      confirmOn(copying, await copy(message.content));
    },
    { kind: "small" },
  );
  return el(
    "article",
    { class: "turn user", "aria-label": "You", data: { id: message.id } },
    el("div", { class: "bubble" }, message.content),
    el("div", { class: "foot" }, el("span", { class: "actions" }, copying)),
  );
}

/** An answer. `does`: {again, cloud, passages}, each null where it cannot be done here. */
export function answerTurn(message, does) {
  const text = el("div", { class: "text" });
  new MarkdownView(text).show(message.content);
  const node = el(
    "article",
    { class: "turn assistant", "aria-label": "Assistant", data: { id: message.id } },
    text,
  );
  const end = ending(message, does);
  if (end) node.append(end);
  node.append(foot(message, does, node));
  return node;
}

function ending(message, does) {
  if (message.state === "failed") {
    const why = message.details?.failure || "no answer came about";
    const again = does.again && button("Try again", { icon: "again" }, does.again);
    return el(
      "div",
      { class: "failure", role: "group" },
      el("p", {}, `No answer. ${sentence(why)}`),
      again,
    );
  }
  if (STATES[message.state])
    return el("p", { class: `state ${message.state}` }, STATES[message.state]);
  return null;
}

function foot(message, does, node) {
  const actions = el("span", { class: "actions" });
  if (message.content) {
    const copying = iconButton(
      "copy",
      "Copy the answer",
      async () => {
        confirmOn(copying, await copy(message.content));
      },
      { kind: "small" },
    );
    actions.append(copying);
  }
  if (does.again && message.state !== "failed")
    actions.append(iconButton("again", "Answer again", does.again, { kind: "small" }));
  const parts = [actions];
  if (message.passages.length) parts.push(passagesButton(message.passages, does, node));
  if (does.cloud)
    parts.push(
      button("Ask the cloud", { kind: "quiet tiny ask-cloud", icon: "cloud" }, does.cloud),
    );
  if (message.state !== "failed") parts.push(detailsLine(message));
  return el("div", { class: "foot" }, parts);
}

/** Beside the answer where there is room, below it where there is none. */
function passagesButton(passages, does, node) {
  const label = count(passages.length, "passage");
  const made = el(
    "button",
    { class: "button quiet tiny", type: "button", "aria-expanded": "false" },
    icon("file"),
    label,
  );
  made.addEventListener("click", () => {
    if (does.passages(passages)) return;
    const open = node.querySelector(".inline-passages");
    made.setAttribute("aria-expanded", String(!open));
    if (open) open.remove();
    else node.append(el("div", { class: "inline-passages" }, passageList(passages)));
  });
  return made;
}

/** An answer that is being made; `show` draws what there is of it. */
export class LiveTurn {
  constructor() {
    this.text = el("div", { class: "text" });
    this.line = el(
      "div",
      { class: "stage-line" },
      el("span", { class: "pulse", "aria-hidden": "true" }),
      el("span", {}),
    );
    this.node = el(
      "article",
      { class: "turn assistant", "aria-label": "Assistant", "aria-busy": "true" },
      this.text,
      this.line,
    );
    this.view = new MarkdownView(this.text);
  }

  show(running) {
    this.view.show(running.text);
    this.text.classList.toggle("provisional", running.provisional);
    this.line.lastChild.textContent = said(running);
  }
}

function said({ stage, ahead, text, provisional, stopped }) {
  if (stopped) return "Stopping…";
  if (stage === "queued") return `Waiting: ${count(ahead, "task")} before this one`;
  if (stage === "loading") return "Loading the model…";
  if (stage === "consent") return "Waiting for your decision…";
  if (!text) return "Reading the question…";
  return provisional ? "Draft: the cloud may still replace it" : "";
}
