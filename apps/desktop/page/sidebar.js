// The list of conversations and the search in them.

import { call } from "./api.js";
import { change, newConversation, openConversation, removeConversation } from "./chats.js";
import { announce, closeMenu, toggleMenu } from "./dialogs.js";
import { byId, el, iconButton, later } from "./dom.js";
import { age, count } from "./format.js";
import { failed } from "./notices.js";
import { app, on } from "./state.js";

const list = byId("conversations");
const input = byId("search");
let stale = false;
let found = null; // results of a search, null for none

function draw() {
  stale = list.querySelector("input, .menu:not([hidden])") !== null; // in use: drawn when that ends
  if (stale) return;
  const focused = document.activeElement?.closest?.("#conversations li")?.dataset.key;
  const rows = found ? results() : conversations();
  list.replaceChildren(...rows);
  const again = focused && [...list.children].find((row) => row.dataset.key === focused);
  again?.querySelector(".open")?.focus();
}

function conversations() {
  if (!app.conversations.length) {
    return [
      el(
        "li",
        { class: "empty-list" },
        "Your conversations will be listed here. They stay on this device.",
      ),
    ];
  }
  const rows = [];
  let heading = "";
  for (const conversation of app.conversations) {
    const day = age(conversation.updated);
    if (day !== heading) rows.push(el("li", { class: "day" }, day));
    heading = day;
    rows.push(row(conversation));
  }
  return rows;
}

function row(conversation) {
  const { id } = conversation;
  const current = id === app.conversation?.id;
  const name = conversation.title || "New conversation";
  const running = app.running.has(id);
  const open = el(
    "button",
    {
      class: "open",
      type: "button",
      "aria-current": current ? "true" : null,
      title: name,
      on: {
        click: () => leaveList(() => openConversation(id)),
        keydown: (event) => keys(event, conversation),
      },
    },
    el("span", { class: "name ellipsis" }, name),
    running && el("span", { class: "unseen" }, " (being answered)"),
  );
  const menu = el("div", {
    class: "menu floating",
    role: "group",
    "aria-label": `Actions for ${name}`,
    hidden: true,
  });
  const more = iconButton(
    "more",
    `Actions for ${name}`,
    () => openActions(more, menu, conversation),
    {
      kind: "small more",
      "aria-expanded": "false",
    },
  );
  const marks = running ? el("span", { class: "pulse", "aria-hidden": "true" }) : null;
  return el(
    "li",
    { class: `row ${current ? "current" : ""}`, data: { key: id } },
    open,
    marks,
    more,
    menu,
  );
}

function openActions(more, menu, conversation) {
  const place = () => placeBy(more, menu);
  window.addEventListener("resize", place);
  const closed = () => {
    window.removeEventListener("resize", place);
    if (stale) draw();
  };
  toggleMenu(more, menu, () => actions(conversation), { closed });
  place();
}

function placeBy(more, menu) {
  const box = more.getBoundingClientRect();
  const height = menu.offsetHeight;
  menu.style.left = `${Math.max(8, Math.min(box.left, innerWidth - menu.offsetWidth - 8))}px`;
  menu.style.top = `${box.bottom + height > innerHeight ? box.top - height : box.bottom + 2}px`;
}

function actions(conversation) {
  const item = (text, work, kind = "") =>
    el(
      "button",
      {
        class: `item ${kind}`,
        type: "button",
        on: { click: () => (closeMenu({ focus: true }), work()) },
      },
      text,
    );
  return [
    item("Rename", () => rename(conversation)),
    item("Export as Markdown", () => download(conversation.id, "md")),
    item("Export as JSON", () => download(conversation.id, "json")),
    item("Delete", () => removeConversation(conversation), "danger"),
  ];
}

function download(id, format) {
  const link = el("a", { href: `/app/conversations/${id}/export?format=${format}`, download: "" });
  document.body.append(link);
  link.click();
  link.remove();
}

