// What the page knows, and who is told when it changes. The server has the truth; this is a copy.

import { call } from "./api.js";

const listeners = new Map();

/** `server` is /app/state; `conversation` the one that is shown with its messages, null for a new
 * one; `fresh` is what a new one will start with; `running` the answers being made, by conversation. */
export const app = {
  server: null,
  conversations: [],
  conversation: null,
  fresh: { model: "", system: "", preset: "" },
  running: new Map(),
  deleting: new Set(),
};

export function on(event, work) {
  if (!listeners.has(event)) listeners.set(event, []);
  listeners.get(event).push(work);
}

export function emit(event, data = null) {
  for (const work of listeners.get(event) ?? []) work(data);
}

/** Ask how everything stands. Raises `ApiError`. */
export async function refreshState() {
  app.server = await call("GET", "/app/state");
  emit("state");
}

/** As `refreshState`, but silent when nobody answers: the next thing done will say so. */
export async function refreshQuietly() {
  await refreshState().catch(() => null);
}

export async function refreshConversations() {
  const found = await call("GET", "/app/conversations");
  app.conversations = found.conversations.filter((one) => !app.deleting.has(one.id));
  emit("conversations");
}

/** Take what the server said of one conversation into the list. */
export function noted(conversation) {
  if (app.deleting.has(conversation.id)) return;
  const { messages, documents, ...short } = conversation;
  const rest = app.conversations.filter((one) => one.id !== short.id);
  app.conversations = [short, ...rest].sort((a, b) => (a.updated < b.updated ? 1 : -1));
  if (app.conversation?.id === short.id) {
    Object.assign(app.conversation, short);
    emit("header");
  }
  emit("conversations");
}

/** Models that can answer. */
export function usableModels() {
  return (app.server?.models ?? []).filter((model) => !model.problem);
}

/** The model that answers here: the conversation's own or the default one; undefined for none. */
export function currentModel() {
  const wanted = app.conversation ? app.conversation.model : app.fresh.model;
  const models = app.server?.models ?? [];
  return models.find((model) => model.name === wanted) ?? models.find((model) => model.default);
}

export const settings = () => app.server?.settings ?? {};

/** Change settings on the server. Raises `ApiError`. */
export async function changeSettings(values) {
  app.server.settings = await call("PUT", "/app/settings", values);
  await refreshState();
}

/** Texts that were begun, by conversation; kept by the browser where it can. */
export const drafts = {
  read: (id) => {
    try {
      return localStorage.getItem(`draft:${id}`) ?? "";
    } catch {
      return "";
    }
  },
  write: (id, text) => {
    try {
      if (text) localStorage.setItem(`draft:${id}`, text);
      else localStorage.removeItem(`draft:${id}`);
    } catch {
      // no storage: the text stays in its box
    }
  },
  /** Forget one, or all of them. */
  forget: (id = "") => {
    try {
      const wanted = (key) => (id ? key === `draft:${id}` : key.startsWith("draft:"));
      for (const key of Object.keys(localStorage).filter(wanted)) localStorage.removeItem(key);
    } catch {
      // nothing was kept
    }
  },
};
