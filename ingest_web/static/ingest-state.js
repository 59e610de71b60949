/**
 * What the state of a document means to a viewer: which of two is newer, which is the last, where the bar belongs and
 * how fast it goes there. Pure: no DOM, no network, no clock.
 */

/**
 * The full state of a document, as each event and `GET /status/{id}` carry it.
 *
 * @typedef {object} State
 * @property {string} id
 * @property {string} filename
 * @property {"PENDING"|"PARSING"|"CHUNKING"|"LOADING"|"COMPLETED"|"FAILED"|"CANCELLED"} status
 * @property {number} progress 0 to 100; never falls within an attempt
 * @property {string} message
 * @property {{done: number, total: number, unit: string}|null} stage
 * @property {number|null} eta_seconds
 * @property {number} attempt
 * @property {number} seq only ever grows
 * @property {string} at
 * @property {string} created_at
 * @property {string} updated_at
 * @property {string|null} finished_at
 * @property {{code: string, message: string}|null} error
 * @property {{code: string, message: string, pages: number[]}[]} warnings
 */

const FINAL = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

/**
 * Whether nothing follows this state, but by a retry.
 *
 * @param {State} state
 */
export function isFinal(state) {
  return FINAL.has(state.status);
}

/**
 * Whether `incoming` says something that `known` doesn't. A stream that resumes or overlaps repeats itself.
 *
 * @param {State|null} known
 * @param {State} incoming
 */
export function isNewer(known, incoming) {
  return known === null || incoming.seq > known.seq;
}

/**
 * Where the bar belongs, 0 to 100: at the last reported value, never back within an attempt, full only when COMPLETED.
 *
 * @param {State|null} before the state that the bar shows
 * @param {number} shown where it stands for that state
 * @param {State} state
 */
export function barTarget(before, shown, state) {
  if (state.status === "COMPLETED") return 100;
  const reported = Math.min(Math.max(Number(state.progress) || 0, 0), 99.9);
  return before !== null && before.attempt === state.attempt ? Math.max(shown, reported) : reported;
}

/**
 * The percentage to print. Rounded down, so that "100 %" is never said too early.
 *
 * @param {number} target as `barTarget` gives it
 */
export function wholePercent(target) {
  return Math.floor(target);
}

/** A bar that takes as long to its next value as events are apart arrives just as the next one comes: it never stops. */
export class Pace {
  static #SHORTEST_MS = 120;
  static #LONGEST_MS = 1500;
  /** How much the latest interval weighs against those before. */
  static #WEIGHT = 0.35;
  /** A little slower than the events, because they are not regular. */
  static #SLACK = 1.2;

  #intervalMs = 300;
  #lastMs = null;

  /**
   * Notes an event and answers how long, in milliseconds, the bar should take to the value it brought.
   *
   * @param {number} nowMs
   */
  next(nowMs) {
    if (this.#lastMs !== null) {
      const mixed = this.#intervalMs + Pace.#WEIGHT * (nowMs - this.#lastMs - this.#intervalMs);
      this.#intervalMs = Math.min(Math.max(mixed, Pace.#SHORTEST_MS), Pace.#LONGEST_MS);
    }
    this.#lastMs = nowMs;
    return Math.round(this.#intervalMs * Pace.#SLACK);
  }
}
