/**
 * Getting files to the service: two at a time, with progress. Owns the requests of the page, shows its key with each,
 * and turns whatever goes wrong into a `Problem` in words; knows no DOM.
 */

import * as session from "./session.js";

/** More at once would not be faster, and streams and links need connections too: a browser has six per host. */
const AT_ONCE = 2;

/** What went wrong, in the words of the server where it had any. `again`: the same request may succeed later. */
export class Problem extends Error {
  /**
   * @param {string} title
   * @param {string} detail
   * @param {boolean} again
   * @param {number} status of the answer; 0 when there was none
   */
  constructor(title, detail = "", again = false, status = 0) {
    super(title);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.again = again;
  }
}

const UNREACHABLE = new Problem("The service could not be reached", "Check the connection, then try again.", true);

/** Runs jobs in order, a few at a time. A job that waits can still be withdrawn by its signal. */
export class Queue {
  #waiting = [];
  #running = 0;

  /** How many jobs have not ended. */
  get pending() {
    return this.#waiting.length + this.#running;
  }

  /**
   * @template T
   * @param {() => Promise<T>} job
   * @param {AbortSignal} signal
   * @returns {Promise<T>}
   */
  run(job, signal) {
    return new Promise((resolve, reject) => {
      const entry = () => job().then(resolve, reject);
      this.#waiting.push(entry);
      signal.addEventListener("abort", () => {
        this.#waiting = this.#waiting.filter((other) => other !== entry);
        reject(signal.reason);
      });
      this.#next();
    });
  }

  #next() {
    while (this.#running < AT_ONCE && this.#waiting.length) {
      this.#running += 1;
      this.#waiting.shift()().finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
  }
}

/**
 * Uploads one file and answers where its stream is. `fetch` can't tell how much has been sent; `XMLHttpRequest` can.
 *
 * @param {URL} server
 * @param {File} file
 * @param {(sent: number, total: number) => void} onProgress in bytes
 * @param {AbortSignal} signal
 * @returns {Promise<{id: string, streamUrl?: string}>}
 */
export function upload(server, file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name || "document");
    request.open("POST", new URL("ingestions", server));
    for (const [name, value] of Object.entries(session.headers())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const body = parsed(request.responseText);
      if ((request.status === 202 || request.status === 200) && body?.id) resolve({ id: body.id, streamUrl: body.stream_url });
      else reject(problemOf(request.status, body));
    });
    request.addEventListener("error", () => reject(UNREACHABLE));
    signal.addEventListener("abort", () => {
      request.abort();
      reject(signal.reason);
    });
    request.send(form);
  });
}

/**
 * Stops the work on a document.
 *
 * @param {URL} server
 * @param {string} id
 */
export function cancel(server, id) {
  return send("DELETE", new URL(`ingestions/${encodeURIComponent(id)}`, server));
}

/**
 * Starts the next attempt of a document that did not complete.
 *
 * @param {URL} server
 * @param {string} id
 * @param {string} [password] of an encrypted file
 */
export function retry(server, id, password) {
  const body = password ? new URLSearchParams({ password }) : undefined;
  return send("POST", new URL(`ingestions/${encodeURIComponent(id)}/retry`, server), body);
}

/**
 * Makes a link to a document's stream, and answers its address.
 *
 * @param {URL} server
 * @param {string} id
 * @returns {Promise<string>}
 */
export async function link(server, id) {
  const response = await send("POST", new URL(`ingestions/${encodeURIComponent(id)}/links`, server));
  return (await response.json()).stream_url;
}

/**
 * The chunks of a document, as JSON Lines.
 *
 * @param {URL} server
 * @param {string} id
 * @returns {Promise<Blob>}
 */
export async function chunks(server, id) {
  return (await send("GET", new URL(`ingestions/${encodeURIComponent(id)}/chunks`, server))).blob();
}

/**
 * Whether the service takes the key; rejects when it does not say.
 *
 * @param {URL} server
 * @returns {Promise<boolean>}
 */
export async function isKeyGood(server) {
  const response = await ask("GET", new URL("ingestions?limit=1", server));
  if (response.ok || response.status === 403) return true; // a key that may only upload is one
  if (response.status === 401) return false;
  throw problemOf(response.status, parsed(await response.text()));
}

async function send(method, url, body) {
  const response = await ask(method, url, body);
  if (!response.ok) throw problemOf(response.status, parsed(await response.text()));
  return response;
}

function ask(method, url, body) {
  return fetch(url, { method, body, headers: session.headers() }).catch(() => {
    throw UNREACHABLE;
  });
}

function problemOf(status, body) {
  if (status === 401) session.refused();
  const again = status >= 500 || status === 429;
  if (typeof body?.title === "string") return new Problem(body.title, String(body.detail ?? ""), again, status);
  return new Problem(`The service answered with an error (${status})`, "", again, status);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
