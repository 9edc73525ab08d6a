// Numbers and times as a person reads them.

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** Decimal units, as systems show sizes of files. */
export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function duration(ms) {
  if (ms < 995) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 9950 ? 2 : 1)} s`;
}

export function rate(tps) {
  return `${tps >= 100 ? Math.round(tps) : tps.toFixed(1)} tokens/s`;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** US dollars, with as many digits as a small sum needs. */
export function usd(value) {
  if (value === 0) return "$0";
  if (value < 0.000001) return "below $0.000001";
  return `$${value < 0.01 ? Number(value.toPrecision(2)) : value.toFixed(2)}`;
}

/** A message as a sentence; a name at its beginning, of a file or a model, stays as it is. */
export function sentence(text) {
  const word = /^[a-z]+(?=[,;:]? )/.test(text);
  const begun = word ? text[0].toUpperCase() + text.slice(1) : text;
  return begun + (/[.!?…]$/.test(text) ? "" : ".");
}

export function percent(share) {
  return `${Math.round(share * 100)}%`;
}

/** Under which heading a time belongs in the list. */
export function age(iso, now = new Date()) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const days = (midnight - new Date(iso)) / 86_400_000;
  if (days <= 0) return "Today";
  if (days <= 1) return "Yesterday";
  if (days <= 7) return "Last 7 days";
  return days <= 30 ? "Last 30 days" : "Older";
}
