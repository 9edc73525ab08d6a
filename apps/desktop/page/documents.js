// Files of a conversation: dropped, chosen or pasted, shown as chips above the box.

import { call, upload } from "./api.js";
import { ensureConversation } from "./chats.js";
import { announce } from "./dialogs.js";
import { byId, el, icon, iconButton } from "./dom.js";
import { bytes, count } from "./format.js";
import { failed, notice } from "./notices.js";
import { app, emit, on } from "./state.js";

const LARGEST = 50e6; // bytes; refused here, for the server would break the upload off
const chips = byId("documents");
const chooser = byId("file");
const pending = new Set(); // {conversation, name, share}

/** Whether a file of the conversation that is shown is on its way. */
export const uploading = () =>
  [...pending].some((one) => one.conversation === app.conversation?.id);

async function add(files) {
  for (const file of files) await addOne(file);
}

async function addOne(file) {
  if (file.size > LARGEST) {
    notice(
      `file-${file.name}`,
      `${file.name} has ${bytes(file.size)}; a file may have ${bytes(LARGEST)} at most.`,
    );
    return;
  }
  let entry = null;
  try {
    const conversation = await ensureConversation();
    entry = { conversation: conversation.id, name: file.name, share: 0 };
    pending.add(entry);
    draw();
    const document = await upload(
      `/app/conversations/${conversation.id}/documents`,
      file,
      (share) => {
        entry.share = share;
        draw();
      },
    );
    conversation.documents.push(document);
    announce(`${document.name} added`);
  } catch (error) {
    failed(error, `file-${file.name}`);
  }
  pending.delete(entry);
  draw();
  emit("documents");
}

async function remove(document) {
  const { conversation } = app;
  try {
    await call("DELETE", `/app/conversations/${conversation.id}/documents/${document.id}`);
    conversation.documents = conversation.documents.filter((one) => one.id !== document.id);
    announce(`${document.name} removed`);
  } catch (error) {
    failed(error);
  }
  draw();
  byId("question").focus();
}

function draw() {
  const there = (app.conversation?.documents ?? []).map((one) => {
    const about = `${count(one.pages, "page")}, ${bytes(one.bytes)}`;
    return el(
      "li",
      { title: `${one.name}: ${about}, ${count(one.passages, "passage")}` },
      icon("file"),
      el("span", { class: "ellipsis" }, one.name),
      el("span", { class: "dim" }, about),
      iconButton("close", `Remove ${one.name}`, () => remove(one), { kind: "small" }),
    );
  });
  const coming = [...pending]
    .filter((one) => one.conversation === app.conversation?.id)
    .map((one) => {
      const stage = one.share < 1 ? `${Math.round(one.share * 100)}%` : "reading…";
      return el(
        "li",
        { class: "coming" },
        el("span", { class: "pulse", "aria-hidden": "true" }),
        el("span", { class: "ellipsis" }, one.name),
        el("span", { class: "dim" }, stage),
      );
    });
  chips.replaceChildren(...there, ...coming);
}

byId("attach").addEventListener("click", () => chooser.click());
chooser.addEventListener("change", () => {
  add([...chooser.files]);
  chooser.value = "";
});

/** Choose a file, as the button does. */
export const choose = () => chooser.click();

const drop = byId("drop");
let depth = 0;
const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

window.addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  depth += 1;
  drop.hidden = false;
});
window.addEventListener("dragleave", (event) => {
  if (!holdsFiles(event)) return;
  depth -= 1;
  if (depth <= 0) endDrag();
});
window.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
window.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault(); // else the window would show the file in place of the page
  endDrag();
  add([...event.dataTransfer.files]);
});

function endDrag() {
  depth = 0;
  drop.hidden = true;
}

byId("question").addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  add(files);
});

on("conversation", draw);
