/** Which document an element shows, of which service, and what opens it, from its attributes. Pure. */

/**
 * @typedef {object} Target
 * @property {string} server the address under which the service answers
 * @property {string} id
 * @property {string} token "" for none
 */

const STREAM = /^(.*\/)status\/stream\/([^/]+)$/;

/**
 * What a `stream_url` leads to, as the service answers it; null when it is none.
 *
 * @param {string} address
 * @param {string|null} server where the service is, when that is told
 * @param {string} page the address of the page
 * @returns {Target|null}
 */
export function parseStreamUrl(address, server, page) {
  if (!URL.canParse(address, page)) return null;
  const url = new URL(address, page);
  const found = STREAM.exec(url.pathname);
  if (!found) return null;
  const [, folder, id] = found;
  return { server: server ?? `${url.origin}${folder}`, id: decodeURIComponent(id), token: url.searchParams.get("token") ?? "" };
}
