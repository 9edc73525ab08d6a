// Dialogs, menus and short messages: what opens above the page and gives the focus back.

import { button, byId, el, freshId, iconButton } from "./dom.js";

/** Open a dialog. `body` and `foot` are lists of nodes; `submit` is called on Enter and by a
 * button of type submit; `closed` when it is gone, `cancel` when it was dismissed by Escape. */
export function openDialog({
  title,
  body,
  foot = [],
  name = "",
  submit,
  closed,
  cancel,
  dismissible = true,
}) {
  const id = freshId("dialog");
  const close = () => dialog.close();
  const head = el(
    "div",
    { class: "dialog-head" },
    el("h2", { id }, title),
    dismissible && iconButton("close", "Close", close),
  );
  const form = el(
    "form",
    { method: "dialog", novalidate: true },
    head,
    el("div", { class: "dialog-body", tabindex: "-1" }, body),
    foot.length ? el("div", { class: "dialog-foot" }, foot) : null,
  );
  const dialog = el("dialog", { class: name, "aria-labelledby": id }, form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit?.();
  });
  dialog.addEventListener("cancel", () => cancel?.());
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before something that cannot be taken back; whether the person agreed. */
export function confirmed({ title, text, yes, danger = true }) {
  return new Promise((resolve) => {
    let answer = false;
    const agree = button(yes, { kind: danger ? "danger" : "primary", type: "submit" });
    const dialog = openDialog({
      title,
      body: [el("p", {}, text)],
      foot: [button("Cancel", { autofocus: true }, () => dialog.close()), agree],
      submit: () => {
        answer = true;
        dialog.close();
      },
      closed: () => resolve(answer),
    });
  });
}

/** Whether a dialog is open. */
export const dialogOpen = () => document.querySelector("dialog[open]") !== null;

let openOne = null;

/** Show a menu that belongs to a button; a second call closes it. `fill` gives its nodes. */
export function toggleMenu(opener, menu, fill, { closed } = {}) {
  const again = openOne?.opener === opener;
  closeMenu();
  if (again) return;
  menu.replaceChildren(...fill());
  menu.hidden = false;
  opener.setAttribute("aria-expanded", "true");
  openOne = { opener, menu, closed };
  (menu.querySelector("[aria-pressed='true'], button, input, a") ?? menu).focus();
}

/** Close the open menu; whether there was one. */
export function closeMenu({ focus = false } = {}) {
  if (!openOne) return false;
  const { opener, menu, closed } = openOne;
  openOne = null;
  menu.hidden = true;
  opener.setAttribute("aria-expanded", "false");
  if (focus && opener.isConnected) opener.focus();
  closed?.();
  return true;
}

export const menuIsOpen = (menu) => openOne?.menu === menu;

document.addEventListener("pointerdown", (event) => {
  if (!openOne || openOne.menu.contains(event.target) || openOne.opener.contains(event.target))
    return;
  closeMenu();
});

document.addEventListener("keydown", (event) => {
  if (!openOne || dialogOpen()) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Tab") closeMenu({ focus: true });
  if (!step || !openOne?.menu.contains(document.activeElement)) return;
  event.preventDefault();
  const items = [...openOne.menu.querySelectorAll("button, input, a")];
  const at = items.indexOf(document.activeElement);
  items[(at + step + items.length) % items.length].focus();
});

/** Tell a screen reader. */
export function announce(text) {
  byId("announce").textContent = text;
}

/** A short message at the foot of the window that goes by itself, with one thing to do about it. */
export function toast(text, { action = "", act, gone, ms = 7000 } = {}) {
  const end = (acted) => {
    if (!node.isConnected) return;
    clearTimeout(timer);
    node.remove();
    if (acted) act?.();
    else gone?.();
  };
  const node = el("div", { class: "toast", role: "status" }, el("span", {}, text));
  if (action) node.append(button(action, { kind: "quiet" }, () => end(true)));
  byId("toasts").append(node);
  const timer = setTimeout(() => end(false), ms);
  return end;
}
