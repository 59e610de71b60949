/**
 * The connection to the service: one `EventSource` per server, for whatever this tab, or all tabs of the browser, want
 * to know. Owns: which documents are on the stream, when it is opened again, and how the connection is. Knows nothing of
 * tabs, of who watches, or of how a state is shown.
 *
 * Each wanted document is a topic, and a topic is in one of five phases:
 *
 *     unchecked ───── a glance ─────▶ live ──final event──▶ final
 *       ▲ ▲ ├────404────▶ unknown       │
 *       │ │ └────401────▶ refused       │
 *       │ │                  │          │
 *       │ └─ another token ──┘          │
 *       └────── the stream gave up ─────┘
 *
 * The check comes first because one unknown id would fail the stream of all: an `EventSource` sees no status code, and
 * gives up for good on any answer but 200. Live topics are on the stream. It needs no history: each stream opens with
 * the states as they stand, and whoever watches drops what is not newer (`seq`).
 */

import { Alarm } from "./ingest-alarm.js";
import { glance, streamPath } from "./ingest-glance.js";
import { isFinal, isNewer } from "./ingest-state.js";
import { sameIds, spread } from "./ingest-union.js";

/** @typedef {import("./ingest-state.js").State} State */
/** @typedef {import("./ingest-union.js").Wants} Wants */

/**
 * `connecting`: on the way for the first time. `open`: live; a stream that takes the place of another is not told of.
 * `lost`: broken, being mended.
 *
 * @typedef {"connecting"|"open"|"lost"} Connection
 */

/**
 * @typedef {object} Listener
 * @property {(state: State) => void} onState in order for each document; the same one may come again
 * @property {(id: string) => void} onUnknown the server has no such document (any more)
 * @property {(refusal: {id: string, token: string}) => void} onRefused the server does not show it for this token
 * @property {(connection: Connection) => void} onConnection at each change
 */

/** Wants come and go in bursts; one stream is opened for all of a burst. */
const SETTLE_MS = 60;
/** A stream with further documents takes the place of the one before, but not more often than this. */
const REPLACE_MS = 1_000;
/** What the server puts on one stream. */
const IDS_PER_STREAM = 500;
/** Tokens are longer than ids, and must fit into one address, too. */
const TOKENS_PER_STREAM = 150;
/** Streams per server, for those who watch more. Leaves connections free for other requests. */
const STREAMS = 3;
const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_LONGEST_MS = 30_000;
/** A stream that took this long to open is lost. */
const OPENING_MS = 10_000;
/** A break that is mended sooner is not told. A page that is being left looks broken too, just before it is gone. */
const LOST_MS = 500;
/** Heartbeats are comments, which scripts can't see. So a stream in which nothing happens is replaced now and then. */
const QUIET_MS = 60_000;
/** Whoever has heard something so lately has a connection. */
const FRESH_MS = 5_000;

class Topic {
  /** @type {State|null} */
  state = null;
  /** What opens it; "" when it is open to everybody. */
  token = "";

  /** @param {"unchecked"|"live"|"final"|"unknown"|"refused"} phase */
  constructor(phase) {
    this.phase = phase;
  }

  /** @param {string} token */
  arm(token) {
    if (token !== this.token && this.phase === "refused") this.phase = "unchecked";
    this.token = token;
  }
}

/** One open stream, with the documents whose final event it has yet to bring. */
class Carrier {
  /**
   * @param {URL} address
   * @param {string[]} ids
   */
  constructor(address, ids) {
    this.source = new EventSource(address);
    this.ids = new Set(ids);
  }

  carries(ids) {
    return sameIds([...this.ids], ids);
  }
}

/** All that is wanted of one server. */
export class ServerStream {
  #base;
  /** @type {Listener} */
  #listener;
  /** @type {Map<string, Topic>} */
  #topics = new Map();
  /** @type {Carrier[]} */
  #carriers = [];
  /** @type {Connection} */
  #connection;
  #broken = false;
  #failures = 0;
  #settling = false;
  #replacedMs = -Infinity;
  #heardMs = -Infinity;
  #alarm = new Alarm(() => this.#settle());
  #quiet = new Alarm(() => this.#soundsDead());
  #loss = new Alarm(() => this.#lose());
  #closing = new AbortController();

