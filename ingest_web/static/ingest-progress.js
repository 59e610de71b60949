/**
 * `<ingest-progress>`: a live progress bar for one document, for any page.
 *
 *     <script type="module" src="https://ingest.example.com/static/ingest-progress.js"></script>
 *     <ingest-progress document-id="01j..." server="https://ingest.example.com"></ingest-progress>
 *
 *     <ingest-progress stream-url="https://ingest.example.com/status/stream/01j...?token=..."></ingest-progress>
 *
 * Attributes  `document-id`; `server`, by default the page's own origin; `token`, where the service asks for keys. Or
 *             `stream-url`, as the service answers an upload or makes a link: it says all three. Each is a property too
 *             (`documentId`, `streamUrl`).
 * Properties  `state`: the last state, or null. `refresh()` asks again, as after a retry.
 * Reflected   `status`: as in the state, or `UNKNOWN`. `connection`: `idle`, `connecting`, `open`, `lost` or `refused`.
 * Events      `ingest-state`: each new state. `ingest-finished`: the last one, also for a document that was finished
 *             before. `ingest-unknown`: no such document. `ingest-refused`: the token has expired, or its key is
 *             revoked; give it another `token` or `stream-url`, and it goes on. All bubble, cross shadow roots, and
 *             carry the state (or the id) as `detail`.
 * Slots       `actions`: below the bar, and `corner`: beside the percentage, for links and buttons of your own.
 * Styling     see `ingest-progress-style.js`; parts: base icon filename percent track bar stage message eta
 *             reconnecting warnings.
 */

import { parseStreamUrl } from "./ingest-address.js";
import { isFinal } from "./ingest-state.js";
import { refresh, watch } from "./ingest-watch.js";
import { style } from "./ingest-progress-style.js";
import { View } from "./ingest-progress-view.js";

/** @typedef {import("./ingest-state.js").State} State */

export class IngestProgress extends HTMLElement {
  static observedAttributes = ["document-id", "server", "token", "stream-url"];

  #view;
  /** @type {State|null} */
  #state = null;
  #unwatch = null;
  /** What is shown, of which service. */
  #shown = "";
  #refused = false;

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
    return this.#target().id;
  }

  set documentId(id) {
    this.setAttribute("document-id", id);
  }

  get server() {
    return this.#target().server;
  }

  set server(address) {
    this.setAttribute("server", address);
  }

  get token() {
    return this.#target().token;
  }

  set token(token) {
    this.setAttribute("token", token);
  }

  get streamUrl() {
    return this.getAttribute("stream-url") ?? "";
  }

  set streamUrl(address) {
    this.setAttribute("stream-url", address);
  }

  /** Asks the server again, also for a document that was finished. */
  refresh() {
    refresh(this.server, this.documentId);
  }

  connectedCallback() {
    this.#adoptProperty("server");
    this.#adoptProperty("documentId");
    this.#adoptProperty("token");
    this.#adoptProperty("streamUrl");
    this.#watch();
  }

  disconnectedCallback() {
    this.#stop();
  }

  attributeChangedCallback(_name, before, after) {
    if (before === after) return;
    this.#stop();
    const { server, id } = this.#target();
    if (this.#shown === `${id} ${server}`) this.#resume();
    else this.#forget();
    if (this.isConnected) this.#watch();
  }

  /** @returns {import("./ingest-address.js").Target} */
  #target() {
    const server = this.getAttribute("server");
    const told = parseStreamUrl(this.streamUrl, server, document.baseURI);
    const id = this.getAttribute("document-id") ?? told?.id ?? "";
    return { server: server ?? told?.server ?? "/", id, token: this.getAttribute("token") ?? told?.token ?? "" };
  }

  #watch() {
    const { server, id, token } = this.#target();
    if (this.#unwatch || !id) return;
    this.#shown = `${id} ${server}`;
    const watcher = {
      onState: (state) => this.#receive(state),
      onUnknown: () => this.#miss(),
      onRefused: () => this.#refuse(),
      onConnection: (connection) => this.#connect(connection),
    };
    this.#unwatch = watch(server, id, watcher, token);
  }

  #stop() {
    this.#unwatch?.();
    this.#unwatch = null;
  }

  #forget() {
    this.#state = null;
    this.#refused = false;
    this.removeAttribute("status");
    this.removeAttribute("connection");
    this.#view.clear();
  }

  /** There is another token. */
  #resume() {
    if (this.#refused && this.#state) this.#view.show(this.#state, performance.now());
    this.#refused = false;
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

  #refuse() {
    if (this.#state && isFinal(this.#state)) return; // there is nothing more to see
    this.#refused = true;
    this.setAttribute("connection", "refused");
    this.#view.showConnection(false);
    this.#view.showRefused();
    this.#emit("ingest-refused", { id: this.documentId });
  }

  /** A document that is finished needs no connection, whatever happens to that of the others. */
  #connect(connection) {
    if (this.#refused) return;
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
