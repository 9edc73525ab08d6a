// Keys for the whole window, and the list of them.

import { stopHere } from "./composer.js";
import { closeMenu, dialogOpen, openDialog } from "./dialogs.js";
import { choose } from "./documents.js";
import { button, byId, el } from "./dom.js";
import { openInstructions } from "./instructions.js";
import { hidePanel } from "./passages.js";
import { openSettings } from "./settings.js";
import { beginNew, closeSidebar, focusSearch } from "./sidebar.js";
import { answerAgain } from "./thread.js";

const mac = /Mac|iPhone|iPad/.test(navigator.platform);
const COMMAND = mac ? "⌘" : "Ctrl";

const LIST = [
  [["Enter"], "Send the question"],
  [["Shift", "Enter"], "A new line"],
  [["Esc"], "Stop the answer, or close what is open"],
  [[COMMAND, "N"], "New conversation (in a browser also Alt+N)"],
  [[COMMAND, "K"], "Search the conversations"],
  [[COMMAND, "Shift", "R"], "Answer again"],
  [[COMMAND, "U"], "Add a file"],
  [[COMMAND, "I"], "Instructions of this conversation"],
  [[COMMAND, ","], "Settings"],
  [["↑", "↓"], "Move in the list; F2 renames, Delete deletes"],
  [["/"], "Go to the question"],
  [["?"], "This list"],
];

function openShortcuts() {
  const rows = LIST.map(([keys, text]) => [
    el("dt", {}, keys.map((key, at) => [at ? " + " : "", el("kbd", {}, key)]).flat()),
    el("dd", {}, text),
  ]);
  const dialog = openDialog({
    title: "Keys",
    body: [el("dl", { class: "keys" }, rows)],
    foot: [button("Close", { autofocus: true }, () => dialog.close())],
    submit: () => dialog.close(),
  });
}

const COMMANDS = {
  n: beginNew,
  k: focusSearch,
  u: choose,
  i: openInstructions,
  ",": () => openSettings(),
};

document.addEventListener("keydown", (event) => {
  if (dialogOpen() || !byId("first-run").hidden || event.defaultPrevented) return;
  const command = mac ? event.metaKey : event.ctrlKey;
  const key = event.key.toLowerCase();
  let work = null;
  if (command && event.shiftKey && key === "r") work = answerAgain;
  else if (command && !event.shiftKey && !event.altKey) work = COMMANDS[key];
  else if (event.altKey && event.code === "KeyN") work = beginNew;
  else if (key === "escape") work = escape;
  else if (!command && !event.altKey && !writing(event.target))
    work = { "?": openShortcuts, "/": () => byId("question").focus() }[key];
  if (!work) return;
  event.preventDefault();
  if (work !== escape) closeMenu();
  work();
});

function escape() {
  if (closeMenu({ focus: true }) || closeSidebar() || stopHere() || hidePanel()) return;
  byId("question").focus();
}

const writing = (node) => node.matches?.("input, textarea, select");

byId("open-keys").addEventListener("click", openShortcuts);
