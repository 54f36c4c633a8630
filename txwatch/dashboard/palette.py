"""Colours and styles. Apart, so that the server starts without the libraries of charts, which only pages need."""

PAPER, GROUND, INK, MUTED, LINE = "#fcfbf9", "#f3f0ea", "#1d2733", "#66717d", "#dcd7cd"
ACCENT, BLUE, GREEN = "#c4561a", "#2b6291", "#3d7a55"
SEVERITY = {"critical": "#a8231c", "high": "#c4561a", "medium": "#2b6291", "low": "#7b8794"}
SERIES = [BLUE, ACCENT, GREEN, "#7a5c99", "#b08d2e", "#7b8794"]

CSS = f"""
<style>
  .block-container {{ padding-top: 4.2rem; max-width: 1180px; }}
  h1 {{ font-size: 1.7rem !important; padding-bottom: .7rem !important; }}
  h3 {{ font-size: 1.05rem !important; padding: 1.1rem 0 .2rem !important; }}
  .tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(138px, 1fr)); gap: .6rem; margin: .3rem 0; }}
  .tile {{ background: {GROUND}; border-radius: 8px; padding: .65rem .8rem; min-width: 0; }}
  .tile .name {{ color: {MUTED}; font-size: .78rem; }}
  .tile .value {{ font-size: 1.45rem; font-weight: 600; line-height: 1.35; overflow-wrap: anywhere; }}
  .tile .note {{ color: {MUTED}; font-size: .74rem; min-height: 1em; }}
  .item {{ border-top: 1px solid {LINE}; padding: .55rem 0 .5rem; }}
  .item .head {{ display: flex; flex-wrap: wrap; gap: .45rem; align-items: baseline; }}
  .item .head {{ font-size: .8rem; color: {MUTED}; }}
  .item .text {{ margin-top: .15rem; overflow-wrap: anywhere; font-size: .93rem; line-height: 1.4; }}
  .chip {{ color: white; border-radius: 4px; padding: .05rem .42rem; font-size: .74rem; font-weight: 600; }}
  .chip.plain {{ color: {INK}; background: {GROUND}; font-weight: 500; }}
  .mono {{ font-family: ui-monospace, monospace; font-size: .84em; }}
  a.mono {{ color: {BLUE}; text-decoration: none; }}
  .empty {{ background: {GROUND}; border-radius: 8px; padding: 1.2rem; }}
  .empty {{ color: {MUTED}; text-align: center; font-size: .9rem; }}
  .ok {{ color: {GREEN}; }} .bad {{ color: {SEVERITY["critical"]}; font-weight: 600; }} .unclear {{ color: {MUTED}; }}
  .scroll {{ overflow-x: auto; }}
  table.plain {{ border-collapse: collapse; width: 100%; font-size: .86rem; }}
  table.plain th {{ text-align: left; color: {MUTED}; font-weight: 500; padding: .25rem .7rem .25rem 0; }}
  table.plain td {{ border-top: 1px solid {LINE}; padding: .3rem .7rem .3rem 0; vertical-align: top; }}
  table.plain .number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
  table.plain .number {{ padding-right: 1.5rem; }}
  table.plain td:last-child, table.plain th:last-child {{ padding-right: .2rem; }}
</style>
"""
