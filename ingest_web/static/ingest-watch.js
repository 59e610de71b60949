/**
 * What this page watches: who wants to hear of which document, and what they have heard. Owns what is old news, and what
 * the page as a whole shows of its connection; where the news come from is a matter of `ingest-tabs.js`.
 */

import { Alarm } from "./ingest-alarm.js";
import { isFinal, isNewer } from "./ingest-state.js";
import { Tabs } from "./ingest-tabs.js";

/** @typedef {import("./ingest-state.js").State} State */

/**
 * `idle`: nothing to watch. `connecting`: on the way for the first time. `open`: live. `lost`: broken, being mended.
 *
 * @typedef {"idle"|"connecting"|"open"|"lost"} Connection
 */

/**
 * @typedef {object} Watcher
 * @property {(state: State) => void} onState each state that is newer than the last
 * @property {() => void} onUnknown the server has no such document (any more)
 * @property {(connection: Connection) => void} onConnection at once, and at each change
 */

/** Elements come and go in bursts; what they want is told once for all of a burst. */
const SETTLE_MS = 30;

/**
 * Watches a document until the returned function is called. What is known already is told at once.
 *
 * @param {string} server the address under which the service answers
 * @param {string} id
 * @param {Watcher} watcher
 * @returns {() => void}
 */
export function watch(server, id, watcher) {
  return watched(server).add(id, watcher);
}

/**
 * Asks for a document again: after a retry, its state is not the last one any more.
 *
 * @param {string} server
 * @param {string} id
 */
export function refresh(server, id) {
  watched(server).refresh(id);
}

/**
 * Tells how the connection to a server is, at once and at each change, until the returned function is called.
 *
 * @param {string} server
 * @param {(connection: Connection) => void} listener
 * @returns {() => void}
 */
export function watchConnection(server, listener) {
  return watched(server).observe(listener);
}

/** @type {Map<string, Watched>} */
const servers = new Map();

function watched(server) {
  const base = new URL(server.endsWith("/") ? server : `${server}/`, document.baseURI).href;
  if (!servers.has(base)) servers.set(base, new Watched(base));
  return servers.get(base);
}

class Topic {
  /** @type {"unchecked"|"live"|"final"|"unknown"} */
  phase = "unchecked";
  /** @type {State|null} */
  state = null;
  /** @type {Set<Watcher>} */
  watchers = new Set();

  /** @param {State} state */
  receive(state) {
    const isNews = isNewer(this.state, state);
    if (isNews) this.state = state;
    this.phase = isFinal(this.state) ? "final" : "live";
    if (isNews) for (const watcher of this.watchers) watcher.onState(state);
  }

  disappear() {
    this.phase = "unknown";
    for (const watcher of this.watchers) watcher.onUnknown();
  }
}

/** All that is watched at one server. */
class Watched {
  /** @type {Map<string, Topic>} */
  #topics = new Map();
  #observers = new Set();
  #tabs;
  /** How the connection is that the tabs share. */
  #shared = "connecting";
  /** @type {Connection} */
  #connection = "idle";
  #alarm = new Alarm(() => this.#settle());

  constructor(base) {
    this.#tabs = new Tabs(base, {
      onState: (state) => this.#change(state.id, (topic) => topic.receive(state)),
      onUnknown: (id) => this.#change(id, (topic) => topic.disappear()),
      onConnection: (connection) => {
        this.#shared = connection;
        this.#tell();
      },
    });
  }

  add(id, watcher) {
    if (!this.#topics.has(id)) this.#topics.set(id, new Topic());
    const topic = this.#topics.get(id);
    topic.watchers.add(watcher);
    watcher.onConnection(this.#connection);
    if (topic.state) watcher.onState(topic.state);
    if (topic.phase === "unknown") watcher.onUnknown();
    this.#alarm.within(SETTLE_MS);
    return () => {
      topic.watchers.delete(watcher);
      this.#alarm.within(SETTLE_MS);
    };
  }

  refresh(id) {
    const topic = this.#topics.get(id);
    if (topic) topic.phase = "unchecked";
    this.#tabs.check(id);
    this.#alarm.within(SETTLE_MS);
  }

  observe(listener) {
    this.#observers.add(listener);
    listener(this.#connection);
    return () => this.#observers.delete(listener);
  }

  #change(id, apply) {
    const topic = this.#topics.get(id);
    if (!topic) return;
    const { phase } = topic;
    apply(topic);
    if (topic.phase !== phase) this.#alarm.within(SETTLE_MS);
  }

  #settle() {
    for (const [id, topic] of this.#topics) if (!topic.watchers.size) this.#topics.delete(id);
    this.#tabs.watch({ unchecked: this.#idsIn("unchecked"), live: this.#idsIn("live") });
    this.#tell();
  }

  #tell() {
    const isIdle = !this.#idsIn("live").length && !this.#idsIn("unchecked").length;
    const connection = isIdle ? "idle" : this.#shared;
    if (connection === this.#connection) return;
    this.#connection = connection;
    for (const observer of this.#observers) observer(connection);
    for (const topic of this.#topics.values()) for (const watcher of topic.watchers) watcher.onConnection(connection);
  }

  #idsIn(phase) {
    return [...this.#topics].filter(([, topic]) => topic.phase === phase && topic.watchers.size).map(([id]) => id);
  }
}
