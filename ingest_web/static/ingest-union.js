/**
 * Who watches what: the wants of all tabs as one, and how they are spread over streams. Pure: no DOM, no network.
 */

/**
 * The documents that somebody watches and that are not finished.
 *
 * @typedef {object} Wants
 * @property {string[]} unchecked nobody has told yet whether the server knows them
 * @property {string[]} live the server has told a state of them
 * @property {Map<string, string>} tokens what opens those of them that are not open to everybody, by document
 */

/** @type {Wants} */
export const NOTHING = { unchecked: [], live: [], tokens: new Map() };

/**
 * What several want together, each document once. What one of them has had a state of needs no check for the others.
 *
 * @param {Iterable<Wants>} all
 * @returns {Wants}
 */
export function union(all) {
  const wants = [...all];
  const live = new Set(wants.flatMap((one) => one.live));
  const unchecked = new Set(wants.flatMap((one) => one.unchecked));
  return { unchecked: [...unchecked].filter((id) => !live.has(id)), live: [...live], tokens: longest(wants) };
}

/** Of several tokens of a document, that which opens it for longest. */
function longest(wants) {
  const tokens = new Map();
  for (const [id, token] of wants.flatMap((one) => [...one.tokens])) {
    if (!tokens.has(id) || expiry(token) > expiry(tokens.get(id))) tokens.set(id, token);
  }
  return tokens;
}

/**
 * When a token expires, in seconds since 1970; 0 for what is none.
 *
 * @param {string} token
 */
export function expiry(token) {
  return parseInt(token.split(".")[2], 16) || 0;
}

/**
 * @param {Wants} one
 * @param {Wants} other
 */
export function isSame(one, other) {
  const tokens = (wants) => [...wants.tokens].map((pair) => pair.join(" "));
  return (
    sameIds(one.unchecked, other.unchecked) && sameIds(one.live, other.live) && sameIds(tokens(one), tokens(other))
  );
}

/**
 * Whether two lists without repetition name the same documents, in whatever order.
 *
 * @param {string[]} one
 * @param {string[]} other
 */
export function sameIds(one, other) {
  return one.length === other.length && new Set([...one, ...other]).size === one.length;
}

/**
 * Spreads documents over streams so that as few streams as can be change: each stays where it is, newcomers go where
 * there is room, then on streams of their own. A stream that carries nothing any more stays in its place, empty.
 *
 * @param {string[][]} carried the documents on each stream
 * @param {string[]} wanted
 * @param {number} most documents on a stream
 * @returns {string[][]} the same streams, and perhaps further ones
 */
export function spread(carried, wanted, most) {
  const left = new Set(wanted);
  const kept = carried.map((ids) => ids.filter((id) => left.delete(id)));
  const newcomers = [...left];
  const streams = kept.map((ids) => [...ids, ...newcomers.splice(0, most - ids.length)]);
  while (newcomers.length) streams.push(newcomers.splice(0, most));
  return streams;
}
