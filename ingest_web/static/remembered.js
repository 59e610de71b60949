/**
 * The documents that this browser has uploaded, newest first, kept over a reload. Owns one key of `localStorage`; a
 * browser that refuses storage only loses that comfort. Reads before each write, since other tabs write too.
 */

const KEY = "ingest-live.documents";
const MOST = 100;

/** @returns {string[]} */
export function all() {
  try {
    const ids = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
  } catch {
    return [];
  }
}

/**
 * @param {string} id
 * @param {string|null} below the document that it stands before; at the end when there is none
 */
export function add(id, below) {
  const ids = all().filter((other) => other !== id);
  const place = ids.indexOf(below);
  ids.splice(place < 0 ? ids.length : place, 0, id);
  keep(ids.slice(0, MOST));
}

/** @param {string} id */
export function remove(id) {
  keep(all().filter((other) => other !== id));
}

function keep(ids) {
  try {
    localStorage.setItem(KEY, JSON.stringify(ids));
  } catch {
    // Full or forbidden: the cards of this page stay, a reload starts empty.
  }
}
