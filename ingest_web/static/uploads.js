/**
 * Getting files to the service: two at a time, with progress. Owns the requests that change something, and turns
 * whatever goes wrong into a `Problem` in words; knows no DOM.
 */

/** More at once would not be faster, and streams and links need connections too: a browser has six per host. */
const AT_ONCE = 2;

/** What went wrong, in the words of the server where it had any. `again`: the same request may succeed later. */
export class Problem extends Error {
  /**
   * @param {string} title
   * @param {string} detail
   * @param {boolean} again
   */
  constructor(title, detail = "", again = false) {
    super(title);
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
 * Uploads one file and answers its id. `fetch` can't tell how much has been sent; `XMLHttpRequest` can.
 *
 * @param {URL} server
 * @param {File} file
 * @param {(sent: number, total: number) => void} onProgress in bytes
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
export function upload(server, file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name || "document");
    request.open("POST", new URL("ingestions", server));
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const body = parsed(request.responseText);
      if ((request.status === 202 || request.status === 200) && body?.id) resolve(body.id);
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

async function send(method, url, body) {
  const response = await fetch(url, { method, body }).catch(() => {
    throw UNREACHABLE;
  });
  if (!response.ok) throw problemOf(response.status, parsed(await response.text()));
}

function problemOf(status, body) {
  const again = status >= 500 || status === 429;
  if (typeof body?.title === "string") return new Problem(body.title, String(body.detail ?? ""), again);
  return new Problem(`The service answered with an error (${status})`, "", again);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
