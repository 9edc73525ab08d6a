// Small helpers to build elements; text never becomes markup here.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: attributes, `class`, `on: {event: handler}`, `data: {name: value}`; true
 * sets an empty attribute, false, null and undefined leave it out. Children: nodes and texts. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    } else if (name === "data") {
      Object.assign(node.dataset, value);
    } else if (name === "value") {
      node.value = value;
    } else if (name === "checked") {
      node.checked = value;
    } else {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return node;
}

let drawings = "/page/icons.svg#";

/** Bring the drawings into the page: those of a file are gone when the assistant is. */
export async function loadIcons() {
  const answer = await fetch("/page/icons.svg").catch(() => null);
  if (!answer?.ok) return;
  const file = new DOMParser().parseFromString(await answer.text(), "image/svg+xml");
  const svg = document.importNode(file.documentElement, true);
  for (const symbol of svg.children) symbol.id = `icon-${symbol.id}`;
  svg.setAttribute("class", "unseen");
  svg.setAttribute("aria-hidden", "true");
  document.body.append(svg);
  const before = drawings;
  drawings = "#icon-";
  for (const use of document.querySelectorAll("use")) {
    use.setAttribute("href", use.getAttribute("href").replace(before, drawings));
  }
}

/** One of the drawings in icons.svg; says nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", drawings + name);
  svg.append(use);
  return svg;
}

/** A button with a text, and an icon before it where one is named. */
export function button(text, { kind = "", icon: name = "", ...props } = {}, click = null) {
  const shown = name ? [icon(name), text] : [text];
  const on = click ? { click } : {};
  return el("button", { class: `button ${kind}`.trim(), type: "button", on, ...props }, shown);
}

/** A button that shows only an icon; `label` is what it is called. */
export function iconButton(name, label, click, { kind = "", ...props } = {}) {
  const made = {
    class: `icon-button ${kind}`.trim(),
    type: "button",
    "aria-label": label,
    title: label,
    on: { click },
    ...props,
  };
  return el("button", made, icon(name));
}

export const byId = (id) => document.getElementById(id);

/** A name that no other element has. */
let made = 0;
export const freshId = (word) => `${word}-${(made += 1)}`;

/** A call that happens once, `ms` after the last time it was asked for. */
export function later(ms, work) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), ms);
  };
}

/** Put a text on the clipboard; whether that worked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // some web views refuse the clipboard's own interface
  }
}

function copyBySelection(text) {
  const back = document.activeElement;
  const area = el("textarea", {
    class: "unseen",
    "aria-hidden": "true",
    tabindex: "-1",
    value: text,
  });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  back?.focus();
  return done;
}

/** Show on a button for a moment that what it does is done. */
export function confirmOn(node, done) {
  const before = node.getAttribute("aria-label");
  node.replaceChildren(icon(done ? "check" : "close"));
  node.setAttribute("aria-label", done ? "Copied" : "Could not copy");
  setTimeout(() => {
    node.replaceChildren(icon("copy"));
    node.setAttribute("aria-label", before);
  }, 1500);
}
