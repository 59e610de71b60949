/**
 * The cards of the page: a file on its way up, and a document that the service has. Owns their DOM; text from outside
 * enters by `textContent` only. What a card leads to (queue, memory, counts) is the page's business, told by events:
 * `card-accepted` with the id, `card-changed`, `card-gone`.
 */

import { displayName, nameParts, size, stageWord } from "./ingest-words.js";
import { isFinal } from "./ingest-state.js";
import * as session from "./session.js";
import * as uploads from "./uploads.js";

/**
 * A card for a file; once it is uploaded, the same card shows its document.
 *
 * @param {URL} server
 * @param {File} file
 * @param {uploads.Queue} queue
 * @param {uploads.Problem|null} refusal why it is not even tried
 * @returns {HTMLLIElement}
 */
export function fileCard(server, file, queue, refusal) {
  const card = fromTemplate("file-card");
  const part = parts(card);
  const stop = new AbortController();
  const name = displayName(file.name);
  [part.nameStart.textContent, part.nameEnd.textContent] = nameParts(name);
  part.name.title = name;
  part.size.textContent = size(file.size);
  part.bar.setAttribute("aria-label", `Upload of ${name}`);
  part.leave.setAttribute("aria-label", `Withdraw ${name}`);
  part.leave.addEventListener("click", () => {
    stop.abort();
    leave(card);
  });
  part.again.addEventListener("click", () => start());

  async function start() {
    card.dataset.phase = "waiting";
    part.problem.hidden = part.again.hidden = true;
    part.progress.hidden = false;
    part.note.textContent = "Waiting to upload";
    try {
      const { id, streamUrl } = await queue.run(() => uploads.upload(server, file, showSent, stop.signal), stop.signal);
      becomeDocument(card, server, id, streamUrl);
      tell(card, "card-accepted", id);
    } catch (problem) {
      if (!stop.signal.aborted) showProblem(problem);
    }
    tell(card, "card-changed");
  }

  function showSent(sent, total) {
    const percent = total ? Math.floor((100 * sent) / total) : 100;
    card.dataset.phase = "uploading";
    part.fill.style.transform = `translateX(${percent - 100}%)`;
    part.bar.setAttribute("aria-valuenow", String(percent));
    part.note.textContent = percent < 100 ? `Uploading ${percent}%` : "Uploaded, waiting for the answer";
  }

  function showProblem(problem) {
    card.dataset.phase = "refused";
    part.progress.hidden = true;
    part.note.textContent = "";
    part.problem.hidden = false;
    part.title.textContent = `${problem.title ?? "The upload failed"}.`;
    part.detail.textContent = problem.detail ?? String(problem);
    part.again.hidden = !problem.again;
    part.leave.setAttribute("aria-label", `Dismiss ${name}`);
  }

  if (refusal) showProblem(refusal);
  else start();
  return card;
}

/**
 * A card for a document that the service has.
 *
 * @param {URL} server
 * @param {string} id
 * @returns {HTMLLIElement}
 */
export function documentCard(server, id) {
  const card = document.createElement("li");
  becomeDocument(card, server, id);
  return card;
}

function becomeDocument(card, server, id, streamUrl = "") {
  const made = fromTemplate("document-card");
  const part = parts(made);
  const progress = made.querySelector("ingest-progress");
  progress.setAttribute("server", server.pathname);
  if (streamUrl) progress.setAttribute("stream-url", streamUrl);
  progress.setAttribute("document-id", id);
  part.result.href = part.download.href = new URL(`ingestions/${encodeURIComponent(id)}/chunks`, server);
  progress.addEventListener("ingest-state", ({ detail: state }) => {
    showActions(part, state);
    card.dataset.phase = isFinal(state) ? "final" : "running";
    tell(card, "card-changed");
  });
  if (session.hasKey()) fetchWithKey(part, server, id);
  progress.addEventListener("ingest-unknown", () => leave(card));
  part.cancel.addEventListener("click", () => ask(part, () => uploads.cancel(server, id)));
  part.retry.addEventListener("click", () => ask(part, () => uploads.retry(server, id), () => progress.refresh()));
  part.unlock.addEventListener("submit", (event) => {
    event.preventDefault();
    const password = part.password.value;
    part.unlock.reset();
    ask(part, () => uploads.retry(server, id, password), () => progress.refresh());
  });
  part.leave.addEventListener("click", () => leave(card));
  card.className = made.className;
  card.dataset.phase = "running";
  card.dataset.id = id;
  card.replaceChildren(...made.childNodes);
}

/** A link can't show a key: what it leads to is fetched, and saved. */
function fetchWithKey(part, server, id) {
  part.result.hidden = true;
  part.download.addEventListener("click", async (event) => {
    if (part.download.protocol === "blob:") return;
    event.preventDefault();
    await ask(part, async () => {
      part.download.href = URL.createObjectURL(await uploads.chunks(server, id));
      part.download.click();
    });
  });
}

function showActions(part, state) {
  const name = displayName(state.filename);
  part.cancel.hidden = isFinal(state);
  part.cancel.setAttribute("aria-label", `Cancel ${name}`);
  part.leave.hidden = !isFinal(state);
  part.leave.setAttribute("aria-label", `Remove ${name} from this list`);
  part.results.hidden = state.status !== "COMPLETED";
  part.download.download = `${name.replace(/\.pdf$/i, "")}.jsonl`;
  // Without its password an encrypted file would only fail again.
  part.unlock.hidden = state.error?.code !== "encrypted";
  part.password.setAttribute("aria-label", `Password of ${name}`);
  part.retry.hidden = !["FAILED", "CANCELLED"].includes(state.status) || !part.unlock.hidden;
  part.retry.setAttribute("aria-label", `${stageWord(state.status)}: try ${name} again`);
  part.problem.hidden = true;
}

async function ask(part, request, afterwards = () => {}) {
  part.cancel.disabled = part.retry.disabled = true;
  try {
    await request();
    afterwards();
  } catch (problem) {
    part.problem.hidden = false;
    part.problem.textContent = [problem.title, problem.detail].filter(Boolean).join(". ");
  } finally {
    part.cancel.disabled = part.retry.disabled = false;
  }
}

function leave(card) {
  tell(card, "card-gone", card.dataset.id);
  card.remove();
}

function tell(card, name, detail) {
  card.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
}

function fromTemplate(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

/** The elements that the template names with `data-part`. */
function parts(card) {
  return Object.fromEntries([...card.querySelectorAll("[data-part]")].map((found) => [found.dataset.part, found]));
}
