"""Style sheet of the report: one palette for light pages and one for dark ones."""

from __future__ import annotations

CSS = """
:root {
  --page: #f6f6f3; --card: #ffffff; --ink: #1b1b1a; --soft: #5f5e59; --faint: #8d8b84;
  --line: #e6e5e0; --track: #edece8; --video: #2a78d6; --audio: #d9591f; --text: #12875a;
  --accent: #2a78d6; --other: #9a988f; --right: #12875a; --chance: #1b1b1a;
  --c0: #2a78d6; --c1: #d9591f; --c2: #12875a; --c3: #8e5bd0; --c4: #c2387d; --c5: #8a7a12;
  --c6: #0f8fa3; --c7: #7a4a2b; --c8: #5f6b7a; --c9: #b03a3a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #141413; --card: #1d1d1b; --ink: #f2f1ec; --soft: #b6b4ab; --faint: #8b897f;
    --line: #31312e; --track: #2b2b28; --video: #5b9eee; --audio: #f0824e; --text: #3dbd8b;
    --accent: #5b9eee; --other: #77756c; --right: #3dbd8b; --chance: #f2f1ec;
    --c0: #5b9eee; --c1: #f0824e; --c2: #3dbd8b; --c3: #b48cf0; --c4: #ee72ab; --c5: #c9b53f;
    --c6: #3fc0d4; --c7: #c08f6c; --c8: #9aa7b8; --c9: #e87070;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
header { margin-bottom: 22px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 4px; }
h3 { font-size: 14px; margin: 0 0 2px; font-weight: 600; }
* + h3 { margin-top: 16px; }
p { margin: 0 0 10px; }
.verdict { font-size: 17px; max-width: 75ch; }
.lead, .hint { color: var(--soft); }
.hint { font-size: 13.5px; max-width: 75ch; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 20px 22px; margin: 0 0 16px;
}
.tiles {
  display: flex; flex-wrap: wrap; gap: 1px;
  background: var(--line); border: 1px solid var(--line); border-radius: 12px; overflow: hidden;
  margin-bottom: 16px;
}
.tile { flex: 1 1 150px; background: var(--card); padding: 12px 16px; }
.tile span { display: block; color: var(--soft); font-size: 12.5px; }
.tile strong { font-size: 20px; font-weight: 600; overflow-wrap: anywhere; }
.tile small { display: block; color: var(--faint); font-size: 12px; }
dl.facts {
  display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0;
  font-size: 13.5px;
}
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.charts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));
  gap: 22px 28px; margin-top: 12px;
}
.charts.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr)); }
.charts.small svg text { font-size: 15px; }
.charts + .charts { margin-top: 24px; }
figure { margin: 0; min-width: 0; }
.flow { columns: 2 400px; column-gap: 28px; margin-top: 12px; }
.flow figure { break-inside: avoid; margin-bottom: 18px; }
.flow tbody th { white-space: normal; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 12.5px; fill: var(--soft); font-family: inherit; }
svg text.label { fill: var(--faint); }
svg text.note { fill: var(--ink); font-size: 12px; }
.grid { stroke: var(--line); }
.axis { stroke: var(--faint); }
.reference { stroke: var(--chance); stroke-dasharray: 5 4; opacity: .65; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
.line.faint { stroke-width: 1; opacity: .35; }
.dot { fill: var(--c); stroke: var(--card); stroke-width: 2; }
.area { fill: var(--c); fill-opacity: .28; stroke: var(--c); stroke-width: 1.5; }
.mean { stroke: var(--c); stroke-width: 1.5; stroke-dasharray: 2 3; }
.points { fill: var(--c); fill-opacity: .75; stroke: var(--card); stroke-width: .8; }
.video { --c: var(--video); } .audio { --c: var(--audio); } .text { --c: var(--text); }
.accent { --c: var(--accent); } .other { --c: var(--other); } .right { --c: var(--right); }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
.c8 { --c: var(--c8); } .c9 { --c: var(--c9); }
.heat .field { fill: var(--track); }
.heat path { fill: var(--c); }
.heat text.on { fill: var(--card); }
.heat text.off { fill: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--soft); }
.legend span { display: inline-flex; align-items: center; gap: 6px; }
.key { width: 11px; height: 11px; border-radius: 3px; background: var(--c); }
.key.audio { clip-path: polygon(50% 0, 100% 100%, 0 100%); border-radius: 0; }
.key.video, .key.accent { border-radius: 50%; }
.key.mark { width: 2px; height: 13px; border-radius: 0; background: var(--chance); }
.scroll { overflow-x: auto; margin: 8px 0 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 12px 7px 0; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: 13px; }
tbody th { font-weight: 500; white-space: nowrap; }
td.number { white-space: nowrap; }
td small, .cell small { color: var(--faint); }
.cell { display: flex; align-items: center; gap: 10px; min-width: 150px; }
.cell > span:last-child { white-space: nowrap; min-width: 96px; text-align: right; }
.cell { max-width: 420px; padding-right: 8px; }
.bar {
  position: relative; flex: 1; min-width: 56px; height: 12px; border-radius: 3px;
  background: var(--track);
}
.bar i {
  position: absolute; inset: 0 auto 0 0; min-width: 1px; border-radius: 3px;
  background: var(--c);
}
.bar u {
  position: absolute; top: 5px; height: 2px; background: var(--ink); opacity: .55;
  text-decoration: none;
}
.bar b { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--chance); }
.example { border-top: 1px solid var(--line); padding: 14px 0 12px; }
.example:first-of-type { border-top: 0; padding-top: 6px; }
.query { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; margin-bottom: 8px; }
.query q { font-size: 16px; font-weight: 600; }
.query img { height: 40px; width: auto; border-radius: 4px; }
.query .rank { color: var(--soft); font-size: 13.5px; }
.results { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 10px; }
.result {
  border: 1px solid var(--line); border-radius: 8px; overflow: hidden; font-size: 12.5px;
  line-height: 1.35;
}
.result.hit { border-color: var(--right); box-shadow: 0 0 0 1px var(--right); }
.result img { width: 100%; display: block; background: var(--track); min-height: 20px; }
.result div { padding: 5px 8px 7px; overflow-wrap: anywhere; }
.result .place { display: flex; justify-content: space-between; color: var(--soft); padding: 0; }
.result.hit .place b { color: var(--right); }
.predictions { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px; }
.predictions + h3 { margin-top: 18px; }
.predictions { margin-top: 6px; }
.example {
  border: 1px solid var(--line); border-radius: 8px; overflow: hidden; font-size: 12.5px;
  line-height: 1.35;
}
.example img { width: 100%; display: block; background: var(--track); min-height: 20px; }
.example > div { padding: 6px 10px 9px; }
.example .where { color: var(--faint); overflow-wrap: anywhere; }
.prediction { display: grid; grid-template-columns: minmax(0, 11em) 1fr 4em; gap: 8px; }
.prediction { align-items: center; padding-top: 3px; }
.prediction > span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.prediction > span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.prediction.true > span:first-child { color: var(--right); font-weight: 600; }
.prediction .bar { height: 8px; }
td.best strong { color: var(--right); }
.key.round { display: inline-block; margin-right: 6px; border-radius: 50%; }
tr.group th { padding-top: 18px; color: var(--soft); font-weight: 600; white-space: normal; }
.compared td { vertical-align: top; }
.compared td.words { font-size: 13px; min-width: 130px; }
.warning { color: var(--audio); }
footer { color: var(--faint); font-size: 12.5px; }
@media (max-width: 640px) {
  main { padding: 18px 12px 40px; }
  section { padding: 16px 14px; }
  h1 { font-size: 22px; }
  .tile { flex-basis: 130px; }
  .predictions { grid-template-columns: minmax(0, 1fr); }
  .results { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  svg text { font-size: 15px; }
  dl.facts { grid-template-columns: 1fr; gap: 0; }
  dl.facts dd { margin-bottom: 6px; }
}
@media print {
  body { background: none; }
  section { break-inside: avoid; }
}
"""
