/**
 * How `<ingest-progress>` looks. A constructed style sheet, because a strict content security policy forbids `<style>`.
 *
 * To theme it, set these properties on the element or anything around it:
 *
 *     --ingest-accent  --ingest-ok  --ingest-warn  --ingest-error     colours of the bar, the icon and the notes
 *     --ingest-muted  --ingest-track                                  secondary text, the empty part of the bar
 *     --ingest-bar-height  --ingest-bar-radius  --ingest-gap          measures
 *
 * Font and text colour are those of the page. So is the scheme: `light-dark()` follows the `color-scheme` around the
 * element, so that it does not turn dark in a page that never does. What is left can be reached with `::part()`.
 */

export const style = new CSSStyleSheet();

style.replaceSync(`
:host {
  --accent: var(--ingest-accent, light-dark(#2f5fd0, #8aabff));
  --ok: var(--ingest-ok, light-dark(#1f7a4d, #63c796));
  --warn: var(--ingest-warn, light-dark(#9a5b00, #e5b567));
  --error: var(--ingest-error, light-dark(#b3261e, #ff9a8f));
  --muted: var(--ingest-muted, light-dark(#68665f, #a3a099));
  --track: var(--ingest-track, light-dark(#e9e7e1, #383733));
  --tone: var(--accent);
  container-type: inline-size;
  display: block;
  min-inline-size: 0;
  font-variant-numeric: tabular-nums;
  line-height: 1.45;
}
:host([hidden]), [hidden] { display: none !important; }
:host([status="COMPLETED"]) { --tone: var(--ok); }
:host([status="FAILED"]) { --tone: var(--error); }
:host([status="CANCELLED"]), :host([status="PENDING"]), :host(:not([status])) { --tone: var(--muted); }

.base {
  display: grid;
  grid-template-columns: 1.25rem minmax(0, 1fr);
  column-gap: var(--ingest-gap, 0.75rem);
}
.base > * { grid-column: 2; }
.icon { grid-column: 1; grid-row: 1; inline-size: 1.25rem; block-size: 1.45em; color: var(--tone); transition: color 300ms; }
.icon svg { display: block; inline-size: 100%; block-size: 100%; overflow: visible; }
.icon .turning { transform-origin: center; animation: turn 1.1s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }

slot[name="actions"] { display: block; }
slot[name="corner"] { display: contents; }
.head, .foot { display: flex; align-items: baseline; gap: 0.75rem; min-inline-size: 0; }
.filename { display: flex; flex: 1; min-inline-size: 0; font-weight: 600; unicode-bidi: isolate; white-space: pre; }
.filename .start { overflow: hidden; text-overflow: ellipsis; }
.filename .end { flex: none; }
.percent { flex: none; color: var(--muted); font-weight: 500; }

.track {
  block-size: var(--ingest-bar-height, 0.375rem);
  margin-block: 0.5rem 0.45rem;
  overflow: hidden;
  border-radius: var(--ingest-bar-radius, 1rem);
  background: var(--track);
}
:host(:dir(rtl)) .track { transform: scaleX(-1); }
.bar {
  block-size: 100%;
  border-radius: inherit;
  background: var(--tone);
  transform: translateX(-100%);
  transition: transform 0s linear, background-color 300ms, opacity 300ms;
}
:host([connection="lost"]) .bar { opacity: 0.45; }

.foot { font-size: 0.875em; color: var(--muted); }
.happening { flex: 1; min-inline-size: 0; overflow-wrap: anywhere; }
.stage { color: color-mix(in srgb, currentColor, var(--tone) 75%); font-weight: 600; }
.message::before { content: " "; }
:host([status="FAILED"]) .message { color: var(--error); }
.eta { flex: none; }
.reconnecting { flex: none; color: var(--warn); font-weight: 500; }

.warnings { margin-block-start: 0.5rem; font-size: 0.875em; }
.warnings summary { inline-size: fit-content; color: var(--warn); font-weight: 500; cursor: pointer; border-radius: 0.25rem; }
.warnings summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.warnings ul { margin: 0.35rem 0 0; padding: 0 0 0 0.85rem; border-inline-start: 2px solid var(--track); list-style: none; }
.warnings li { overflow-wrap: anywhere; }
.warnings li + li { margin-block-start: 0.25rem; }
.warnings .pages { color: var(--muted); }

.announcement { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

@container (inline-size < 22rem) {
  .foot { flex-wrap: wrap; row-gap: 0; }
  .happening { flex-basis: 100%; }
}
@media (prefers-reduced-motion: reduce) {
  .bar, .icon { transition: none !important; }
  .icon .turning { animation: none; }
}
@media (forced-colors: active) {
  .track { border: 1px solid CanvasText; }
  .bar { background: Highlight; forced-color-adjust: none; }
}
`);
