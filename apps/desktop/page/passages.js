// Passages of files that an answer was made with: beside the thread, or below the answer.

import { byId, el, iconButton } from "./dom.js";
import { count } from "./format.js";
import { on } from "./state.js";

const panel = byId("passages");
const wide = matchMedia("(min-width: 1081px)");
let opener = null;

/** The passages as a list, the best first. */
export function passageList(passages) {
  const best = [...passages].sort((a, b) => b.score - a.score);
  return best.map((one, at) =>
    el(
      "section",
      { class: "passage", "aria-label": `Passage ${at + 1}` },
      el("span", { class: "where" }, `${one.name}, page ${one.page}`),
      el("p", {}, one.text),
    ),
  );
}

/** Show passages beside the thread; false where there is no room. The same ones again: close. */
export function togglePanel(passages) {
  if (!wide.matches) return false;
  if (!panel.hidden && panel.shown === passages) hidePanel();
  else showPanel(passages, document.activeElement);
  return true;
}

/** Show passages beside the thread where there is room. */
export function showPanel(passages, from = null) {
  if (!wide.matches || !passages.length) return;
  opener = from;
  panel.shown = passages;
  const head = el(
    "header",
    {},
    el("h2", {}, `${count(passages.length, "passage")} of your files`),
    iconButton("close", "Close the passages", hidePanel, { kind: "small" }),
  );
  panel.replaceChildren(head, ...passageList(passages));
  panel.hidden = false;
  panel.scrollTop = 0;
}

export function hidePanel() {
  if (panel.hidden) return false;
  panel.hidden = true;
  if (opener?.isConnected) opener.focus();
  return true;
}

wide.addEventListener("change", () => wide.matches || (panel.hidden = true));
on("conversation", ({ again }) => again || (panel.hidden = true));
