// The box for the question: grows, keeps what was begun, sends, stops.

import { ask, stop } from "./answers.js";
import { ensureConversation } from "./chats.js";
import { uploading } from "./documents.js";
import { byId } from "./dom.js";
import { failed, notice, unnotice } from "./notices.js";
import { app, currentModel, drafts, on, settings } from "./state.js";

const form = byId("composer");
const box = byId("question");
let sending = false;

const here = () => app.conversation?.id ?? "new";

function grow() {
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, 220)}px`;
  buttons();
}

function buttons() {
  const running = app.running.has(app.conversation?.id);
  byId("stop").hidden = !running;
  byId("send").hidden = running;
  byId("send").disabled = sending || !box.value.trim();
}

/** Put a text into the box. */
function setText(text) {
  box.value = text;
  drafts.write(here(), text);
  grow();
  box.focus();
}

async function send() {
  const content = box.value.trim();
  if (!content || sending || app.running.has(app.conversation?.id)) return;
  if (!currentModel()) return notice("answer", "There is no model yet; get one first.");
  if (uploading())
    return notice(
      "answer",
      "A file is still being read; send the question in a moment.",
      "warning",
    );
  sending = true;
  buttons();
  const from = here();
  try {
    const conversation = await ensureConversation();
    await ask(conversation, content);
    drafts.write(from, "");
    drafts.write(conversation.id, "");
    unnotice("answer");
    if (app.conversation?.id === conversation.id && box.value.trim() === content) box.value = "";
  } catch (error) {
    failed(error, "answer"); // the text stays in the box
  }
  sending = false;
  grow();
}

export function stopHere() {
  return app.conversation ? stop(app.conversation.id) : false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
box.addEventListener("input", () => {
  drafts.write(here(), box.value);
  grow();
});
box.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing || event.altKey) return;
  const command = event.ctrlKey || event.metaKey;
  if (event.shiftKey || (settings().send_on_enter === false && !command)) return;
  event.preventDefault();
  send();
});
byId("stop").addEventListener("click", () => {
  stopHere();
  box.focus();
});

on("conversation", ({ again }) => {
  if (!again) {
    box.value = drafts.read(here());
    if (matchMedia("(hover: hover)").matches) box.focus(); // on a touch screen it opens a keyboard
  }
  grow();
});
on("suggest", setText);
on("running", buttons);
on("state", () => {
  const keys = settings().send_on_enter
    ? "Enter sends, Shift+Enter begins a new line."
    : "Ctrl+Enter sends.";
  byId("hint-keys").textContent = keys;
});
