/**
 * The tabs of a browser share one connection to the service. One of them leads: it holds the stream for what all of them
 * want, and tells the others what it brings. Owns who leads, and what the tabs say to each other; knows nothing of who
 * watches in this tab.
 *
 * The leader holds a Web Lock for which all others queue. When its tab is closed, crashes or goes to sleep, the next in
 * the queue leads from that moment on. A leader that keeps the lock but has fallen silent (frozen, or busy for seconds)
 * is asked for a sign of life, and without one its lock is stolen. Each tab also holds a lock of its own, by which the
 * leader learns that it is gone. Timers would not do for signs of life: those of hidden tabs run late.
 *
 * What is said, on a BroadcastChannel, each with the `tab` that says it:
 *
 *     lead                                        I lead from now on: what do you want?
 *     tell   to, states, unknown, refused, connection
 *                                                 news, to one tab or to all (`to` is null); also a sign of life
 *     watch  wants                                all that this tab wants, instead of what it wanted before
 *     check  id                                   ask the server for this document again
 *     renew                                       read everything anew
 *     ask                                         are you there?
 *     leave                                       I want nothing any more
 *
 * Tokens are part of what is wanted: whoever leads opens one stream with those of all tabs. They are pages of one origin,
 * which could read each other's tokens anyway.
 *
 * States may come twice or late, from two that both think they lead: whoever watches drops what is not newer. Where a
 * browser has no Web Locks (a page that came over plain HTTP, but for localhost), each tab has a stream of its own.
 */

import { Alarm } from "./ingest-alarm.js";
import { Lock } from "./ingest-lock.js";
import { ServerStream } from "./ingest-stream.js";
import { NOTHING, isSame, union } from "./ingest-union.js";

/** @typedef {import("./ingest-stream.js").Listener} Listener */
/** @typedef {import("./ingest-union.js").Wants} Wants */

/** Part of all names: tabs that speak otherwise (of an earlier version, still open) share among themselves. */
const DIALECT = "ingest-live/2";
/** A leader that has said nothing for so long is asked whether it is there. */
const SILENCE_MS = 3_000;
/** So long it has to answer. */
const ANSWER_MS = 1_500;
/** A page that was hidden for so long may have slept through the end of its connection. */
const HIDDEN_MS = 30_000;

/** This tab among those that watch one server. */
export class Tabs {
  #base;
  #name;
  /** @type {Listener} */
  #listener;
  /** @type {Wants} */
  #wants = NOTHING;
  /** As the leader told it last. */
  #connection = "connecting";
  /** @type {BroadcastChannel|null} */
  #channel = null;
  /** What this tab is called; another name after each sleep. */
  #tab = "";
  /** Who leads, as far as this tab knows. */
  #leader = "";
  /** The lock that tells others that this tab is there. */
  #presence = null;
  /** The lock of the leader, held or waited for. */
  #lead = null;
  /** @type {ServerStream|null} While this tab leads, or is alone. */
  #stream = null;
  /** While it leads: what each tab wants, and the lock that tells that the tab is gone. */
  #followers = new Map();
  #asked = false;
  #silence = new Alarm(() => this.#doubt());

  /**
   * @param {string} base the address under which the service answers, with a slash at its end
   * @param {Listener} listener
   */
  constructor(base, listener) {
    this.#base = base;
    this.#name = `${DIALECT} ${base}`;
    this.#listener = listener;
    window.addEventListener("pagehide", () => this.#leave());
    window.addEventListener("pageshow", (event) => event.persisted && this.#enter());
    document.addEventListener("freeze", () => this.#leave());
    document.addEventListener("resume", () => this.#enter());
    this.#renewWhenShown();
    this.#enter();
  }

  /**
   * Tells the listener of these documents, until told otherwise.
   *
   * @param {Wants} wants
   */
  watch(wants) {
    if (isSame(wants, this.#wants)) return;
    this.#wants = wants;
    this.#announce();
  }

  /**
   * Asks the server for a document again.
   *
   * @param {string} id
   */
  check(id) {
    if (this.#stream) this.#stream.check(id);
    else this.#say("check", { id });
  }

  #enter() {
    if (this.#channel || this.#stream) return;
    if (!navigator.locks || !window.BroadcastChannel) {
      this.#beAlone();
      return;
    }
    this.#tab = crypto.randomUUID();
    this.#leader = "";
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.addEventListener("message", ({ data }) => this.#hear(data));
    const onRefused = () => this.#beAlone();
    this.#presence = new Lock(`${this.#name} ${this.#tab}`, { onTaken: () => this.#follow(), onRefused });
  }

  /** Before the browser stops this page: nobody may wait for it. */
  #leave() {
    this.#say("leave");
    this.#stopLeading();
    this.#lead?.release();
    this.#presence?.release();
    this.#channel?.close();
    this.#channel = this.#presence = this.#lead = null;
    this.#silence.off();
  }

  #beAlone() {
    this.#leave();
    this.#stream = this.#openStream();
    this.#stream.want(this.#wants);
  }

  #follow() {
    this.#queueUp();
    this.#announce();
  }

  #queueUp(options) {
    this.#lead?.release();
    const holder = {
      onTaken: () => this.#takeOver(),
      onStolen: () => this.#standDown(),
      onRefused: () => this.#beAlone(),
    };
    this.#lead = new Lock(this.#name, holder, options);
  }

  #takeOver() {
    this.#silence.off();
    this.#leader = this.#tab;
    this.#stream = this.#openStream();
    this.#say("lead");
    this.#wantAll();
  }

  #standDown() {
    this.#say("leave"); // whatever was asked of this tab while it slept, another answers
    this.#leader = "";
    this.#stopLeading();
    this.#follow();
  }

  #stopLeading() {
    this.#stream?.close();
    this.#stream = null;
    for (const { gone } of this.#followers.values()) gone.release();
    this.#followers.clear();
  }

  #openStream() {
    const listener = {
      onState: (state) => this.#pass({ states: [state] }),
      onUnknown: (id) => this.#pass({ unknown: [id] }),
      onRefused: (refusal) => this.#pass({ refused: [refusal] }),
      onConnection: (connection) => this.#pass({ connection }),
    };
    return new ServerStream(this.#base, listener, this.#connection);
  }

  #pass(news) {
    this.#tell(null, news);
    this.#take(news);
  }

  #take({ states = [], unknown = [], refused = [], connection = this.#connection }) {
    for (const state of states) this.#listener.onState(state);
    for (const id of unknown) this.#listener.onUnknown(id);
    for (const refusal of refused) this.#listener.onRefused(refusal);
    if (connection === this.#connection) return;
    this.#connection = connection;
    this.#listener.onConnection(connection);
  }

  #announce() {
    if (this.#stream) {
      this.#wantAll();
    } else if (this.#lead) {
      this.#say("watch", { wants: this.#wants }); // not before it holds its own lock, or it would count as gone
      this.#expectNews(SILENCE_MS);
    }
  }

