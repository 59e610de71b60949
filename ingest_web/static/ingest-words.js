/**
 * How states, sizes, times and names read to people. Pure: values in, text out.
 */

/** @typedef {import("./ingest-state.js").State} State */

const STAGES = {
  PENDING: "Waiting",
  PARSING: "Reading",
  CHUNKING: "Splitting",
  LOADING: "Saving",
  COMPLETED: "Done",
  FAILED: "Failed",
  CANCELLED: "Cancelled",
};

/**
 * A stage in one word. A stage that this version has not heard of keeps its own name.
 *
 * @param {string} status
 */
export function stageWord(status) {
  return STAGES[status] ?? String(status);
}

/**
 * What is happening, to be read after the stage: why it failed, or the server's message without the word that is there
 * already ("Waiting" + "for a worker").
 *
 * @param {State} state
 */
export function happening(state) {
  const message = String(state.error?.message ?? state.message ?? "").trim();
  const stage = stageWord(state.status);
  if (!message.toLowerCase().startsWith(stage.toLowerCase())) return message;
  return message.slice(stage.length).replace(/^[\s\p{P}]+/u, "");
}

/**
 * The time that is left, coarse enough not to flicker: "about 40 s left". Empty when nobody knows.
 *
 * @param {number|null|undefined} seconds
 */
export function timeLeft(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds) || seconds < 0) return "";
  if (seconds < 3) return "a moment left";
  if (seconds < 10) return `about ${Math.round(seconds)} s left`;
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  return `about ${minutesAndHours(Math.round(seconds / 60) || 1)} left`;
}

/**
 * How long a document took: "8.4 s", "2 min 5 s", "1 h 10 min". Empty unless both ends are known.
 *
 * @param {State} state
 */
export function timeTaken(state) {
  const seconds = (Date.parse(state.finished_at ?? "") - Date.parse(state.created_at)) / 1000;
  if (!(seconds >= 0)) return "";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  if (seconds < 3570) {
    const whole = Math.round(seconds);
    return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
  }
  return minutesAndHours(Math.round(seconds / 60));
}

function minutesAndHours(minutes) {
  if (minutes < 60) return `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/**
 * A size with three digits at most: "0 B", "4.2 kB", "310 MB". Steps of 1024, so that a limit of 1 GiB reads "1 GB".
 *
 * @param {number} bytes
 */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && value < 9.95 ? Number(value.toFixed(1)) : Math.round(value)} ${units[unit]}`;
}

/**
 * "1 warning", "3 warnings".
 *
 * @param {number} count
 * @param {string} noun
 */
export function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * Pages as runs: "page 7", "pages 3–5, 9". Empty when all are meant.
 *
 * @param {number[]} pages
 */
export function pageRuns(pages) {
  if (!pages.length) return "";
  const runs = [];
  for (const page of [...new Set(pages)].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last && last.to === page - 1) last.to = page;
    else runs.push({ from: page, to: page });
  }
  const text = runs.map((run) => (run.from === run.to ? `${run.from}` : `${run.from}–${run.to}`)).join(", ");
  return `${pages.length === 1 ? "page" : "pages"} ${text}`;
}

/** Control characters, and those that reorder the text around them: a name must not pose as another. */
const UNSEEN = /[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/u;
const TAIL_CHARACTERS = 8;

/**
 * A file name that can be shown: never empty, and with what can't be seen made visible.
 *
 * @param {string|null|undefined} filename
 */
export function displayName(filename) {
  return String(filename ?? "").trim().replace(UNSEEN, "\ufffd") || "Untitled document";
}

/**
 * A name in two parts, so that a narrow box can leave out the middle and keep the ending. Together they are the name.
 *
 * @param {string} name
 * @returns {[string, string]}
 */
export function nameParts(name) {
  const characters = [...name];
  if (characters.length <= 2 * TAIL_CHARACTERS || RIGHT_TO_LEFT.test(name)) return [name, ""];
  return [characters.slice(0, -TAIL_CHARACTERS).join(""), characters.slice(-TAIL_CHARACTERS).join("")];
}
