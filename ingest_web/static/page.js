/**
 * The page: takes files, keeps the list of cards, remembers it. Each card looks after itself (`cards.js`).
 */

import "./ingest-progress.js";
import { documentCard, fileCard } from "./cards.js";
import { parseStreamUrl } from "./ingest-address.js";
import { provideTokens, watchConnection } from "./ingest-watch.js";
import { size } from "./ingest-words.js";
import * as remembered from "./remembered.js";
import * as session from "./session.js";
import { Problem, Queue, isKeyGood, link } from "./uploads.js";

/** The service is where this file came from, also under a path of its own behind a proxy. */
const SERVER = new URL("..", import.meta.url);
const MOST_BYTES = Number(document.body.dataset.maxUploadBytes) || Infinity;
const CONNECTION_WORDS = { idle: "Ready", connecting: "Connecting…", open: "Live", lost: "Reconnecting…" };

const ASKS_FOR_KEYS = document.body.dataset.auth === "keys";
const REFUSED = "The key is not one, or has been revoked.";

const list = document.querySelector("#documents");
const queue = new Queue();

function addFiles(files) {
  for (const file of files) list.prepend(fileCard(SERVER, file, queue, refusalOf(file)));
  count();
}

/** What is sure to be refused is not sent. Everything else is for the server to judge. */
function refusalOf(file) {
  if (file.size <= MOST_BYTES) return null;
  return new Problem("The file is too large", `It has ${size(file.size)}; at most ${size(MOST_BYTES)} are accepted.`);
}

function count() {
  const phases = [...list.children].map((card) => card.dataset.phase);
  const settled = phases.filter((phase) => phase === "final" || phase === "refused").length;
  document.querySelector("#empty").hidden = phases.length > 0;
  document.querySelector("#list-head").hidden = !phases.length;
  document.querySelector("#clear").hidden = !settled;
  document.querySelector("#count").textContent = countWords(phases.length - settled, settled);
}

function countWords(running, settled) {
  return [running && `${running} in progress`, settled && `${settled} finished`].filter(Boolean).join(" · ");
}

function clearFinished() {
  for (const card of [...list.children].filter((one) => ["final", "refused"].includes(one.dataset.phase))) {
    if (card.dataset.id) remembered.remove(card.dataset.id);
    card.remove();
  }
  count();
  document.querySelector("#choose").focus();
}

function acceptFiles() {
  const choose = document.querySelector("#choose");
  choose.addEventListener("change", () => {
    addFiles(choose.files);
    choose.value = ""; // so that the same file can be chosen again
  });
}

/** The whole window takes drops: a file that misses the zone must not replace the page. */
function acceptDrops() {
  const zone = document.querySelector("#drop");
  const light = (on) => zone.classList.toggle("over", on);
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    light(true);
  });
  window.addEventListener("dragleave", (event) => event.relatedTarget === null && light(false));
  window.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    light(false);
    if (!document.querySelector("#work").hidden) addFiles(droppedFiles(event.dataTransfer));
  });
}

/** A folder poses as a file that nobody can read. */
function droppedFiles(transfer) {
  const files = [...transfer.items].filter((item) => item.kind === "file" && !item.webkitGetAsEntry()?.isDirectory);
  return files.map((item) => item.getAsFile()).filter((file) => file !== null);
}

function showConnection() {
  const indicator = document.querySelector("#connection");
  watchConnection(SERVER.pathname, (connection) => {
    indicator.dataset.connection = connection;
    indicator.querySelector("span").textContent = CONNECTION_WORDS[connection];
  });
}

function showSnippet() {
  const script = new URL("static/ingest-progress.js", SERVER);
  document.querySelector("#snippet").textContent =
    `<script type="module" src="${script}"></` +
    `script>\n<ingest-progress ${ASKS_FOR_KEYS ? "stream-url" : "document-id"}="…"></ingest-progress>`;
}

async function makeToken(id) {
  return parseStreamUrl(await link(SERVER, id), null, SERVER.href).token;
}

/** The page for whoever has shown a good key, or needs none. */
function show() {
  document.querySelector("#sign-in").hidden = true;
  document.querySelector("#work").hidden = false;
  document.querySelector("#sign-out").hidden = !ASKS_FOR_KEYS;
  document.querySelector("#connection").hidden = false;
  provideTokens(SERVER.pathname, ASKS_FOR_KEYS ? makeToken : null);
  restore();
  count();
}

/** The page for whoever has shown no key yet. @param {string} why */
function askForKey(why) {
  list.replaceChildren();
  for (const part of ["#work", "#sign-out", "#connection"]) document.querySelector(part).hidden = true;
  document.querySelector("#sign-in").hidden = false;
  document.querySelector("#key-problem").textContent = why;
  document.querySelector("#key").focus();
}

async function signIn(event) {
  event.preventDefault();
  const field = document.querySelector("#key");
  const problem = document.querySelector("#key-problem");
  problem.textContent = "";
  field.disabled = true;
  try {
    const isGood = session.use(field.value.trim()) && (await isKeyGood(SERVER));
    if (!isGood) throw new Problem(REFUSED);
    field.value = "";
    show();
  } catch (error) {
    session.forget();
    problem.textContent = [error.title, error.detail].filter(Boolean).join(". ");
  } finally {
    field.disabled = false;
  }
}

function signOut() {
  session.forget();
  askForKey("");
}

function restore() {
  for (const id of remembered.all()) list.append(documentCard(SERVER, id));
}

/** Uploads end in any order; what is remembered is the order of the cards. */
function idBelow(card) {
  for (let below = card.nextElementSibling; below; below = below.nextElementSibling) {
    if (below.dataset.id) return below.dataset.id;
  }
  return null;
}

list.addEventListener("card-accepted", ({ detail: id, target }) => remembered.add(id, idBelow(target)));
list.addEventListener("card-gone", ({ detail: id, target }) => {
  if (id) remembered.remove(id);
  queueMicrotask(count); // once the card has left
  if (target.contains(document.activeElement)) document.querySelector("#choose").focus();
});
list.addEventListener("card-changed", count);
document.querySelector("#clear").addEventListener("click", clearFinished);
window.addEventListener("beforeunload", (event) => queue.pending && event.preventDefault());

document.querySelector("#limit").textContent = Number.isFinite(MOST_BYTES) ? `up to ${size(MOST_BYTES)} each` : "";
document.querySelector("#sign-in").addEventListener("submit", signIn);
document.querySelector("#sign-out").addEventListener("click", signOut);
session.whenRefused(() => askForKey(REFUSED));
acceptFiles();
acceptDrops();
showConnection();
showSnippet();
if (ASKS_FOR_KEYS && !session.hasKey()) askForKey("");
else show();
