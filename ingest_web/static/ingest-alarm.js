/** One timer. `within` only ever moves it nearer; `after` sets it anew. */
export class Alarm {
  #ring;
  #timer = null;
  #dueMs = Infinity;

  /** @param {() => void} ring */
  constructor(ring) {
    this.#ring = ring;
  }

  /** @param {number} ms */
  within(ms) {
    if (performance.now() + ms < this.#dueMs) this.after(ms);
  }

  /** @param {number} ms */
  after(ms) {
    this.off();
    this.#dueMs = performance.now() + ms;
    this.#timer = setTimeout(() => {
      this.#dueMs = Infinity;
      this.#ring();
    }, ms);
  }

  off() {
    clearTimeout(this.#timer);
    this.#dueMs = Infinity;
  }
}
