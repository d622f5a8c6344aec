/// The page's style sheet. Light and dark follow the reader's system; numbers have digits of one width.
let reportStyle = """
  :root {
    color-scheme: light dark;
    --paper: #fdfdfb; --ink: #1d2126; --soft: #5f6873; --line: #e3e4e0; --card: #ffffff; --code: #f4f4f0;
    --s0: #1f5fa8; --s1: #c2571a; --s2: #2f7d4f; --s3: #7a4fa3; --guide: #8a8f98;
    --good: #2f7d4f; --bad: #b9412f; --warn: #fff5dc; --warnline: #d9a520; --tint: #1f5fa814;
  }
  @media (prefers-color-scheme: dark) {
    :root {
      --paper: #14171b; --ink: #e6e8ea; --soft: #9aa3ad; --line: #2c3138; --card: #1a1e23; --code: #1f242a;
      --s0: #6fb0f2; --s1: #f0955a; --s2: #6cc492; --s3: #b795e0; --guide: #808893;
      --good: #6cc492; --bad: #ef7f6d; --warn: #33290f; --warnline: #b98c1d; --tint: #6fb0f21f;
    }
  }
  * { box-sizing: border-box; }
  html { -webkit-text-size-adjust: 100%; }
  body {
    margin: 0; background: var(--paper); color: var(--ink);
    font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans",
      sans-serif;
  }
  main, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
  header { padding: 48px 0 8px; }
  h1 {
    font-size: clamp(1.7rem, 4vw, 2.4rem); line-height: 1.15; margin: 0 0 10px; letter-spacing: -.018em;
    overflow-wrap: anywhere;
  }
  .lead { font-size: 1.12rem; color: var(--soft); margin: 0; max-width: 50em; }
  section { margin-top: 52px; }
  h2 { font-size: 1.3rem; margin: 0 0 14px; letter-spacing: -.01em; }
  h3 { font-size: 1rem; margin: 26px 0 8px; }
  p { max-width: 46em; margin: 0 0 14px; color: var(--soft); }
  aside {
    margin-top: 28px; padding: 14px 18px; background: var(--warn); border-left: 4px solid var(--warnline);
    border-radius: 4px;
  }
  aside ul { margin: 6px 0 0; padding-left: 1.2em; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; width: 100%; font-size: .94rem; }
  th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
  th { font-weight: 600; color: var(--soft); font-size: .82rem; }
  td, dd, .tick { font-variant-numeric: tabular-nums; }
  .n { text-align: right; white-space: nowrap; }
  .results .protocol th { color: var(--ink); font-size: .94rem; padding-top: 22px; }
  .results .protocol span {
    position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 48px); white-space: normal;
  }
  .results td:first-child { white-space: nowrap; } .results .best td:first-child { font-weight: 600; }
  .results b { font-weight: 600; }
  .plot { width: 32%; min-width: 190px; padding: 0 22px 0 14px; }
  .plot svg { display: block; width: 100%; height: 34px; overflow: visible; }
  th.plot svg { height: 22px; }
  .whisker { stroke: var(--s0); stroke-width: 2.5; stroke-linecap: round; }
  .mean { fill: var(--s0); }
  tr:not(.best) .whisker { stroke: var(--guide); } tr:not(.best) .mean { fill: var(--guide); }
  .notes { color: var(--soft); font-size: .88rem; padding-left: 1.2em; }
  .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 18px; }
  .charts figure {
    margin: 0; padding: 14px 16px 8px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  }
  .charts figcaption {
    font-weight: 600; font-size: .95rem; margin-bottom: 8px; display: flex; flex-wrap: wrap; gap: 4px 16px;
    align-items: baseline;
  }
  .charts svg { display: block; width: 100%; height: auto; }
  .key { font-weight: 400; font-size: .82rem; color: var(--soft); }
  .key::before {
    content: ""; display: inline-block; width: 14px; height: 3px; margin-right: 6px; vertical-align: middle;
    border-radius: 2px; background: currentColor;
  }
  .key.s0::before { background: var(--s0); } .key.s1::before { background: var(--s1); }
  .key.s2::before { background: var(--s2); } .key.s3::before { background: var(--s3); }
  .grid { stroke: var(--line); stroke-width: 1; }
  .axis { stroke: var(--soft); stroke-width: 1; }
  svg text { font-size: 11.5px; fill: var(--soft); }
  line.guide { stroke: var(--guide); stroke-width: 1.3; stroke-dasharray: 5 4; }
  text.guide { font-style: italic; }
  .s { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
  .s.s0 { stroke: var(--s0); } .s.s1 { stroke: var(--s1); } .s.s2 { stroke: var(--s2); } .s.s3 { stroke: var(--s3); }
  .spread { stroke-width: 1.3; opacity: .6; } .spread.s0 { stroke: var(--s0); } .spread.s1 { stroke: var(--s1); }
  .spread.s2 { stroke: var(--s2); } .spread.s3 { stroke: var(--s3); }
  .p { opacity: 0; } .p.dot, .p:hover { opacity: 1; }
  .p.s0 { fill: var(--s0); } .p.s1 { fill: var(--s1); } .p.s2 { fill: var(--s2); } .p.s3 { fill: var(--s3); }
  div.grid {
    display: grid; gap: 12px 32px; grid-template-columns: repeat(auto-fit, minmax(min(100%, var(--row)), 1fr));
  }
  .row { display: flex; gap: 14px; align-items: flex-start; }
  .row .name { flex: 0 0 110px; font-size: .84rem; color: var(--soft); padding-top: 4px; overflow-wrap: anywhere; }
  .pictures { display: flex; flex-wrap: wrap; gap: 8px; }
  .pictures figure { margin: 0; width: var(--size); }
  .pictures img {
    display: block; width: var(--size); height: auto; border-bottom: 3px solid transparent; box-sizing: content-box;
    image-rendering: pixelated; border-radius: 3px; background: var(--line); background-clip: padding-box;
  }
  .pictures figcaption {
    font-size: .7rem; line-height: 1.25; color: var(--soft); margin-top: 4px; overflow-wrap: anywhere;
  }
  .query img { outline: 3px solid var(--s0); outline-offset: -1px; border-bottom: 0; margin-bottom: 3px; }
  .pictures .query { margin-right: 12px; }
  .same img { border-bottom-color: var(--good); } .different img { border-bottom-color: var(--bad); }
  .different figcaption { color: var(--bad); }
  .classes { width: auto; min-width: min(100%, 620px); } .classes th, .classes td { padding: 6px 12px; }
  .confusion { width: auto; font-size: .8rem; } .confusion th, .confusion td { padding: 3px 5px; }
  .confusion th { font-weight: 400; text-align: right; white-space: nowrap; }
  .turned { height: 110px; vertical-align: bottom; }
  .turned span { writing-mode: vertical-rl; transform: rotate(180deg); }
  .right { background: color-mix(in srgb, var(--good) var(--share), transparent); }
  .wrong { background: color-mix(in srgb, var(--bad) var(--share), transparent); }
  .bar { background: linear-gradient(to right, var(--tint) var(--share), transparent var(--share)); min-width: 110px; }
  dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 0 36px; margin: 0; }
  dl div { display: flex; gap: 12px; padding: 6px 0; border-bottom: 1px solid var(--line); }
  dt { flex: 0 0 130px; color: var(--soft); font-size: .9rem; }
  dd { margin: 0; font-size: .94rem; overflow-wrap: anywhere; }
  pre {
    background: var(--code); padding: 16px 18px; border-radius: 8px; margin: 0; white-space: pre-wrap;
    overflow-wrap: anywhere;
  }
  pre, code { font: .86rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
  details { margin-top: 44px; } details details { margin: 0; }
  summary { cursor: pointer; color: var(--soft); margin-bottom: 10px; }
  footer { margin-top: 60px; padding-bottom: 40px; color: var(--soft); font-size: .85rem; }
  @media (max-width: 600px) {
    main, footer { padding: 0 16px; }
    header { padding-top: 28px; }
    .row { flex-direction: column; gap: 4px; }
    .row .name { flex: none; }
  }
  @media print { body { font-size: 11pt; } section, figure { break-inside: avoid; } }

  """
