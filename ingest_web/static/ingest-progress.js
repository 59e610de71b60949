/**
 * `<ingest-progress>`: a live progress bar for one document, for any page.
 *
 *     <script type="module" src="https://ingest.example.com/static/ingest-progress.js"></script>
 *     <ingest-progress document-id="01j..." server="https://ingest.example.com"></ingest-progress>
 *
 * Attributes  `document-id`; `server`, by default the page's own origin. Both are properties too (`documentId`).
 * Properties  `state`: the last state, or null. `refresh()` asks again, as after a retry.
 * Reflected   `status`: as in the state, or `UNKNOWN`. `connection`: `idle`, `connecting`, `open` or `lost`.
 * Events      `ingest-state`: each new state. `ingest-finished`: the last one, also for a document that was finished
 *             before. `ingest-unknown`: no such document. All bubble, cross shadow roots, and carry the state (or the
 *             id) as `detail`.
 * Slots       `actions`: below the bar, and `corner`: beside the percentage, for links and buttons of your own.
 * Styling     see `ingest-progress-style.js`; parts: base icon filename percent track bar stage message eta
 *             reconnecting warnings.
 */

import { isFinal } from "./ingest-state.js";
import { refresh, watch } from "./ingest-watch.js";
import { style } from "./ingest-progress-style.js";
import { View } from "./ingest-progress-view.js";

/** @typedef {import("./ingest-state.js").State} State */

export class IngestProgress extends HTMLElement {
  static observedAttributes = ["document-id", "server"];

  #view;
  /** @type {State|null} */
  #state = null;
  #unwatch = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [style];
    this.#view = new View(root);
  }

  /** The last state that the server told, or null. */
  get state() {
    return this.#state;
  }

  get documentId() {
    return this.getAttribute("document-id") ?? "";
  }

  set documentId(id) {
    this.setAttribute("document-id", id);
  }

  get server() {
    return this.getAttribute("server") ?? "/";
  }

  set server(address) {
    this.setAttribute("server", address);
  }

  /** Asks the server again, also for a document that was finished. */
  refresh() {
    refresh(this.server, this.documentId);
  }

  connectedCallback() {
    this.#adoptProperty("server");
    this.#adoptProperty("documentId");
    this.#watch();
  }

  disconnectedCallback() {
    this.#stop();
  }

  attributeChangedCallback(_name, before, after) {
    if (before === after) return;
    this.#stop();
    this.#forget();
    if (this.isConnected) this.#watch();
  }

  #watch() {
    if (this.#unwatch || !this.documentId) return;
    this.#unwatch = watch(this.server, this.documentId, {
      onState: (state) => this.#receive(state),
      onUnknown: () => this.#miss(),
      onConnection: (connection) => this.#connect(connection),
    });
  }

  #stop() {
    this.#unwatch?.();
    this.#unwatch = null;
  }

  #forget() {
    this.#state = null;
    this.removeAttribute("status");
    this.removeAttribute("connection");
    this.#view.clear();
  }

  #receive(state) {
    if (this.#state?.seq === state.seq) return; // told again after the element was moved in the page
    this.#state = state;
    this.setAttribute("status", state.status);
    this.#view.show(state, performance.now());
    if (isFinal(state)) this.#connect("idle");
    this.#emit("ingest-state", state);
    if (isFinal(state)) this.#emit("ingest-finished", state);
  }

  #miss() {
    this.setAttribute("status", "UNKNOWN");
    this.#view.showUnknown();
    this.#emit("ingest-unknown", { id: this.documentId });
  }

  /** A document that is finished needs no connection, whatever happens to that of the others. */
  #connect(connection) {
    const mine = this.#state && isFinal(this.#state) ? "idle" : connection;
    this.setAttribute("connection", mine);
    this.#view.showConnection(mine === "lost");
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  /** Frameworks may set a property before this module has defined the element; then it hides the accessor. */
  #adoptProperty(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete this[name];
    this[name] = value;
  }
}

// A page may load the module twice, from two addresses.
if (!customElements.get("ingest-progress")) customElements.define("ingest-progress", IngestProgress);
