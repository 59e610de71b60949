/**
 * The inside of `<ingest-progress>`: a tree made once, and what a state changes in it. Owns all DOM of the element and
 * knows nothing of the network. Text from outside enters by `textContent` only.
 */

import { Pace, barTarget, isFinal, wholePercent } from "./ingest-state.js";
import { counted, displayName, happening, nameParts, pageRuns, stageWord, timeLeft, timeTaken } from "./ingest-words.js";

/** @typedef {import("./ingest-state.js").State} State */

/** The last stretch, once the document is done. */
const FINISH_MS = 350;

const ICONS = {
  waiting: [["circle", { cx: 10, cy: 10, r: 7, "stroke-dasharray": "0.1 3.57", "stroke-linecap": "round" }]],
  working: [
    ["circle", { cx: 10, cy: 10, r: 7, opacity: 0.25 }],
    ["path", { d: "M10 3a7 7 0 0 1 7 7", "stroke-linecap": "round", class: "turning" }],
  ],
  done: [
    ["circle", { cx: 10, cy: 10, r: 8, fill: "currentColor", stroke: "none", opacity: 0.14 }],
    ["path", { d: "m6.4 10.4 2.4 2.4 4.8-5.4", "stroke-linecap": "round", "stroke-linejoin": "round" }],
  ],
  failed: [
    ["circle", { cx: 10, cy: 10, r: 8, fill: "currentColor", stroke: "none", opacity: 0.14 }],
    ["path", { d: "M10 6v4.6M10 13.7v.1", "stroke-linecap": "round" }],
  ],
  stopped: [
    ["circle", { cx: 10, cy: 10, r: 8, fill: "currentColor", stroke: "none", opacity: 0.14 }],
    ["path", { d: "M6.8 10h6.4", "stroke-linecap": "round" }],
  ],
};

const ICON_OF = { PENDING: "waiting", COMPLETED: "done", FAILED: "failed", CANCELLED: "stopped" };

/** What one element shows. */
export class View {
  #parts;
  #pace = new Pace();
  /** @type {State|null} */
  #state = null;
  #barAt = 0;
  #icon = "";

  /** @param {ShadowRoot} root */
  constructor(root) {
    const part = (name, tag = "div", attributes = {}) => element(tag, { class: name, part: name, ...attributes });
    const parts = {
      icon: part("icon", "span", { "aria-hidden": "true" }),
      filename: part("filename", "bdi"),
      percent: part("percent", "span", { "aria-hidden": "true" }),
      track: part("track", "div", { role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }),
      bar: part("bar"),
      stage: part("stage", "span"),
      message: part("message", "span"),
      eta: part("eta", "span"),
      reconnecting: part("reconnecting", "span", { hidden: "" }),
      warnings: part("warnings", "details", { hidden: "" }),
      warningCount: element("summary"),
      warningList: element("ul"),
      announcement: element("span", { class: "announcement", role: "status", "aria-live": "polite" }),
    };
    this.#parts = parts;
    const say = element("span", { class: "happening" });
    say.append(parts.stage, parts.message);
    parts.track.append(parts.bar);
    parts.warnings.append(parts.warningCount, parts.warningList);
    const base = part("base");
    base.append(
      parts.icon,
      group("head", parts.filename, parts.percent, element("slot", { name: "corner" })),
      parts.track,
      group("foot", say, parts.eta, parts.reconnecting),
      parts.warnings,
      element("slot", { name: "actions" }),
      parts.announcement,
    );
    root.append(base);
    this.clear();
  }

  /** Shows that nothing is known yet. */
  clear() {
    this.#state = null;
    this.#name("…");
    this.#tell("Asking for news", "");
    this.#parts.percent.textContent = "";
    this.#parts.eta.textContent = "";
    this.#parts.warnings.hidden = true;
    this.#parts.announcement.textContent = "";
    this.#moveBar(0, 0);
    this.#draw("waiting");
  }

