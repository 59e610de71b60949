/**
 * The connection to the service. However many elements watch, a page holds one `EventSource` per server, because a
 * browser opens only six connections per host over HTTP/1.1. Owns: which documents are on the stream, when it is opened
 * again, and what is old news. Knows nothing of how a state is shown.
 *
 * Each watched document is a topic, and a topic is in one of four phases:
 *
 *     unchecked ──GET /status/{id}──▶ live ──final event──▶ final
 *         ▲   └────404────▶ unknown     │
 *         └──── the stream gave up ─────┘
 *
 * The check comes first because one unknown id would fail the stream of all: an `EventSource` sees no status code, and
 * gives up for good on any answer but 200. Live topics are on the stream. It needs no history: each stream opens with
 * the states as they stand, and what is not newer (`seq`) is dropped.
 */

import { isFinal, isNewer } from "./ingest-state.js";

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

/** Elements come and go in bursts; one stream is opened for all of a burst. */
const SETTLE_MS = 60;
/** Ids per stream: a request line has its limits (about 4,000 bytes at gunicorn). */
const IDS_PER_STREAM = 100;
/** Streams per server, for those who watch hundreds. Leaves connections free for other requests. */
const STREAMS = 3;
const CHECK_TIMEOUT_MS = 15_000;
const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_LONGEST_MS = 30_000;
/** A stream that took this long to open is lost. */
const OPENING_MS = 10_000;
/** Heartbeats are comments, which scripts can't see. So a stream in which nothing happens is replaced now and then. */
const QUIET_MS = 60_000;
/** A page that was hidden for so long may have slept through the end of its connection. */
const HIDDEN_MS = 30_000;

/**
 * Watches a document until the returned function is called. What is known already is told at once.
 *
 * @param {string} server the address under which the service answers
 * @param {string} id
 * @param {Watcher} watcher
 * @returns {() => void}
 */
export function watch(server, id, watcher) {
  return streamTo(server).add(id, watcher);
}

/**
 * Asks for a document again: after a retry, its state is not the last one any more.
 *
 * @param {string} server
 * @param {string} id
 */
export function refresh(server, id) {
  streamTo(server).check(id);
}

/**
 * Tells how the connection to a server is, at once and at each change, until the returned function is called.
 *
 * @param {string} server
 * @param {(connection: Connection) => void} listener
 * @returns {() => void}
 */
export function watchConnection(server, listener) {
  return streamTo(server).observe(listener);
}

/** @type {Map<string, ServerStream>} */
const streams = new Map();

function streamTo(server) {
  const base = new URL(server.endsWith("/") ? server : `${server}/`, document.baseURI).href;
  if (!streams.has(base)) streams.set(base, new ServerStream(base));
  return streams.get(base);
}

class Topic {
  phase = "unchecked";
  /** @type {State|null} */
  state = null;
  /** @type {Set<Watcher>} */
  watchers = new Set();

  /** @param {State} state */
  receive(state) {
    this.phase = isFinal(state) ? "final" : "live";
    if (!isNewer(this.state, state)) return;
    this.state = state;
    for (const watcher of this.watchers) watcher.onState(state);
  }

  disappear() {
    this.phase = "unknown";
    for (const watcher of this.watchers) watcher.onUnknown();
  }
}

/** All that is watched at one server. */
class ServerStream {
  #base;
  /** @type {Map<string, Topic>} */
  #topics = new Map();
  /** @type {EventSource[]} */
  #sources = [];
  /** The ids on the open streams. */
  #onStream = new Set();
  #observers = new Set();
  /** @type {Connection} */
  #connection = "idle";
  #broken = false;
  #failures = 0;
  #settling = false;
  #alarm = new Alarm(() => this.#settle());
  #quiet = new Alarm(() => this.#soundsDead());

