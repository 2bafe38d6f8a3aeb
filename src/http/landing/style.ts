// How the page looks: light and dark, from a phone's width up. One file's worth of CSS and nothing from elsewhere.

/** The inline style sheet; its hash stands in the page's policy. */
export const style = `
:root {
  color-scheme: light dark;
  --ground: #f4f6fa; --card: #ffffff; --well: #f1f4f9; --text: #17222f; --soft: #4d5b6b; --line: #dbe2ea;
  --accent: #0a5ec0; --on-accent: #ffffff; --glow: #dbe9fb;
  --good: #0b6b3a; --good-well: #e2f5ea; --bad: #a81d1d; --bad-well: #fdeaea; --wait-well: #e9eef4;
  --shadow: 0 1px 2px rgb(20 32 46 / .06), 0 8px 24px rgb(20 32 46 / .06);
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0c121b; --card: #141d29; --well: #0e1620; --text: #e7edf5; --soft: #a3b2c3; --line: #273547;
    --accent: #7db8ff; --on-accent: #06182e; --glow: #14263d;
    --good: #6fdc9f; --good-well: #11301f; --bad: #ff9d9d; --bad-well: #3a1719; --wait-well: #1e2a39;
    --shadow: 0 1px 2px rgb(0 0 0 / .4), 0 8px 24px rgb(0 0 0 / .25);
  }
}
* { box-sizing: border-box; margin: 0; }
html { -webkit-text-size-adjust: 100%; }
body { background: var(--ground); color: var(--text); font: 1rem/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif; }
a { color: var(--accent); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.quiet:not(:focus) { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip:focus { position: absolute; top: .5rem; left: .5rem; z-index: 1; padding: .5rem 1rem; background: var(--card); border-radius: .5rem; }
.wrap { width: min(70rem, 100%); margin-inline: auto; padding-inline: clamp(1rem, 4vw, 2rem); }

header { background: linear-gradient(180deg, var(--glow), var(--ground)); padding-block: clamp(2rem, 6vw, 4rem) 2rem; }
.brow { display: flex; align-items: center; gap: .5rem; color: var(--soft); font-weight: 600; letter-spacing: .01em; }
.brow svg { width: 1.5rem; height: 1.5rem; color: var(--accent); flex: none; }
h1 { font-size: clamp(2rem, 6vw, 3rem); line-height: 1.12; letter-spacing: -.025em; margin-block: .6rem .75rem; overflow-wrap: anywhere; }
.lead { max-width: 42rem; font-size: 1.125rem; color: var(--soft); }
.address { display: flex; align-items: center; gap: .75rem; max-width: 44rem; margin-top: 1.75rem; padding: .6rem .6rem .6rem 1.1rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .9rem; box-shadow: var(--shadow); }
.address code { flex: 1; min-width: 0; font-size: 1.05rem; font-weight: 600; overflow-wrap: anywhere; }
#summary { display: inline-flex; align-items: center; gap: .5rem; margin-top: 1rem; padding: .3rem .85rem; border-radius: 2rem; font-weight: 600;
  font-size: .9375rem; background: var(--wait-well); color: var(--soft); }
#summary:empty { display: none; }
#summary::before { content: ''; width: .6rem; height: .6rem; border-radius: 50%; background: currentColor; flex: none; }
#summary[data-state=passed] { background: var(--good-well); color: var(--good); }
#summary[data-state=failed] { background: var(--bad-well); color: var(--bad); }

main { display: grid; gap: 2.5rem; padding-block: 1rem 3rem; }
@media (min-width: 62rem) { main { grid-template-columns: minmax(0, 1.65fr) minmax(0, 1fr); align-items: start; } }
main > div { display: grid; gap: 2.5rem; min-width: 0; }
section { min-width: 0; }
h2 { font-size: 1.375rem; line-height: 1.3; letter-spacing: -.01em; margin-bottom: .75rem; }
h2 + p { color: var(--soft); margin: -.4rem 0 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .9rem; box-shadow: var(--shadow); }
.pad { padding: 1.1rem 1.25rem; }

details + details { border-top: 1px solid var(--line); }
summary { display: flex; align-items: baseline; gap: .6rem; padding: .85rem 1.25rem; cursor: pointer; list-style: none; border-radius: .9rem; }
summary::-webkit-details-marker { display: none; }
summary:hover { color: var(--accent); }
summary h3 { font-size: 1.0625rem; font-weight: 600; flex: none; }
summary span { color: var(--soft); font-size: .9375rem; }
summary::after { content: ''; margin-left: auto; align-self: center; width: .5rem; height: .5rem; flex: none; border: solid var(--soft);
  border-width: 0 2px 2px 0; transform: rotate(45deg) translate(-.1rem, -.1rem); transition: transform .15s; }
details[open] > summary::after { transform: rotate(225deg) translate(-.1rem, -.1rem); }
.how { padding: 0 1.25rem 1.25rem; display: grid; gap: .9rem; }
.how ol, .trip { padding-left: 1.35rem; }
.how li + li { margin-top: .25rem; }
.trip li + li { margin-top: .6rem; }
.note { padding: .6rem .85rem; border-radius: .6rem; background: var(--wait-well); font-size: .9375rem; }

.snippet .label { display: block; color: var(--soft); font-size: .875rem; font-weight: 600; margin-bottom: .3rem; }
.snippet + .snippet { margin-top: .9rem; }
.how .snippet + .snippet { margin-top: 0; }
.box { display: flex; align-items: flex-start; gap: .5rem; padding: .4rem .4rem .4rem .9rem; background: var(--well); border: 1px solid var(--line); border-radius: .6rem; }
pre { flex: 1; min-width: 0; padding-block: .35rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-family: var(--mono); font-size: .875rem; }
button, .install { font: inherit; font-size: .875rem; font-weight: 600; border-radius: .5rem; padding: .45rem .85rem; cursor: pointer;
  border: 1px solid var(--line); background: var(--card); color: var(--text); flex: none; min-height: 2.25rem; }
button:hover { border-color: var(--accent); color: var(--accent); }
button[hidden] { display: none; }
button[aria-disabled=true] { opacity: .6; cursor: progress; }
.address button, .install { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.address button:hover, .install:hover { color: var(--on-accent); filter: brightness(1.1); }
.install { display: inline-block; text-decoration: none; justify-self: start; }

.checks { list-style: none; padding: 0; }
.checks li { padding: .8rem 0; border-top: 1px solid var(--line); }
.checks li:first-child { border-top: 0; padding-top: 0; }
.checks .row { display: flex; justify-content: space-between; gap: .75rem; align-items: baseline; }
.checks .name { font-weight: 600; }
.checks .found { color: var(--soft); font-size: .9375rem; overflow-wrap: anywhere; }
.state { font-size: .8125rem; font-weight: 600; padding: .1rem .6rem; border-radius: 1rem; background: var(--wait-well); color: var(--soft); flex: none; }
.state:empty { display: none; }
[data-state=passed] .state { background: var(--good-well); color: var(--good); }
[data-state=failed] .state { background: var(--bad-well); color: var(--bad); }
[data-state=failed] .found { color: var(--bad); }
#again { margin-top: .5rem; }
footer { border-top: 1px solid var(--line); padding-block: 1.5rem 2.5rem; color: var(--soft); font-size: .9375rem; }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media (max-width: 30rem) { .box { flex-direction: column; align-items: stretch; padding: .5rem .75rem; }
  .box button { align-self: flex-end; }
  .address { flex-direction: column; align-items: stretch; padding: .9rem; } }
@media (forced-colors: active) { .state, #summary { border: 1px solid; } }
`
