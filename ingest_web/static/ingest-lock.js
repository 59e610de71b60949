/**
 * A Web Lock as an object: waited for, and then held until it is released. The browser releases it for a tab that is
 * closed or crashes, but not for one that is frozen; such a lock can be stolen.
 */

/**
 * @typedef {object} Holder
 * @property {() => void} onTaken it is held now
 * @property {() => void} [onStolen] it was held, and has been taken away
 * @property {() => void} [onRefused] this page can have no locks
 */

export class Lock {
  #released = false;
  #waiting = new AbortController();
  #letGo;

  /**
   * @param {string} name one for all pages of the origin
   * @param {Holder} holder
   * @param {{steal?: boolean}} [options] whether to take it from whoever holds it
   */
  constructor(name, holder, { steal = false } = {}) {
    const held = new Promise((resolve) => (this.#letGo = resolve));
    const taken = () => {
      if (this.#released) return null;
      holder.onTaken();
      return held;
    };
    navigator.locks
      .request(name, steal ? { steal } : { signal: this.#waiting.signal }, taken)
      .catch((error) => this.#failed(error, holder));
  }

  /** Stops to wait for it, or to hold it. */
  release() {
    this.#released = true;
    this.#waiting.abort();
    this.#letGo();
  }

  #failed(error, holder) {
    if (this.#released) return;
    if (error.name === "AbortError") holder.onStolen?.();
    else holder.onRefused?.();
  }
}
