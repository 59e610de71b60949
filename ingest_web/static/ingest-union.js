/**
 * Who watches what: the wants of all tabs as one, and how they are spread over streams. Pure: no DOM, no network.
 */

/**
 * The documents that somebody watches and that are not finished.
 *
 * @typedef {object} Wants
 * @property {string[]} unchecked nobody has told yet whether the server knows them
 * @property {string[]} live the server has told a state of them
 */

/** @type {Wants} */
export const NOTHING = { unchecked: [], live: [] };

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
  return { unchecked: [...unchecked].filter((id) => !live.has(id)), live: [...live] };
}

/**
 * @param {Wants} one
 * @param {Wants} other
 */
export function isSame(one, other) {
  return sameIds(one.unchecked, other.unchecked) && sameIds(one.live, other.live);
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