  /**
   * @param {string} base the address under which the service answers, with a slash at its end
   * @param {Listener} listener
   * @param {Connection} connection how the connection is that this one takes over from
   */
  constructor(base, listener, connection) {
    this.#base = base;
    this.#listener = listener;
    this.#connection = connection;
    this.#broken = connection === "lost";
    const { signal } = this.#closing;
    window.addEventListener("online", () => this.#renew(), { signal });
    window.addEventListener("offline", () => this.#breaks(), { signal });
  }

  get connection() {
    return this.#connection;
  }

  /**
   * Carries these documents, and no others, until told otherwise.
   *
   * @param {Wants} wants
   */
  want({ unchecked, live, tokens }) {
    const wanted = new Set([...unchecked, ...live]);
    for (const id of this.#topics.keys()) if (!wanted.has(id)) this.#topics.delete(id);
    for (const [phase, ids] of Object.entries({ unchecked, live })) {
      for (const id of ids) if (!this.#topics.has(id)) this.#topics.set(id, new Topic(phase));
    }
    for (const [id, topic] of this.#topics) topic.arm(tokens.get(id) ?? "");
    this.#alarm.within(SETTLE_MS);
  }

  /**
   * Asks for a document again: after a retry, its state is not the last one any more.
   *
   * @param {string} id
   */
  check(id) {
    const topic = this.#topics.get(id);
    if (topic) topic.phase = "unchecked";
    this.#alarm.within(SETTLE_MS);
  }

  /**
   * What is known of some documents, for somebody who watches them from now on.
   *
   * @param {string[]} ids
   * @returns {{states: State[], unknown: string[], refused: {id: string, token: string}[]}}
   */
  known(ids) {
    const topics = ids.map((id) => [id, this.#topics.get(id)]).filter(([, topic]) => topic);
    return {
      states: topics.filter(([, { phase, state }]) => phase !== "unchecked" && state).map(([, { state }]) => state),
      unknown: topics.filter(([, { phase }]) => phase === "unknown").map(([id]) => id),
      refused: topics.filter(([, { phase }]) => phase === "refused").map(([id, { token }]) => ({ id, token })),
    };
  }

  /** Reads everything anew, for somebody who may have slept through the end of the connection. */
  renew() {
    if (performance.now() - this.#heardMs > FRESH_MS) this.#renew();
  }

  /** For good. */
  close() {
    this.#closing.abort();
    this.#closeAll();
    this.#topics.clear();
    this.#alarm.off();
    this.#loss.off();
  }

  /** Checks what is new, and makes the streams carry what is live: no less, and nothing that nobody wants. */
  async #settle() {
    if (this.#settling) {
      this.#alarm.within(SETTLE_MS);
      return;
    }
    this.#settling = true;
    const failed = await this.#checkNew().catch((error) => error);
    this.#settling = false;
    if (this.#closing.signal.aborted) return;
    if (failed) this.#failed();
    else this.#mendIfOpen();
    this.#align();
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
    const token = this.#topics.get(id)?.token ?? "";
    const found = await glance(this.#base, id, token);
    if (found === "unknown") this.#disappear(id);
    else if (found === "refused") this.#refuse(id, token);
    else this.#take(id, found);
  }

  #take(id, state) {
    const topic = this.#topics.get(id);
    if (!topic) return;
    topic.phase = isFinal(state) ? "final" : "live";
    if (isNewer(topic.state, state)) topic.state = state;
    this.#listener.onState(state);
  }

  #disappear(id) {
    const topic = this.#topics.get(id);
    if (!topic) return;
    topic.phase = "unknown";
    this.#listener.onUnknown(id);
  }

  #refuse(id, token) {
    const topic = this.#topics.get(id);
    if (topic?.token !== token) return; // it has another one by now
    topic.phase = "refused";
    this.#listener.onRefused({ id, token });
  }

  #align() {
    const live = this.#idsIn("live");
    const most = live.some((id) => this.#topics.get(id).token) ? TOKENS_PER_STREAM : IDS_PER_STREAM;
    const carried = this.#carriers.map(({ ids }) => [...ids]);
    const streams = spread(carried, live.slice(0, most * STREAMS), most);
    const replaces = this.#carriers.some((carrier, n) => streams[n].length && !carrier.carries(streams[n]));
    const earlyMs = this.#replacedMs + REPLACE_MS - performance.now();
    if (replaces && earlyMs > 0) this.#alarm.within(earlyMs);
    else this.#carry(streams);
    this.#tell();
  }

  #carry(streams) {
    const before = this.#carriers;
    const isKept = (ids, n) => ids.length && before[n]?.carries(ids);
    const carriers = streams.map((ids, n) => (isKept(ids, n) ? before[n] : this.#replace(before[n], ids)));
    this.#carriers = carriers.filter((carrier) => carrier !== null);
    if (!this.#carriers.length) this.#quiet.off();
  }

  #replace(before, ids) {
    before?.source.close();
    if (!ids.length) return null;
    if (before) this.#replacedMs = performance.now();
    return this.#open(ids);
  }

  #open(ids) {
    const tokens = new Map(ids.map((id) => [id, this.#topics.get(id).token]).filter(([, token]) => token));
    const carrier = new Carrier(new URL(streamPath(ids, tokens), this.#base), ids);
    carrier.source.addEventListener("open", () => this.#opened());
    carrier.source.addEventListener("progress", (event) => this.#receive(carrier, JSON.parse(event.data)));
    carrier.source.addEventListener("error", () => this.#erred(carrier));
    this.#quiet.after(OPENING_MS);
    return carrier;
  }

  #closeAll() {
    for (const { source } of this.#carriers) source.close();
    this.#carriers = [];
    this.#quiet.off();
  }

  #opened() {
    this.#mendIfOpen();
    this.#listen();
    this.#tell();
  }

  #mendIfOpen() {
    if (this.#allOpen()) this.#mend();
  }

  #allOpen() {
    return this.#carriers.length > 0 && this.#carriers.every(({ source }) => source.readyState === EventSource.OPEN);
  }

  #receive(carrier, state) {
    this.#failures = 0;
    this.#take(state.id, state);
    this.#listen();
    if (!isFinal(state)) return;
    carrier.ids.delete(state.id);
    if (carrier.ids.size) this.#alarm.within(SETTLE_MS); // there may be others that wait for its place
    else this.#align();
  }

  /** Jitter, so that the viewers of a server that stalls don't all come back in the same second. */
  #listen() {
    this.#heardMs = performance.now();
    this.#quiet.after(QUIET_MS * (1 + Math.random() / 2));
  }

  /** The browser reconnects by itself after a lost connection, at the pace that the server set, but never once CLOSED. */
  #erred(carrier) {
    if (carrier.source.readyState === EventSource.CLOSED) this.#giveUp(carrier);
    else this.#listen();
    this.#breaks();
  }

  #giveUp(carrier) {
    this.#carriers = this.#carriers.filter((other) => other !== carrier);
    for (const id of carrier.ids) if (this.#topics.has(id)) this.#topics.get(id).phase = "unchecked";
    this.#failed();
  }

  #failed() {
    const longest = Math.min(BACKOFF_FIRST_MS * 2 ** this.#failures, BACKOFF_LONGEST_MS);
    this.#failures += 1;
    if (!this.#allOpen()) this.#breaks();
    this.#alarm.within(longest * (0.5 + Math.random() / 2));
  }

  #breaks() {
    this.#heardMs = -Infinity;
    this.#loss.within(LOST_MS);
  }

  #lose() {
    this.#broken = true;
    this.#tell();
  }

  #mend() {
    this.#broken = false;
    this.#loss.off();
  }

  #soundsDead() {
    if (this.#carriers.some(({ source }) => source.readyState === EventSource.CONNECTING)) this.#broken = true;
    this.#renew();
  }

  /** A fresh stream opens with the states as they stand: that is a re-read, and it replaces a dead connection. */
  #renew() {
    this.#alarm.within(0);
    this.#carriers = this.#carriers.map((carrier) => this.#replace(carrier, [...carrier.ids]));
    this.#tell();
  }

  #tell() {
    const connection = this.#currentConnection();
    if (connection === this.#connection) return;
    this.#connection = connection;
    this.#listener.onConnection(connection);
  }

  /** @returns {Connection} */
  #currentConnection() {
    if (!this.#idsIn("live").length && !this.#idsIn("unchecked").length) {
      this.#mend();
      return "connecting";
    }
    if (this.#broken) return "lost";
    return this.#allOpen() || this.#connection === "open" ? "open" : "connecting";
  }

  #idsIn(phase) {
    return [...this.#topics].filter(([, topic]) => topic.phase === phase).map(([id]) => id);
  }
}
