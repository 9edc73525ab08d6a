// The system prompt of a conversation: written here, or taken from a preset.

import { change } from "./chats.js";
import { openDialog } from "./dialogs.js";
import { button, byId, el, freshId } from "./dom.js";
import { app, changeSettings, settings } from "./state.js";

export function openInstructions() {
  const place = app.conversation ?? app.fresh;
  const [presetId, textId, nameId] = ["preset", "system", "name"].map(freshId);
  const text = el("textarea", {
    id: textId,
    rows: "6",
    value: place.system,
    placeholder: "For example: Answer in French, in short sentences.",
  });
  const preset = el("select", { id: presetId }, el("option", { value: "" }, "Own words"));
  const name = el("input", { id: nameId, maxlength: "100", placeholder: "Name" });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const list = () =>
    preset.replaceChildren(
      el("option", { value: "" }, "Own words"),
      ...settings().presets.map((one) => el("option", { value: one.name }, one.name)),
    );
  list();
  preset.value = settings().presets.some((one) => one.name === place.preset) ? place.preset : "";
  preset.addEventListener("change", () => {
    const chosen = settings().presets.find((one) => one.name === preset.value);
    text.value = chosen?.system ?? "";
  });
  text.addEventListener("input", () => (preset.value = ""));
  const attempt = async (work) => {
    try {
      await work();
      problem.hidden = true;
      return true;
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      return false;
    }
  };
  const keep = async () => {
    const title = name.value.trim();
    if (!title) return name.focus();
    const others = settings().presets.filter((one) => one.name !== title);
    const presets = [...others, { name: title, system: text.value }];
    if (await attempt(() => changeSettings({ presets }))) {
      list();
      preset.value = title;
      name.value = "";
    }
  };
  const apply = async (system, chosen) => {
    const id = app.conversation?.id ?? "";
    if (await attempt(() => change(id, { system, preset: chosen }))) dialog.close();
  };
  const dialog = openDialog({
    title: "Instructions for this conversation",
    body: [
      el(
        "p",
        { class: "dim small" },
        "The model reads them before every question of this conversation.",
      ),
      el("div", { class: "field" }, el("label", { for: presetId }, "Preset"), preset),
      el("div", { class: "field" }, el("label", { for: textId }, "Instructions"), text),
      el(
        "div",
        { class: "field" },
        el("label", { for: nameId }, "Keep these words as a preset"),
        el("div", { class: "with-button" }, name, button("Keep", {}, keep)),
      ),
      problem,
    ],
    foot: [
      button("Remove", { kind: "quiet" }, () => apply("", "")),
      el("span", { class: "grow" }),
      button("Cancel", {}, () => dialog.close()),
      button("Use", { kind: "primary", type: "submit" }),
    ],
    submit: () => apply(text.value.trim(), preset.value),
  });
  text.focus();
}

byId("instructions").addEventListener("click", openInstructions);
