/**
 * The API key that this page shows, where the service asks for keys. Owns one key of `sessionStorage`, which is of this tab
 * alone and goes with it; the key is sent in headers, never in an address.
 */

const PLACE = "ingest-live.key";
const PRINTABLE = /^[\x21-\x7e]+$/;

let key = remembered();
let onRefused = () => {};

/** Whether there is one. */
export function hasKey() {
  return key !== "";
}

/**
 * Shows this key from now on. Whether the text could be one: a header holds no others.
 *
 * @param {string} text
 */
export function use(text) {
  if (!PRINTABLE.test(text)) return false;
  key = text;
  try {
    sessionStorage.setItem(PLACE, key);
  } catch {
    // Forbidden: a reload will ask again.
  }
  return true;
}

export function forget() {
  key = "";
  try {
    sessionStorage.removeItem(PLACE);
  } catch {
    // Nothing was kept.
  }
}

/** The headers that show the key. */
export function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** The service takes the key no more. */
export function refused() {
  if (!key) return;
  forget();
  onRefused();
}

/** @param {() => void} listener called when a key that was good is refused */
export function whenRefused(listener) {
  onRefused = listener;
}

function remembered() {
  try {
    return sessionStorage.getItem(PLACE) ?? "";
  } catch {
    return "";
  }
}