  constructor(base) {
    this.#base = base;
    let hiddenSince = null;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) hiddenSince = performance.now();
      else if (hiddenSince !== null && performance.now() - hiddenSince > HIDDEN_MS) this.#renew();
    });
    window.addEventListener("pageshow", (event) => event.persisted && this.#renew());
    window.addEventListener("online", () => this.#renew());
    window.addEventListener("offline", () => this.#breaks());
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

  check(id) {
    const topic = this.#topics.get(id);
    if (topic) topic.phase = "unchecked";
    this.#alarm.within(SETTLE_MS);
  }

  observe(listener) {
    this.#observers.add(listener);
    listener(this.#connection);
    return () => this.#observers.delete(listener);
  }

  /** Checks what is new, and makes the stream carry what is live: no less, and nothing that nobody watches. */
  async #settle() {
    if (this.#settling) {
      this.#alarm.within(SETTLE_MS);
      return;
    }
    this.#settling = true;
    this.#forgetUnwatched();
    try {
      await this.#checkNew();
      this.#mendIfOpen();
    } catch {
      this.#failed();
    } finally {
      this.#settling = false;
    }
    this.#align();
  }

  #forgetUnwatched() {
    for (const [id, topic] of this.#topics) if (!topic.watchers.size) this.#topics.delete(id);
  }

  /** The first alone: while the service is away, that is one request in vain and not a hundred. */
  async #checkNew() {
    const [first, ...rest] = this.#idsIn("unchecked");
    if (first === undefined) return;
    await this.#checkOne(first).catch((error) => {
      this.#putLast(first); // the fault may be with this one: next time, another goes first
      throw error;
    });
    await Promise.all(rest.map((id) => this.#checkOne(id)));
  }

  #putLast(id) {
    const topic = this.#topics.get(id);
    if (this.#topics.delete(id)) this.#topics.set(id, topic);
  }

  async #checkOne(id) {
    const response = await fetch(new URL(`status/${encodeURIComponent(id)}`, this.#base), {
      headers: { Accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(CHECK_TIMEOUT_MS),
    });
    const body = await response.json(); // an error page of a proxy is not JSON: it says nothing about the document
    if (response.ok) this.#topics.get(id)?.receive(body);
    else if (response.status === 404 && body.code) this.#topics.get(id)?.disappear();
    else throw new Error(`status ${response.status}`);
  }

  #align() {
    const wanted = this.#idsIn("live").slice(0, IDS_PER_STREAM * STREAMS);
    const carried = [...this.#onStream].filter((id) => this.#topics.get(id)?.phase !== "final");
    const same = carried.length === wanted.length && wanted.every((id) => this.#onStream.has(id));
    if (!same || !wanted.length) this.#reopen(wanted);
    this.#tell();
  }

  #reopen(ids) {
    this.#close();
    this.#onStream = new Set(ids);
    for (let start = 0; start < ids.length; start += IDS_PER_STREAM) {
      this.#sources.push(this.#open(ids.slice(start, start + IDS_PER_STREAM)));
    }
    if (ids.length) this.#quiet.after(OPENING_MS);
  }

  #open(ids) {
    const source = new EventSource(new URL(streamPath(ids), this.#base));
    source.addEventListener("open", () => this.#opened());
    source.addEventListener("progress", (event) => this.#receive(JSON.parse(event.data)));
    source.addEventListener("error", () => this.#erred(source));
    return source;
  }

  #close() {
    for (const source of this.#sources) source.close();
    this.#sources = [];
    this.#onStream.clear();
    this.#quiet.off();
  }

  #opened() {
    this.#mendIfOpen();
    this.#listen();
    this.#tell();
  }

  #mendIfOpen() {
    if (this.#allOpen()) this.#broken = false;
  }

  #allOpen() {
    return this.#sources.length > 0 && this.#sources.every((source) => source.readyState === EventSource.OPEN);
  }

  #receive(state) {
    this.#failures = 0;
    this.#topics.get(state.id)?.receive(state);
    if (this.#idsIn("live").length) this.#listen();
    else this.#align();
  }

  /** Jitter, so that the viewers of a server that stalls don't all come back in the same second. */
  #listen() {
    this.#quiet.after(QUIET_MS * (1 + Math.random() / 2));
  }

  /** The browser reconnects by itself after a lost connection, at the pace that the server set, but never once CLOSED. */
  #erred(source) {
    if (source.readyState === EventSource.CLOSED) this.#giveUp();
    else this.#listen();
    this.#breaks();
  }

  #giveUp() {
    this.#close();
    for (const id of this.#idsIn("live")) this.#topics.get(id).phase = "unchecked";
    this.#failed();
  }

  #failed() {
    const longest = Math.min(BACKOFF_FIRST_MS * 2 ** this.#failures, BACKOFF_LONGEST_MS);
    this.#failures += 1;
    this.#broken = !this.#allOpen();
    this.#alarm.within(longest * (0.5 + Math.random() / 2));
  }

  #breaks() {
    this.#broken = true;
    this.#tell();
  }

  #soundsDead() {
    if (this.#sources.some((source) => source.readyState === EventSource.CONNECTING)) this.#broken = true;
    this.#renew();
  }

  /** A fresh stream opens with the states as they stand: that is a re-read, and it replaces a dead connection. */
  #renew() {
    this.#alarm.within(0);
    if (this.#onStream.size) this.#reopen(this.#idsIn("live").filter((id) => this.#onStream.has(id)));
    this.#tell();
  }

  #tell() {
    const connection = this.#currentConnection();
    if (connection === this.#connection) return;
    this.#connection = connection;
    for (const observer of this.#observers) observer(connection);
    for (const topic of this.#topics.values()) for (const watcher of topic.watchers) watcher.onConnection(connection);
  }

  /** @returns {Connection} */
  #currentConnection() {
    if (!this.#idsIn("live").length && !this.#idsIn("unchecked").length) {
      this.#broken = false;
      return "idle";
    }
    if (this.#broken) return "lost";
    return this.#allOpen() ? "open" : "connecting";
  }

  #idsIn(phase) {
    return [...this.#topics].filter(([, topic]) => topic.phase === phase && topic.watchers.size).map(([id]) => id);
  }
}

/** One timer. `within` only ever moves it nearer; `after` sets it anew. */
class Alarm {
  #ring;
  #timer = null;
  #dueMs = Infinity;

  constructor(ring) {
    this.#ring = ring;
  }

  within(ms) {
    if (performance.now() + ms < this.#dueMs) this.after(ms);
  }

  after(ms) {
    this.off();
    this.#dueMs = performance.now() + ms;
    this.#timer = setTimeout(() => {
      this.#dueMs = Infinity;
      this.#ring();
    }, ms);
  }

  off() {
    clearTimeout(this.#timer);
    this.#dueMs = Infinity;
  }
}

function streamPath(ids) {
  if (ids.length === 1) return `status/stream/${encodeURIComponent(ids[0])}`;
  return `status/stream?${new URLSearchParams(ids.map((id) => ["id", id]))}`;
}
