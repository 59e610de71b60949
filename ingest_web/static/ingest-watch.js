/**
 * What this page watches: who wants to hear of which document, and what they have heard. Owns what is old news, and what
 * the page as a whole shows of its connection; where the news come from is a matter of `ingest-tabs.js`.
 */

import { Alarm } from "./ingest-alarm.js";
import { isFinal, isNewer } from "./ingest-state.js";
import { Tabs } from "./ingest-tabs.js";
import { expiry } from "./ingest-union.js";

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
 * @property {() => void} onRefused the server does not show it (any more), with the token there is
 * @property {(connection: Connection) => void} onConnection at once, and at each change
 */

/** Elements come and go in bursts; what they want is told once for all of a burst. */
const SETTLE_MS = 30;
/** So long until a token is asked for again, after the attempt failed; at most twice as long. */
const AGAIN_MS = 3_000;

/**
 * Makes a token for a document. Rejects with an error whose `status` is 404 when there is no such document, and whose
 * `again` is true when it may be had later.
 *
 * @typedef {(id: string) => Promise<string>} Provider
 */

/**
 * Watches a document until the returned function is called. What is known already is told at once.
 *
 * @param {string} server the address under which the service answers
 * @param {string} id
 * @param {Watcher} watcher
 * @param {string} [token] what opens the document's stream, where keys are asked for
 * @returns {() => void}
 */
export function watch(server, id, watcher, token = "") {
  return watched(server).add(id, watcher, token);
}

/**
 * Has tokens made for the documents of a server that come without one, or whose token has expired; null: no more.
 *
 * @param {string} server
 * @param {Provider|null} provider
 */
export function provideTokens(server, provider) {
  watched(server).provider = provider;
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
  /** `locked`: a token is being made for it. @type {"locked"|"unchecked"|"live"|"final"|"unknown"|"refused"} */
  phase = "unchecked";
  token = "";
  /** Whether the token was made for it and has brought nothing yet: if it is refused, so would be the next. */
  isUntried = false;
  /** @type {State|null} */
  state = null;
  /** @type {Set<Watcher>} */
  watchers = new Set();

  /** @param {State} state */
  receive(state) {
    this.isUntried = false;
    const isNews = isNewer(this.state, state);
    if (isNews) this.state = state;
    this.phase = isFinal(this.state) ? "final" : "live";
    if (isNews) for (const watcher of this.watchers) watcher.onState(state);
  }

  disappear() {
    this.phase = "unknown";
    for (const watcher of this.watchers) watcher.onUnknown();
  }

  refuse() {
    this.phase = "refused";
    for (const watcher of this.watchers) watcher.onRefused();
  }

  /** @param {string} token */
  arm(token) {
    if (!token || (this.token && expiry(token) <= expiry(this.token))) return;
    this.token = token;
    if (this.phase === "refused" || this.phase === "locked") this.phase = "unchecked";
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
  /** @type {Provider|null} */
  provider = null;

  constructor(base) {
    this.#tabs = new Tabs(base, {
      onState: (state) => this.#change(state.id, (topic) => topic.receive(state)),
      onUnknown: (id) => this.#change(id, (topic) => topic.disappear()),
      onRefused: ({ id, token }) => this.#change(id, (topic) => topic.token === token && this.#renew(id, topic)),
      onConnection: (connection) => {
        this.#shared = connection;
        this.#tell();
      },
    });
  }

  add(id, watcher, token) {
    if (!this.#topics.has(id)) this.#topics.set(id, new Topic());
    const topic = this.#topics.get(id);
    topic.watchers.add(watcher);
    topic.arm(token);
    watcher.onConnection(this.#connection);
    if (topic.state) watcher.onState(topic.state);
    if (topic.phase === "unknown") watcher.onUnknown();
    if (topic.phase === "refused") watcher.onRefused();
    if (topic.phase === "unchecked" && !topic.token && this.provider) this.#unlock(id, topic);
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

  #renew(id, topic) {
    if (this.provider && !topic.isUntried) this.#unlock(id, topic);
    else topic.refuse();
  }

  async #unlock(id, topic) {
    topic.phase = "locked";
    try {
      topic.token = await this.provider(id);
      topic.isUntried = true;
      if (topic.phase === "locked") topic.phase = "unchecked";
    } catch (problem) {
      if (problem.status === 404) topic.disappear();
      else if (problem.again) setTimeout(() => this.#unlockAgain(id, topic), AGAIN_MS * (1 + Math.random()));
      else topic.refuse();
    }
    this.#alarm.within(SETTLE_MS);
  }

  #unlockAgain(id, topic) {
    if (topic.phase === "locked" && topic.watchers.size && this.provider) this.#unlock(id, topic);
  }

  #settle() {
    for (const [id, topic] of this.#topics) if (!topic.watchers.size) this.#topics.delete(id);
    const [unchecked, live] = [this.#idsIn("unchecked"), this.#idsIn("live")];
    const tokens = [...unchecked, ...live].map((id) => [id, this.#topics.get(id).token]).filter(([, token]) => token);
    this.#tabs.watch({ unchecked, live, tokens: new Map(tokens) });
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
