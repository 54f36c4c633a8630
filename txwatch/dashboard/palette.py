"""Colours and styles. Apart, so that the server starts without the libraries of charts, which only pages need.

Grounds and texts have a light and a dark value; the browser takes the one of the theme that is shown. Marks of charts
and chips have one colour each for both: at least 3 to 1 against either ground, and 4.5 to 1 under white text (WCAG 2.2,
1.4.3 and 1.4.11).
"""

PAPER, GROUND, INK = ("#fcfbf9", "#12161b"), ("#f3f0ea", "#1c2229"), ("#1d2733", "#e6e9ec")
MUTED, LINE, LINK = ("#5b6672", "#a3adb8"), ("#dcd7cd", "#323a44"), ("#235a8c", "#7db4e6")
WELL, WRONG = ("#2c6e49", "#67b98c"), ("#b3261e", "#ff8a80")
ACCENT, BLUE, GREEN, VIOLET, OCHRE, GREY = "#bf5417", "#2f74b0", "#2f7f55", "#8660b0", "#8a6914", "#66727f"
TEXT = "#7c8793"
"""Of texts within charts, which are drawn before the browser knows its theme: 3.5 to 1 against either ground."""
PRIMARY = ("#9c430e", "#e58b57")
SEVERITY = {"critical": "#c9302a", "high": ACCENT, "medium": BLUE, "low": GREY}
SERIES = [BLUE, ACCENT, GREEN, VIOLET, OCHRE, GREY]


def _both(colour: tuple[str, str]) -> str:
    return f"light-dark({colour[0]}, {colour[1]})"


CSS = f"""
<style>
  .block-container {{ padding-top: 4.2rem; max-width: 1340px; }}
  h1 {{ font-size: 1.7rem !important; padding: .2rem 0 .4rem !important; }}
  h2 {{ font-size: 1.05rem !important; padding: 1.1rem 0 .2rem !important; }}
  .tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: .6rem; margin: .3rem 0; }}
  .tile {{ background: {_both(GROUND)}; border-radius: 8px; padding: .65rem .8rem; min-width: 0; }}
  .tile .name {{ color: {_both(MUTED)}; font-size: .78rem; }}
  .tile .value {{ font-size: 1.3rem; font-weight: 600; line-height: 1.35; overflow-wrap: anywhere; }}
  .tile .note {{ color: {_both(MUTED)}; font-size: .74rem; min-height: 1em; overflow-wrap: anywhere; }}
  .item {{ border-top: 1px solid {_both(LINE)}; padding: .55rem 0 .5rem; }}
  .item .head {{ display: flex; flex-wrap: wrap; gap: .45rem; align-items: baseline; }}
  .item .head {{ font-size: .8rem; color: {_both(MUTED)}; }}
  .item .text {{ margin-top: .15rem; overflow-wrap: anywhere; font-size: .93rem; line-height: 1.4; }}
  .chip {{ color: white; border-radius: 4px; padding: .05rem .42rem; font-size: .74rem; font-weight: 600; }}
  .chip {{ white-space: nowrap; }}
  .chip.plain {{ color: {_both(INK)}; background: {_both(GROUND)}; font-weight: 500; }}
  .mono {{ font-family: ui-monospace, monospace; font-size: .84em; }}
  a.mono, a.plain {{ color: {_both(LINK)}; text-decoration: none; }}
  a.mono:hover, a.plain:hover {{ text-decoration: underline; }}
  .empty {{ background: {_both(GROUND)}; border-radius: 8px; padding: 1.2rem; }}
  .empty {{ color: {_both(MUTED)}; text-align: center; font-size: .9rem; }}
  .note {{ color: {_both(MUTED)}; font-size: .8rem; }}
  [data-testid="stCaptionContainer"] {{ opacity: 1; color: {_both(MUTED)}; }}
  [data-testid="stCaptionContainer"] p {{ opacity: 1; color: {_both(MUTED)}; }}
  .ok {{ color: {_both(WELL)}; }} .unclear {{ color: {_both(MUTED)}; }}
  .bad {{ color: {_both(WRONG)}; font-weight: 600; }}
  .scroll {{ overflow-x: auto; }}
  table.plain {{ border-collapse: collapse; width: 100%; font-size: .86rem; }}
  table.plain th {{ text-align: left; color: {_both(MUTED)}; font-weight: 500; padding: .25rem .7rem .25rem 0; }}
  table.plain td {{ border-top: 1px solid {_both(LINE)}; padding: .3rem .7rem .3rem 0; vertical-align: top; }}
  table.plain .number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
  table.plain .number {{ padding-right: 1.5rem; }}
  table.plain td:last-child, table.plain th:last-child {{ padding-right: .2rem; }}
  .coins {{ display: grid; grid-template-columns: minmax(0, 1fr) minmax(80px, 22%) minmax(0, 1fr); }}
  .coins {{ align-items: center; }}
  .coins img {{ width: 100%; margin-top: 1.6rem; }}
  .coins > div > .note {{ height: 1.6rem; }}
  .coin {{ height: 46px; overflow: hidden; border-left: 4px solid; padding: .15rem .6rem; font-size: .86rem; }}
  .coins > div:first-child .coin {{ border-left: 0; border-right: 4px solid; text-align: right; }}
  .coin .of, .coin .note {{ white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }}
  .st-key-rule textarea {{ font-family: ui-monospace, monospace; font-size: .86rem; }}
  @media (max-width: 640px) {{
    .st-key-typed {{ min-width: 100%; }}
    .coins {{ grid-template-columns: minmax(0, 1fr); }} .coins img {{ display: none; }}
    .coins > div:first-child .coin {{ border-right: 0; border-left: 4px solid; text-align: left; }}
    .coins > div:last-child {{ margin-top: .8rem; }}
    table.plain tr {{ display: block; border-top: 1px solid {_both(LINE)}; padding: .35rem 0; }}
    table.plain tr.columns {{ display: none; }}
    table.plain td, table.plain td.number {{ display: flex; justify-content: space-between; gap: 1rem; }}
    table.plain td, table.plain td.number {{ border: 0; padding: .05rem 0; text-align: right; white-space: normal; }}
    table.plain td {{ overflow-wrap: anywhere; }}
    table.plain td::before {{ content: attr(data-column); color: {_both(MUTED)}; text-align: left; flex: none; }}
    table.plain td:empty {{ display: none; }}
  }}
</style>
"""
