// Measuring a model on this device, with its progress shown in an element.

import { stream } from "./api.js";
import { announce } from "./dialogs.js";
import { el } from "./dom.js";
import { duration, rate } from "./format.js";
import { refreshQuietly } from "./state.js";

/** Measure and show it in `home`; resolves to the speed, null where it could not be measured. */
export async function measure(model, home) {
  const bar = el("progress", { max: "1", value: 0, "aria-label": `Measuring ${model}` });
  const text = el("span", { class: "small dim" }, "Measuring, about 20 seconds…");
  home.replaceChildren(text, bar);
  let speed = null;
  let problem = "";
  try {
    await stream("POST", "/app/benchmark", { model }, (name, data) => {
      if (name === "progress") bar.value = data.total ? data.done / data.total : 0;
      else if (name === "done") speed = data.speed;
      else if (name === "error") problem = data.message;
    });
  } catch (error) {
    problem = error.message;
  }
  const said = speed
    ? `Measured here: ${rate(speed.decode_tps)}, first token after ${duration(speed.ttft_ms)}.`
    : `It could not be measured: ${problem || "the measurement ended early"}.`;
  home.replaceChildren(el("span", { class: "small" }, said));
  announce(said);
  await refreshQuietly();
  return speed;
}
