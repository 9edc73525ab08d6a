// Puts the page together and keeps it up to date; everything else is in the modules named here.

import { addressed, newConversation, openConversation } from "./chats.js";
import "./cloud.js";
import "./composer.js";
import "./documents.js";
import { loadIcons } from "./dom.js";
import "./first_run.js";
import { watchRunning } from "./gallery.js";
import "./instructions.js";
import "./models.js";
import { failed, unnotice } from "./notices.js";
import "./settings.js";
import "./shortcuts.js";
import "./sidebar.js";
import { on, refreshConversations, refreshQuietly, refreshState, settings } from "./state.js";
import "./thread.js";

const LOOK_MS = 15_000; // between two looks at how everything stands

async function begin() {
  try {
    await loadIcons();
    await refreshState();
    await refreshConversations();
    unnotice("begin");
  } catch (error) {
    failed(error, "begin");
    setTimeout(begin, 3000);
    return;
  }
  window.chooseTheme(settings().theme);
  const id = addressed();
  if (id) await openConversation(id);
  else newConversation();
  document.documentElement.dataset.ready = "true";
  watchRunning();
}

/** See how everything stands, and say so when nobody answers any more. */
async function look() {
  if (document.hidden) return;
  try {
    await refreshState();
    unnotice("gone");
  } catch (error) {
    failed(error, "gone");
  }
}

setInterval(look, LOOK_MS);
document.addEventListener("visibilitychange", look);
window.addEventListener("hashchange", () => addressed() && openConversation(addressed()));
on("documents", refreshQuietly);

begin();
