// The cloud in the settings: whether, to whom, with which key, at what cost.

import { call } from "./api.js";
import { button, el } from "./dom.js";
import { usd } from "./format.js";
import { choices, field, part } from "./settings.js";
import { app, refreshState } from "./state.js";

const CONSENTS = [
  ["never", "Never: every answer is made on this device"],
  ["ask", "Ask me each time, and show what would be sent"],
  ["session", "Ask me once until the assistant is closed"],
  ["always", "Send without asking when an answer seems doubtful"],
];

export function cloudPart(now) {
  const consent = choices(CONSENTS, now.consent);
  const name = el("input", {
    value: now.endpoint?.name ?? "",
    placeholder: "My provider",
    autocomplete: "off",
  });
  const url = el("input", {
    type: "url",
    value: now.endpoint?.base_url ?? "",
    placeholder: "https://…/v1",
    autocomplete: "off",
    spellcheck: "false",
  });
  const model = el("input", {
    value: now.endpoint?.model ?? "",
    autocomplete: "off",
    spellcheck: "false",
  });
  const number = (value, more) =>
    el("input", {
      type: "number",
      min: "0",
      step: "0.01",
      placeholder: "none",
      value: value ?? "",
      ...more,
    });
  const threshold = number(now.threshold, { max: "1", placeholder: "as calibrated" });
  const day = number(now.day_limit_usd);
  const month = number(now.month_limit_usd);
  const key = keyField();
  const { cloud } = app.server;
  const node = part(
    "Cloud",
    el(
      "p",
      { class: "dim small" },
      `A larger model elsewhere can answer what the one on this device is not sure of. Spent today: ${usd(cloud.spent_today_usd)}.`,
    ),
    field("May a question leave this device?", consent),
    el("div", { class: "two" }, field("Name", name), field("Model", model)),
    field("Address (OpenAI-compatible)", url, "Ends in /v1 with most providers. Empty: no cloud."),
    key.node,
    el("div", { class: "two" }, field("Limit a day, US$", day), field("Limit a month, US$", month)),
    field(
      "Ask the cloud below this confidence",
      threshold,
      "From 0 to 1; empty takes what was measured when the model was calibrated.",
    ),
  );
  const optional = (input) => (input.value.trim() === "" ? null : Number(input.value));
  const endpoint = () => {
    const made = { name: name.value.trim(), base_url: url.value.trim(), model: model.value.trim() };
    if (!made.base_url && !made.model) return null;
    return { ...made, name: made.name || "cloud" };
  };
  return {
    node,
    values: () => ({
      consent: endpoint() ? consent.value : "never",
      endpoint: endpoint(),
      threshold: optional(threshold),
      day_limit_usd: optional(day),
      month_limit_usd: optional(month),
    }),
    check: () => {
      if (consent.value !== "never" && !endpoint())
        throw new Error("The cloud needs an address and a model first.");
    },
    after: key.save,
  };
}

/** The key goes one way only: it is written, never shown. */
function keyField() {
  const input = el("input", {
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "Paste a new key",
  });
  const where = app.server.key?.where ?? "";
  const stored = {
    keychain: "A key is stored in the system’s keychain.",
    environment: "A key is set in the environment.",
    memory: "A key is kept until the assistant is closed.",
  };
  const node = field(
    "Key",
    input,
    stored[where] ??
      "No key is stored. It is kept in the system’s keychain, and never shown again.",
  );
  if (where && where !== "environment") {
    const remove = button("Remove", { kind: "danger" }, async () => {
      await call("DELETE", "/app/key").catch(() => null);
      await refreshState();
      remove.remove();
      node.querySelector(".help").textContent = "The key is removed.";
    });
    const line = el("div", { class: "with-button" });
    input.replaceWith(line);
    line.append(input, remove);
  }
  const save = async () => {
    if (!input.value) return;
    await call("PUT", "/app/key", { key: input.value });
    input.value = "";
    await refreshState();
  };
  return { node, save };
}