  /** Shows that the server has no such document. */
  showUnknown() {
    if (!this.#state) this.#name(displayName(""));
    this.#tell("Not there", "The service has no such document any more.");
    this.#parts.eta.textContent = "";
    this.#draw("stopped");
  }

  /** Shows that the server does not show the document any more. */
  showRefused() {
    if (!this.#state) this.#name(displayName(""));
    this.#tell("Not shown", "The link to this document has ended.");
    this.#parts.eta.textContent = "";
    this.#draw("stopped");
  }

  /** @param {boolean} lost */
  showConnection(lost) {
    this.#parts.reconnecting.hidden = !lost;
    this.#parts.reconnecting.textContent = lost ? "Reconnecting…" : "";
    this.#parts.eta.hidden = lost;
  }

  /**
   * @param {State} state
   * @param {number} nowMs a clock for intervals, such as `performance.now()`
   */
  show(state, nowMs) {
    const before = this.#state;
    this.#state = state;
    this.#name(displayName(state.filename));
    this.#advance(before, state, nowMs);
    this.#tell(stageWord(state.status), happening(state));
    this.#parts.eta.textContent = isFinal(state) ? tookWords(state) : timeLeft(state.eta_seconds);
    this.#warn(state.warnings ?? []);
    this.#draw(ICON_OF[state.status] ?? "working");
    if (before && before.status !== state.status) this.#announce(state);
  }

  #advance(before, state, nowMs) {
    const target = barTarget(before, this.#barAt, state);
    const paceMs = this.#pace.next(nowMs);
    const jumps = before === null || before.attempt !== state.attempt;
    this.#moveBar(target, jumps ? 0 : state.status === "COMPLETED" ? FINISH_MS : paceMs);
    const percent = wholePercent(target);
    this.#parts.percent.textContent = percentWords(state, percent);
    this.#parts.track.ariaValueNow = String(percent);
    this.#parts.track.ariaValueText = `${stageWord(state.status)}, ${percent}%`;
  }

  #moveBar(percent, durationMs) {
    this.#barAt = percent;
    this.#parts.bar.style.transitionDuration = `${durationMs}ms, 300ms, 300ms`;
    this.#parts.bar.style.transform = `translateX(${percent - 100}%)`;
  }

  #name(name) {
    const [start, end] = nameParts(name);
    this.#parts.filename.replaceChildren(element("span", { class: "start" }, start), element("span", { class: "end" }, end));
    this.#parts.filename.title = name;
    this.#parts.track.ariaLabel = name;
  }

  #tell(stage, message) {
    this.#parts.stage.textContent = stage;
    this.#parts.message.textContent = message;
  }

  #warn(warnings) {
    this.#parts.warnings.hidden = !warnings.length;
    this.#parts.warningCount.textContent = counted(warnings.length, "warning");
    this.#parts.warningList.replaceChildren(...warnings.map(warningItem));
  }

  #announce(state) {
    const words = [stageWord(state.status), isFinal(state) ? happening(state) : ""].filter(Boolean).join(": ");
    this.#parts.announcement.textContent = `${displayName(state.filename)}: ${words}`;
  }

  #draw(icon) {
    if (icon === this.#icon) return;
    this.#icon = icon;
    this.#parts.icon.replaceChildren(drawing(ICONS[icon]));
  }
}

function tookWords(state) {
  const taken = timeTaken(state);
  return state.status === "COMPLETED" && taken ? `in ${taken}` : "";
}

function percentWords(state, percent) {
  return ["PENDING", "FAILED", "CANCELLED"].includes(state.status) ? "" : `${percent}%`;
}

function warningItem(warning) {
  const item = element("li", {}, warning.message);
  const pages = pageRuns(warning.pages ?? []);
  if (pages) item.append(element("span", { class: "pages" }, ` (${pages})`));
  return item;
}

function group(name, ...children) {
  const box = element("div", { class: name });
  box.append(...children);
  return box;
}

function element(tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

function drawing(shapes) {
  const make = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const svg = make("svg", { viewBox: "0 0 20 20", fill: "none", stroke: "currentColor", "stroke-width": 2 });
  svg.append(...shapes.map(([tag, attributes]) => make(tag, attributes)));
  return svg;
}