function rename(conversation) {
  const place = [...list.children].find((one) => one.dataset.key === conversation.id);
  if (!place) return;
  const name = el("input", {
    value: conversation.title,
    "aria-label": "New title",
    maxlength: "200",
  });
  let ended = false;
  const end = async (keep) => {
    if (ended) return;
    ended = true;
    const title = name.value.trim();
    name.remove();
    if (keep && title && title !== conversation.title)
      await change(conversation.id, { title }).catch(failed);
    draw();
    [...list.children]
      .find((one) => one.dataset.key === conversation.id)
      ?.querySelector(".open")
      .focus();
  };
  name.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
  });
  name.addEventListener("blur", () => end(true));
  place.replaceChildren(name);
  name.select();
}

function keys(event, conversation) {
  if (event.key === "F2") rename(conversation);
  else if (event.key === "Delete") {
    removeConversation(conversation);
    (list.querySelector(".open") ?? input).focus();
  } else return;
  event.preventDefault();
}

list.addEventListener("keydown", (event) => {
  if (!event.target.classList.contains("open")) return;
  const opens = [...list.querySelectorAll(".open")];
  const at = opens.indexOf(event.target);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: opens.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  (opens[Math.min(to, opens.length - 1)] ?? input).focus();
});

// Search

const look = later(140, async () => {
  const words = input.value.trim();
  if (!words) return endSearch();
  try {
    const answer = await call("GET", `/app/search?q=${encodeURIComponent(words)}`);
    if (input.value.trim() !== words) return;
    found = answer.results.filter((one) => !app.deleting.has(one.conversation));
    announce(found.length ? count(found.length, "result") : "Nothing found");
    draw();
  } catch (error) {
    failed(error);
  }
});

function endSearch() {
  found = null;
  input.value = "";
  draw();
}

function results() {
  if (!found.length)
    return [el("li", { class: "empty-list" }, `Nothing found for “${input.value.trim()}”.`)];
  return found.map((one, at) => {
    const marked = one.snippet.map((piece) =>
      piece.match ? el("mark", {}, piece.text) : piece.text,
    );
    const title =
      one.role === "title"
        ? el("span", { class: "name ellipsis" }, marked)
        : el("span", { class: "name ellipsis" }, one.title || "New conversation");
    const snippet = one.role === "title" ? null : el("span", { class: "snippet" }, marked);
    const click = () => leaveList(() => openConversation(one.conversation, one.message));
    const open = el("button", { class: "open", type: "button", on: { click } }, title, snippet);
    return el("li", { class: "row", data: { key: `${one.conversation}-${at}` } }, open);
  });
}

input.addEventListener("input", look);
input.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && input.value) {
    event.stopPropagation();
    endSearch();
  } else if (event.key === "ArrowDown" || event.key === "Enter") {
    event.preventDefault();
    list.querySelector(".open")?.focus();
  }
});

export function focusSearch() {
  setSidebar(true);
  input.focus();
  input.select();
}

// On a narrow window the list lies over the conversation.

const sidebar = byId("sidebar");
const narrow = matchMedia("(max-width: 860px)");

function setSidebar(open) {
  sidebar.classList.toggle("open", open);
  byId("scrim").hidden = !open || !narrow.matches;
  byId("sidebar-open").setAttribute("aria-expanded", String(open));
}

export function closeSidebar() {
  if (!narrow.matches || !sidebar.classList.contains("open")) return false;
  setSidebar(false);
  byId("sidebar-open").focus();
  return true;
}

async function leaveList(work) {
  setSidebar(false);
  await work();
}

export function beginNew() {
  setSidebar(false);
  if (found) endSearch();
  newConversation();
}

byId("new").addEventListener("click", beginNew);
byId("sidebar-open").addEventListener("click", () => {
  setSidebar(true);
  byId("sidebar-close").focus();
});
byId("sidebar-close").addEventListener("click", closeSidebar);
byId("scrim").addEventListener("click", closeSidebar);
narrow.addEventListener("change", () => setSidebar(false));

on("conversations", draw);
on("conversation", draw);
on("running", draw);
