// Which model answers: the menu in the bar, with sizes and speeds.

import { change } from "./chats.js";
import { closeMenu, toggleMenu } from "./dialogs.js";
import { button, byId, el } from "./dom.js";
import { bytes, rate } from "./format.js";
import { openGallery } from "./gallery.js";
import { measure } from "./measuring.js";
import { failed } from "./notices.js";
import { app, currentModel, on } from "./state.js";

const opener = byId("model");
const menu = byId("model-menu");

/** What is known of a model in one line. */
export function facts(model) {
  if (model.problem) return model.problem;
  const speed = model.speed ? `${rate(model.speed.decode_tps)} here` : "not measured yet";
  return [bytes(model.bytes), model.target, speed, model.licence].filter(Boolean).join(" · ");
}

function item(model) {
  const current = currentModel()?.name === model.name;
  const tag = model.problem
    ? el("span", { class: "tag bad" }, "broken")
    : model.default && el("span", { class: "tag" }, "default");
  const click = async () => {
    closeMenu({ focus: true });
    await change(app.conversation?.id ?? "", { model: model.name }).catch(failed);
    drawName();
  };
  return el(
    "button",
    {
      class: "item",
      type: "button",
      "aria-pressed": String(current),
      disabled: Boolean(model.problem),
      on: { click },
    },
    el("span", { class: "ellipsis" }, model.name),
    tag || el("span", {}),
    el("span", { class: "dim small" }, facts(model)),
  );
}

function fill() {
  const models = app.server?.models ?? [];
  const foot = el("div", { class: "foot" });
  const current = currentModel();
  if (current && !current.problem) {
    const label = current.speed ? "Measure again" : "Measure the speed here";
    foot.append(
      button(label, { kind: "quiet tiny", icon: "speed" }, () => measure(current.name, foot)),
    );
  }
  foot.append(
    button(
      "Get more models",
      { kind: "quiet tiny", icon: "plus" },
      () => (closeMenu(), openGallery()),
    ),
  );
  return [...models.map(item), foot];
}

function drawName() {
  const model = currentModel();
  byId("model-name").textContent = model?.name ?? "No model";
  opener.setAttribute("aria-label", `Model: ${model?.name ?? "none"}`);
  opener.title = model ? facts(model) : "";
}

opener.addEventListener("click", () => toggleMenu(opener, menu, fill));
on("state", drawName);
on("conversation", drawName);
on("header", drawName);
