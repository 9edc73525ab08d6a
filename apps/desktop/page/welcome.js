// What an empty conversation shows: who answers here, how fast, and something to begin with.

import { button, el } from "./dom.js";
import { rate } from "./format.js";
import { measure } from "./measuring.js";
import { app, currentModel, emit } from "./state.js";

const IDEAS = [
  "Explain how bees make honey, in five sentences.",
  "Write a Python function that reverses the words of a sentence.",
  "Draft a friendly note that moves a meeting to Thursday.",
];

export function welcome() {
  const model = currentModel();
  const files = app.conversation?.documents.length > 0;
  return el(
    "section",
    { class: "welcome", "aria-label": "Welcome" },
    el("img", { src: "/page/icon.svg", alt: "" }),
    el("h2", {}, files ? "What would you like to know about it?" : "What would you like to know?"),
    el(
      "p",
      {},
      model
        ? `${model.name} answers on this device, with or without a network.`
        : "No model is on this device yet.",
    ),
    model && speed(model),
    !files &&
      el(
        "div",
        { class: "suggestions" },
        IDEAS.map((idea) => button(idea, {}, () => emit("suggest", idea))),
      ),
  );
}

function speed(model) {
  if (model.speed)
    return el("p", { class: "small" }, `Measured here: ${rate(model.speed.decode_tps)}.`);
  const line = el("div", { class: "measuring" });
  const begin = button("Measure how fast it is here", { kind: "quiet tiny", icon: "speed" }, () =>
    measure(model.name, line),
  );
  line.append(begin);
  return line;
}
