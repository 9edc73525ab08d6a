// Answers while they are being made: one for a conversation at most, going on while another is shown.

import { ApiError, call, stream } from "./api.js";
import { reloadConversation } from "./chats.js";
import { askConsent } from "./consent.js";
import { announce } from "./dialogs.js";
import { sentence } from "./format.js";
import { notice, unnotice } from "./notices.js";
import { app, emit, noted, refreshQuietly } from "./state.js";

// Browsers hold six connections to one place, and each answer takes one until its end.
const MOST = 4;

/** An answer in progress. `stage`: "", "queued", "loading", "ready", "consent". */
class Running {
  constructor(conversation, instead) {
    this.conversation = conversation;
    this.instead = instead; // id of the answer that is made anew
    this.generation = "";
    this.text = "";
    this.provisional = false;
    this.stage = "";
    this.ahead = 0;
    this.passages = [];
    this.began = false;
    this.stopped = false;
    this.aborter = new AbortController();
    this.consent = null;
  }
}

/** Ask a question. Resolves when the server has taken it, raises `ApiError` when it did not. */
export function ask(conversation, content, cloud = "none") {
  return run(conversation, "messages", { content, cloud });
}

/** Have the last question answered anew; as `ask`. */
export function regenerate(conversation, cloud = "none") {
  const last = conversation.messages.at(-1);
  return run(conversation, "regenerate", { cloud }, last?.role === "assistant" ? last.id : "");
}

/** Stop the answer of a conversation; whether one was being made. */
export function stop(id) {
  const running = app.running.get(id);
  if (!running) return false;
  running.stopped = true;
  if (running.generation)
    call("POST", `/app/generations/${running.generation}/cancel`).catch(() =>
      running.aborter.abort(),
    );
  else running.aborter.abort();
  emit("running", running);
  return true;
}

function run(conversation, what, body, instead = "") {
  const { id } = conversation;
  if (app.running.size >= MOST) {
    const text = `${MOST} answers are on their way already; wait for one of them.`;
    return Promise.reject(new ApiError(text, 429));
  }
  const running = new Running(id, instead);
  app.running.set(id, running);
  unnotice("answer");
  return new Promise((taken, refused) => {
    follow(running, `/app/conversations/${id}/${what}`, body, taken, refused);
  });
}

async function follow(running, path, body, taken, refused) {
  let problem = null;
  try {
    const tell = (name, data) => heard(running, name, data, taken);
    await stream("POST", path, body, tell, running.aborter.signal);
  } catch (error) {
    problem = error;
  }
  app.running.delete(running.conversation);
  running.consent?.close();
  if (!running.began) refused(problem ?? new Error("the answer was stopped before it began"));
  else if (problem) notice("answer", problem.message);
  if (!running.ended && running.began && !(await reloadConversation())) keepHere(running);
  emit("running", running);
  refreshQuietly();
}

/** Nobody answers any more: what there is of the answer stays to be read. */
function keepHere(running) {
  if (app.conversation?.id !== running.conversation || running.instead) return;
  const { text: content, passages } = running;
  const message = {
    id: "",
    role: "assistant",
    content,
    state: "interrupted",
    model: "",
    details: null,
    passages,
  };
  app.conversation.messages.push(message);
  emit("conversation", { again: true });
}

function heard(running, name, data, taken) {
  const here = app.conversation?.id === running.conversation ? app.conversation : null;
  if (name === "started") {
    running.began = true;
    running.generation = data.generation;
    if (here && !running.instead && !here.messages.some((one) => one.id === data.user.id))
      here.messages.push(data.user);
    taken(running);
    named(running.conversation);
    emit("begun", running);
    emit("running", running);
  } else if (name === "stage") {
    running.stage = data.name;
    running.ahead = data.ahead;
    emit("progress", running);
  } else if (name === "passages") {
    running.passages = data.passages;
    emit("progress", running);
  } else if (name === "token") {
    running.stage = "ready";
    running.text += data.text;
    running.provisional = data.provisional;
    emit("progress", running);
  } else if (name === "consent") consent(running, data);
  else if (name === "final") final(running, data, here);
  else if (name === "error") failedAnswer(running, data, here);
}

/** The first question gives a conversation its title. */
async function named(id) {
  const found = await call("GET", `/app/conversations/${id}`).catch(() => null);
  if (found) noted(found);
}

function consent(running, { id, proposal }) {
  running.stage = "consent";
  emit("progress", running);
  const title = app.conversations.find((one) => one.id === running.conversation)?.title ?? "";
  const elsewhere = app.conversation?.id === running.conversation ? "" : title;
  running.consent = askConsent(id, proposal, elsewhere, () => {
    running.consent = null;
    running.stage = "ready";
    emit("progress", running);
  });
}

function final(running, { message, conversation, replaces, problem }, here) {
  running.ended = true;
  app.running.delete(running.conversation);
  if (here) {
    const others = here.messages.filter(
      (one) => one.id !== running.instead && one.id !== message.id,
    );
    here.messages = [...others, message];
  }
  emit("ended", { running, message, replaces });
  noted(conversation);
  if (problem) notice("store", `${problem}; the conversation is kept in memory until that works`);
  if (here) announce(spoken(message, replaces));
}

function spoken(message, replaces) {
  const start = replaces && message.details?.source === "cloud" ? "The answer of the cloud. " : "";
  return `${start}${message.content.slice(0, 800)}`;
}

function failedAnswer(running, { message, retry_after_s: wait }, here) {
  const hint = wait ? ` Try again in ${Math.ceil(wait)} s.` : "";
  running.error = sentence(message) + hint;
  if (here) announce(`No answer: ${running.error}`);
  if (!here || running.instead || wait) notice("answer", running.error); // else the turn says it
}
