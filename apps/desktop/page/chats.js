// Opening, beginning, renaming and deleting conversations; draws nothing.

import { call } from "./api.js";
import { toast } from "./dialogs.js";
import { failed, notice } from "./notices.js";
import { app, drafts, emit, noted, refreshConversations } from "./state.js";

const UNDO_MS = 8000;
const path = (id) => `/app/conversations/${id}`;
const waiting = new Map(); // id of a conversation that is to be deleted: how to end the waiting

/** Show a conversation, and a message of it where one is named. */
export async function openConversation(id, message = null) {
  try {
    const found = await call("GET", path(id));
    show(found, message);
  } catch (error) {
    if (error.status === 404) {
      show(null);
      await refreshConversations().catch(failed);
    } else failed(error);
  }
}

/** Show the conversation again as the server has it; whether it answered. */
export async function reloadConversation() {
  const { conversation } = app;
  if (!conversation) return true;
  const found = await call("GET", path(conversation.id)).catch(() => null);
  if (found && app.conversation?.id === found.id) show(found, null, true);
  return found !== null;
}

/** Begin a new one; nothing is kept before the first question or file. */
export function newConversation() {
  app.fresh = { model: "", system: "", preset: "" };
  show(null);
}

/** The conversation that is shown, made now where it is a new one. Raises `ApiError`. */
export async function ensureConversation() {
  if (app.conversation) return app.conversation;
  ensureConversation.making ??= make().finally(() => (ensureConversation.making = null));
  return ensureConversation.making;
}

async function make() {
  const values = Object.fromEntries(Object.entries(app.fresh).filter(([, value]) => value));
  const made = await call("POST", "/app/conversations", values);
  app.conversation = { ...made, messages: [], documents: [] };
  address(made.id);
  noted(made);
  emit("header");
  return app.conversation;
}

/** Set title, model, system prompt or preset; of a new conversation when `id` is "". */
export async function change(id, values) {
  if (!id) {
    Object.assign(app.fresh, values);
    emit("header");
    return;
  }
  noted(await call("PATCH", path(id), values));
}

/** Delete a conversation after a while in which the person can take it back. */
export function removeConversation(conversation) {
  const { id } = conversation;
  app.deleting.add(id);
  app.conversations = app.conversations.filter((one) => one.id !== id);
  if (app.conversation?.id === id) show(null);
  emit("conversations");
  const name = conversation.title || "New conversation";
  const end = toast(`“${name.slice(0, 40)}” deleted`, {
    action: "Undo",
    ms: UNDO_MS,
    act: () => restore(id),
    gone: () => reallyRemove(id),
  });
  waiting.set(id, end);
}

async function restore(id) {
  waiting.delete(id);
  app.deleting.delete(id);
  await refreshConversations().catch(failed);
  await openConversation(id);
}

async function reallyRemove(id) {
  waiting.delete(id);
  drafts.forget(id);
  try {
    await call("DELETE", path(id), undefined, { keepalive: true });
  } catch (error) {
    if (error.status !== 404) {
      notice("delete", `The conversation could not be deleted: ${error.message}`);
      app.deleting.delete(id);
      await refreshConversations().catch(() => null);
    }
  }
}

/** Delete every conversation, at once. Raises `ApiError`. */
export async function removeAll() {
  await call("DELETE", "/app/conversations", { confirm: true });
  drafts.forget();
  newConversation();
  await refreshConversations();
}

function show(conversation, message = null, again = false) {
  app.conversation = conversation;
  address(conversation?.id ?? "");
  emit("conversation", { message, again });
}

/** The conversation in the address, so that a reload shows it again. */
function address(id) {
  history.replaceState(null, "", id ? `#c=${id}` : location.pathname);
}

export function addressed() {
  return /^#c=(\w+)$/.exec(location.hash)?.[1] ?? "";
}

// The window closes while something can still be taken back: it is deleted then.
window.addEventListener("pagehide", () => [...waiting.values()].forEach((end) => end(false)));
