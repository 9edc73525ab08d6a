// The presets in the settings: a list of names and system prompts that can be written over.

import { button, el, iconButton } from "./dom.js";
import { part } from "./settings.js";

export function presetsPart(now) {
  const list = el("div", { class: "presets" });
  const add = (preset) => {
    const name = el("input", {
      "aria-label": "Name of the preset",
      maxlength: "100",
      value: preset.name,
      placeholder: "Name",
    });
    const system = el("textarea", {
      "aria-label": `Instructions of ${preset.name || "the new preset"}`,
      value: preset.system,
      rows: "2",
    });
    const row = el("div", { class: "preset field" }, name, system);
    const remove = iconButton("close", `Remove ${preset.name || "the new preset"}`, () => {
      row.remove();
      more.focus();
    });
    name.after(remove);
    row.value = () => ({ name: name.value.trim(), system: system.value });
    list.append(row);
    return name;
  };
  now.presets.forEach(add);
  const more = button("Add a preset", { kind: "quiet tiny", icon: "plus" }, () =>
    add({ name: "", system: "" }).focus(),
  );
  const values = () =>
    [...list.children].map((row) => row.value()).filter((one) => one.name || one.system.trim());
  const check = () => {
    if (values().some((one) => !one.name)) throw new Error("A preset needs a name.");
  };
  return {
    node: part("Presets", list, el("div", {}, more)),
    values: () => ({ presets: values() }),
    check,
  };
}
