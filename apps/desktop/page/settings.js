// All settings in one dialog; nothing changes before "Save", but for what has a button of its own.

import { removeAll } from "./chats.js";
import { confirmed, openDialog, toast } from "./dialogs.js";
import { button, byId, el, freshId } from "./dom.js";
import { cloudPart } from "./settings_cloud.js";
import { presetsPart } from "./settings_presets.js";
import { app, changeSettings, settings } from "./state.js";

/** A label and its input, with a line of help. */
export function field(label, input, help = "") {
  input.id ||= freshId("field");
  const hint = help ? el("span", { class: "help", id: freshId("help") }, help) : null;
  if (hint) input.setAttribute("aria-describedby", hint.id);
  return el("div", { class: "field" }, el("label", { for: input.id }, label), input, hint);
}

export function part(title, ...nodes) {
  return el("fieldset", {}, el("legend", {}, title), ...nodes);
}

/** Choices of a select. */
export function choices(options, value) {
  const made = el(
    "select",
    {},
    options.map(([name, label]) => el("option", { value: name }, label)),
  );
  made.value = value;
  return made;
}

export function openSettings(at = "") {
  const before = settings();
  const parts = [
    lookPart(before),
    answersPart(before),
    presetsPart(before),
    cloudPart(before),
    dataPart(),
  ];
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const save = async () => {
    const values = Object.assign({}, ...parts.map((one) => one.values?.() ?? {}));
    const changed = Object.fromEntries(
      Object.entries(values).filter(
        ([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name]),
      ),
    );
    try {
      for (const one of parts) one.check?.();
      if (Object.keys(changed).length) await changeSettings(changed);
      for (const one of parts) await one.after?.();
      window.chooseTheme(settings().theme);
      dialog.close();
      toast("Settings saved", { ms: 2500 });
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
  };
  const dialog = openDialog({
    title: "Settings",
    name: "settings",
    body: parts.map((one) => one.node),
    foot: [
      problem,
      button("Cancel", {}, () => dialog.close()),
      button("Save", { kind: "primary", type: "submit" }),
    ],
    submit: save,
    closed: () => window.chooseTheme(settings().theme),
  });
  const first = at === "cloud" ? parts[3].node : parts[0].node;
  first.querySelector("input, select").focus();
  if (at) first.scrollIntoView();
}

function lookPart(now) {
  const theme = choices(
    [
      ["system", "As the system"],
      ["light", "Light"],
      ["dark", "Dark"],
    ],
    now.theme,
  );
  theme.addEventListener("change", () => window.chooseTheme(theme.value));
  const enter = el("input", { type: "checkbox", checked: now.send_on_enter });
  const node = part(
    "Look and keys",
    field("Theme", theme),
    el(
      "label",
      { class: "check" },
      enter,
      "Enter sends the question (Shift+Enter begins a new line)",
    ),
  );
  return { node, values: () => ({ theme: theme.value, send_on_enter: enter.checked }) };
}

function answersPart(now) {
  const models = app.server.models.filter((one) => !one.problem).map((one) => [one.name, one.name]);
  const known = models.some(([name]) => name === now.model);
  const model = choices(
    [
      ["", "The first one"],
      ...models,
      ...(known || !now.model ? [] : [[now.model, `${now.model} (not here)`]]),
    ],
    now.model,
  );
  const most = el("input", {
    type: "number",
    min: "1",
    max: "131072",
    step: "1",
    value: now.max_tokens,
  });
  const temperature = el("input", {
    type: "number",
    min: "0",
    max: "2",
    step: "0.1",
    value: now.temperature,
  });
  const node = part(
    "Answers",
    field("Model of new conversations", model),
    el(
      "div",
      { class: "two" },
      field("Longest answer, tokens", most, "A token is about three quarters of a word."),
      field(
        "Temperature",
        temperature,
        "0 always takes the likeliest word; higher is more varied.",
      ),
    ),
  );
  return {
    node,
    values: () => ({
      model: model.value,
      max_tokens: Number(most.value),
      temperature: Number(temperature.value),
    }),
  };
}

function dataPart() {
  const { device, version, folder } = app.server;
  const remove = button("Delete all conversations…", { kind: "danger" }, async () => {
    const agreed = await confirmed({
      title: "Delete all conversations?",
      text: "All questions, answers and files in them are deleted from this device. This cannot be taken back.",
      yes: "Delete all",
    });
    if (!agreed) return;
    try {
      await removeAll();
      toast("All conversations deleted");
    } catch (error) {
      toast(error.message);
    }
  });
  const memory = device.memory_bytes
    ? `, ${(device.memory_bytes / 2 ** 30).toFixed(0)} GiB of memory`
    : "";
  const rows = [
    ["Conversations", folder ? `on this device only, in ${folder}` : "on this device only"],
    ["Device", `${device.cpu}, ${device.cores} cores${memory}`],
    ["Version", version],
  ];
  const facts = el(
    "dl",
    { class: "facts" },
    rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
  return { node: part("Data on this device", facts, el("div", {}, remove)) };
}

byId("open-settings").addEventListener("click", () => openSettings());
