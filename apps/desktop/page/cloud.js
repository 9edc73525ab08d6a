// Whether anything may leave this device: the chip in the bar and the switch behind it.

import { call } from "./api.js";
import { announce, closeMenu, menuIsOpen, toggleMenu } from "./dialogs.js";
import { button, byId, el } from "./dom.js";
import { usd } from "./format.js";
import { failed } from "./notices.js";
import { openSettings } from "./settings.js";
import { app, on, refreshState } from "./state.js";

const chip = byId("cloud");
const menu = byId("cloud-menu");
const NOTHING = "nothing leaves this device";

/** Word, rest of the label, and what the state means. */
function standing() {
  const { cloud, settings } = app.server;
  const name = cloud.endpoint ?? "the cloud model";
  if (cloud.offline)
    return ["Offline", NOTHING, "Every answer is made here, and nothing can leave this device."];
  if (cloud.state === "off" || cloud.state === "no-endpoint")
    return [
      "On device",
      "nothing leaves it",
      "Every answer is made here. Nothing leaves this device.",
    ];
  if (cloud.state === "no-key")
    return ["No key", NOTHING, `Nothing can leave: no key is stored for ${name}.`];
  if (cloud.state === "offline")
    return [
      "Cloud unreachable",
      "answers are made here",
      `${name} cannot be reached now. Every answer is made here.`,
    ];
  if (settings.consent === "ask")
    return [
      "Cloud",
      "asks you first",
      `Answers are made here. When one seems doubtful you are asked whether the question may go to ${name}.`,
    ];
  return [
    "Cloud",
    "doubtful answers may leave",
    `Answers are made here. When one seems doubtful the question goes to ${name} without asking you.`,
  ];
}

function draw() {
  const { cloud } = app.server;
  const [word, rest] = standing();
  chip.dataset.state = cloud.state;
  byId("cloud-label").textContent = word;
  byId("cloud-rest").textContent = `: ${rest}`;
  chip.setAttribute("aria-label", `${word}: ${rest}`);
  if (menuIsOpen(menu) && !menu.contains(document.activeElement)) menu.replaceChildren(...fill());
}

function fill() {
  const { cloud } = app.server;
  const [word, , meaning] = standing();
  const off = el("input", {
    type: "checkbox",
    role: "switch",
    checked: cloud.offline,
    on: { change: () => setOffline(off.checked) },
  });
  const limit = cloud.day_limit_usd === null ? "" : ` of ${usd(cloud.day_limit_usd)} a day`;
  const lines = el(
    "div",
    { class: "lines" },
    el("p", { class: "strong" }, word),
    el("p", { class: "small dim" }, meaning),
  );
  if (cloud.reason)
    lines.append(el("p", { class: "small dim" }, `Now: ${cloud.reason}`.replace(/[.]?$/, ".")));
  if (cloud.endpoint)
    lines.append(
      el(
        "p",
        { class: "small dim" },
        `${cloud.endpoint}, ${cloud.model}. Spent today: ${usd(cloud.spent_today_usd)}${limit}.`,
      ),
    );
  return [
    lines,
    el(
      "label",
      { class: "check switch-line" },
      off,
      "Offline: nothing may leave, whatever the settings say",
    ),
    el(
      "div",
      { class: "foot" },
      button(
        "Cloud settings",
        { kind: "quiet tiny", icon: "settings" },
        () => (closeMenu(), openSettings("cloud")),
      ),
    ),
  ];
}

/** The off-switch; holds for every program of `ondevice` on this device. */
async function setOffline(offline) {
  try {
    await call("POST", "/app/offline", { offline });
    await refreshState();
    announce(offline ? "Offline. Nothing leaves this device." : "The off-switch is taken back.");
  } catch (error) {
    failed(error);
  }
  if (!menu.hidden) {
    menu.replaceChildren(...fill());
    menu.querySelector("input").focus();
  }
}

chip.addEventListener("click", () => toggleMenu(chip, menu, fill));
on("state", draw);