  #wantAll() {
    this.#stream.want(union([this.#wants, ...[...this.#followers.values()].map(({ wants }) => wants)]));
  }

  #hear(message) {
    if (this.#stream) this.#hearAsLeader(message);
    else this.#hearAsFollower(message);
  }

  #hearAsLeader({ kind, tab, wants, id }) {
    if (kind === "watch") this.#include(tab, wants);
    else if (kind === "leave") this.#strike(tab);
    else if (kind === "check") this.#stream.check(id);
    else if (kind === "renew") this.#stream.renew();
    else if (kind === "ask") this.#tell(tab);
  }

  #hearAsFollower({ kind, tab, to, ...news }) {
    if (kind === "lead") {
      this.#leader = tab;
      this.#announce();
    } else if (kind === "leave" && tab === this.#leader) {
      this.#leader = "";
      this.#expectNews(ANSWER_MS); // of the next in the queue, unless that one sleeps
    } else if (kind === "tell") {
      this.#hearNews(tab, to, news);
    }
  }

  /** Whoever answers leads. Of another only the states count, which are true whoever tells them. */
  #hearNews(tab, to, { states, unknown, refused, connection }) {
    if (to === this.#tab || !this.#leader) this.#leader = tab;
    const leads = tab === this.#leader;
    if (leads) this.#expectNews(SILENCE_MS);
    if (to === null || to === this.#tab) this.#take(leads ? { states, unknown, refused, connection } : { states, unknown });
  }

  #include(tab, wants) {
    const onTaken = () => this.#strike(tab);
    const gone = this.#followers.get(tab)?.gone ?? new Lock(`${this.#name} ${tab}`, { onTaken });
    this.#followers.set(tab, { wants, gone });
    this.#wantAll();
    this.#tell(tab, this.#stream.known([...wants.unchecked, ...wants.live]));
  }

  #strike(tab) {
    this.#followers.get(tab)?.gone.release();
    if (this.#followers.delete(tab)) this.#wantAll();
  }

  /** Without a word of the leader for so long it is asked. Whoever wants nothing needs no leader. */
  #expectNews(ms) {
    this.#asked = false;
    if (!isSame(this.#wants, NOTHING)) this.#silence.after(ms * (1 + Math.random() / 2));
    else this.#silence.off();
  }

  #doubt() {
    if (this.#asked) {
      this.#queueUp({ steal: true });
      return;
    }
    this.#asked = true;
    this.#say("ask");
    this.#silence.after(ANSWER_MS);
  }

  #renewWhenShown() {
    let hiddenSince = null;
    document.addEventListener("visibilitychange", () => {
      const sleptMs = hiddenSince === null ? 0 : performance.now() - hiddenSince;
      hiddenSince = document.hidden ? performance.now() : null;
      if (document.hidden || sleptMs < HIDDEN_MS) return;
      if (this.#stream) this.#stream.renew();
      else this.#say("renew");
    });
  }

  #tell(to, { states = [], unknown = [], refused = [] } = {}) {
    this.#say("tell", { to, states, unknown, refused, connection: this.#stream.connection });
  }

  #say(kind, content = {}) {
    this.#channel?.postMessage({ kind, tab: this.#tab, ...content });
  }
}
