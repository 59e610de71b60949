/**
 * A look at a document as it stands: asked of `GET /status/{id}`, or, with a token, of the stream that it opens, since a
 * token opens nothing else. Owns the addresses of streams. An `EventSource` sees no status code; this does.
 */

/** @typedef {import("./ingest-state.js").State} State */

const TIMEOUT_MS = 15_000;

/**
 * The address of a stream, relative to that of the service.
 *
 * @param {string[]} ids
 * @param {Map<string, string>} tokens what opens those of them that are not open to everybody
 */
export function streamPath(ids, tokens) {
  const [first, ...others] = ids;
  const token = tokens.get(first);
  if (!others.length) return `status/stream/${encodeURIComponent(first)}${token ? `?token=${encodeURIComponent(token)}` : ""}`;
  return `status/stream?${new URLSearchParams(ids.map((id) => (tokens.has(id) ? ["token", tokens.get(id)] : ["id", id])))}`;
}

/**
 * The state of a document; "unknown" when there is none, "refused" when it is not shown to whoever asks. Rejects when
 * that can't be known now.
 *
 * @param {string} base the address under which the service answers
 * @param {string} id
 * @param {string} token "" for none
 * @returns {Promise<State|"unknown"|"refused">}
 */
export async function glance(base, id, token) {
  const path = token ? streamPath([id], new Map([[id, token]])) : `status/${encodeURIComponent(id)}`;
  const stop = new AbortController();
  const timeout = setTimeout(() => stop.abort(), TIMEOUT_MS);
  try {
    const response = await fetch(new URL(path, base), { cache: "no-store", signal: stop.signal });
    if (response.ok) return await (token ? firstState(response) : response.json());
    const { code } = await response.json(); // an error page of a proxy is not JSON: it says nothing about the document
    if (response.status === 404 && code) return "unknown";
    if (response.status === 401 && code) return "refused";
    throw new Error(`status ${response.status}`);
  } finally {
    clearTimeout(timeout);
    stop.abort(); // of a stream, what follows the first event
  }
}

async function firstState(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    text += value ?? "";
    const [, data] = /^data: (.*)\n/m.exec(text) ?? [];
    if (data) return JSON.parse(data);
    if (done) throw new Error("no event"); // come back later
  }
}
