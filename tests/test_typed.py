"""Every command of the pages is typed, here or by another test, or stands in the one list of those that are not, with
the reason. Each `txwatch ...` that is named anywhere is one that the command line takes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer import BadParameter
from typer.main import get_command

from tests.channels.receiver import Receiver, receiver
from tests.databases import copied_database, database_name
from tests.deploy.processes import quiet_environment
from tests.populated import Populated
from tests.ports import free_port, is_used
from tests.serving import KEY, serving, settings_of
from tests.waiting import wait_until
from txwatch.cli import app
from txwatch.store.database import connect, scalar

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
LANGUAGES = {"sh", "python", "json", "yaml", "text"}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
TYPED_ELSEWHERE = {
    ("docs/operations.md", "### Continuous archiving"): "tests/system/test_archiving.py",
    ("docs/scaling.md", "## Several machines with Celery"): "tests/deploy/test_celery_document.py",
}
"""Sections whose commands another test types, which reads them from the page or does the same."""
NOT_TYPED = {
    r"git clone ": "needs the address of a repository",
    r"make (demo|test|lint|docs|pictures|node|run)\b": "what it does is tested by itself; that the target exists, too",
    r"\w+=\S+ make demo": "the same",
    r"txwatch (evaluate-day|telegram|run)\b": "takes minutes, or serves until it is ended; tested by itself",
    r"TELEGRAM_API_URL=\S+ .*txwatch run": "the same",
    r"docker compose ": "needs a Docker Engine: `make deploy-test`",
    r"(kubectl|helm) ": "needs a cluster",
    r"\. \.venv/bin/activate": "of whoever types; the environment of the tests is one",
    r"python3 receiver\.py": "serves until it is ended, beside the others",
}
"""What no test types as it stands, by how it begins, and why not."""


class Typed(NamedTuple):
    """A command of a page, in one line, and the heading that it stands below."""

    page: str
    section: str
    command: str


def commands() -> Iterator[Typed]:
    """All commands of the blocks that are for a shell, without comments."""
    for page in PAGES:
        text = page.read_text()
        for block in FENCE.finditer(text):
            if block[2] != "sh":
                continue
            headings = re.findall(r"^##+ .+$", text[: block.start()], re.MULTILINE)
            for line in block[3].replace("\\\n", " ").splitlines():
                written = re.sub(r"\s{2,}# ?.*$", "", line.strip())
                if shlex.split(written):
                    yield Typed(str(page.relative_to(PROJECT)), headings[-1] if headings else "", written)


def is_typed_here(typed: Typed) -> bool:
    elsewhere = (typed.page, typed.section) in TYPED_ELSEWHERE
    return not elsewhere and not any(re.match(begins, typed.command) for begins in NOT_TYPED)


def of_page(page: str) -> list[str]:
    return [typed.command for typed in commands() if typed.page == page and is_typed_here(typed)]


def blocks(page: str, language: str) -> list[str]:
    return [block[3] for block in FENCE.finditer((PROJECT / page).read_text()) if block[2] == language]


def test_every_block_says_what_it_is() -> None:
    for page in PAGES:
        assert {block[2] for block in FENCE.finditer(page.read_text())} <= LANGUAGES, page.name


def test_every_command_is_accounted_for() -> None:
    found = list(commands())
    assert len(found) > 50
    here = {typed for typed in found if is_typed_here(typed)}
    assert {typed.page for typed in here} == set(SESSIONS)
    for section in TYPED_ELSEWHERE:
        assert any((typed.page, typed.section) == section for typed in found), section
    for begins in NOT_TYPED:
        assert any(re.match(begins, typed.command) for typed in found), begins


@pytest.mark.parametrize("test", sorted(set(TYPED_ELSEWHERE.values())))
def test_what_is_typed_elsewhere_has_its_test(test: str) -> None:
    assert (PROJECT / test).exists()


def named() -> set[str]:
    """Every `txwatch ...` of the pages, in blocks and in the text."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        found |= set(re.findall(r"`(txwatch [a-z][^`\n]*)`", text))
    return found | {typed.command for typed in commands() if typed.command.startswith("txwatch ")}


@pytest.mark.parametrize("line", sorted(named()))
def test_the_command_line_takes_what_is_named(line: str) -> None:
    _, *words = shlex.split(line.replace("...", "X").replace("…", "X"))
    command = get_command(app)
    while hasattr(command, "commands") and words:
        name = words.pop(0).rstrip(",")
        assert name in command.commands, line
        command = command.commands[name]
    if hasattr(command, "commands"):
        return  # a group that is named as a whole
    said = ""
    try:
        command.make_context(command.name, words)
    except BadParameter as error:
        said = error.format_message()
    # A command that is named without what it needs is not meant to be typed so.
    assert not said or said.startswith("Missing "), said


class Session:
    """A terminal in a folder of its own, on a database that has worked for some hours, with an API and a receiver."""

    def __init__(self, folder: Path, database_url: str, address: str, hook: Receiver, txid: str) -> None:
        self._folder, self._address, self._hook = folder, address, hook
        self.environment = {
            **quiet_environment(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "250",
            "DATABASE_URL": database_url,
            "TXWATCH_HOME": str(folder / "home"),
            "TXWATCH_WEBHOOK_PRIVATE": "true",
            "TXWATCH_API_KEY": KEY,
            "TXID": txid,
            "PYTHONWARNINGS": "ignore",
        }

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def type(self, lines: list[str]) -> str:
        """Type the lines, with what exists here in place of what exists elsewhere, and give what they say."""
        script = "\n".join(lines).replace("http://127.0.0.1:8000", self._address)
        script = script.replace("https://siem.example.org/hooks/txwatch", self._hook.url)
        done = subprocess.run(
            ["bash", "-ec", script], env=self.environment, cwd=self._folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def session(populated: Populated, server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    url = copied_database(server_url, database_name(populated.database_url))
    with connect(url) as connection:
        txid = str(scalar(connection, "SELECT alert_key FROM alerts WHERE length(alert_key) = 64 LIMIT 1"))
    with serving(settings_of(url, populated.home)) as address, receiver() as hook:
        yield Session(tmp_path_factory.mktemp("typed"), url, address, hook, txid)


def first_rule(session: Session) -> None:
    """The tutorial, with its own receiver in a terminal of its own."""
    page, port = "docs/tutorial/first-rule.md", free_port()
    session.write("first.yaml", blocks(page, "yaml")[0])
    session.write("receiver.py", blocks(page, "python")[0].replace("9000", str(port)))
    log = session.environment["TXWATCH_HOME"] + ".receiver"
    with Path(log).open("w") as output:
        serving = subprocess.Popen(
            [sys.executable, str(Path(log).parent / "receiver.py")], stdout=output, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: is_used(port), "the receiver listens")
            said = session.type([line.replace("9000", str(port)) for line in of_page(page)])
        finally:
            serving.kill()
            serving.wait()
    assert "my-first is a rule of 2 comparisons" in said
    assert "with the cap of 60 an hour" in said
    assert "It arrived at mine." in said
    assert "my-first is active, by version 2" in said
    assert Path(log).read_text().startswith("channel.test | ")


def rules(session: Session) -> None:
    session.write("fees.yaml", blocks("docs/rules.md", "yaml")[0])
    assert "my-fees is active, by version 3" in session.type(of_page("docs/rules.md"))


def channels(session: Session) -> None:
    said = session.type(of_page("docs/channels.md"))
    assert "It arrived at siem." in said
    listed = session.type(["txwatch channels list"])
    assert all(f" {name} " in listed for name in ("siem", "team", "room", "oncall", "mail", "teams", "guild"))


def alerts(session: Session) -> None:
    session.write("exchanges.csv", "address,entity,source\n1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa,Somebody,a book\n")
    session.write(
        "mixers.yaml",
        "title: Mixers\ncreator: somebody\ncurrency: BTC\ntags:\n"
        "  - {address: 12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S, label: A mixer, source: 'https://example.org/mixers',"
        " category: mixing_service}\n",
    )
    lines = [line.replace("ADDRESS", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa") for line in of_page("docs/alerts.md")]
    said = session.type([*lines, "head -c 4 cases.parquet"])
    assert "Somebody" in said
    assert said.endswith("PAR1")


def api(session: Session) -> None:
    lines = [line.replace("curl ", "curl --fail --silent --show-error ", 1) for line in of_page("docs/api.md")]
    # A stream has no end: its first event is enough.
    said = session.type([f"{{ {line} || true; }} | head -n 2" if " -N " in line else line for line in lines])
    assert "alice" in said
    assert "event: begin" in said
    assert said.count('"items"') == 2


def own_node(session: Session) -> None:
    """`.venv/bin/txwatch doctor` says what is missing here, and ends with 1 for that."""
    (line,) = of_page("docs/tutorial/own-node.md")
    said = session.type([f"{line.replace('.venv/bin/', '')} || true"])
    assert "database" in said


def archive(session: Session) -> None:
    lines = [line.replace("bc1q...", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa") for line in of_page("docs/archive.md")]
    said = session.type([*lines, "head -c 4 march.parquet"])
    assert "day,count_star()" in said
    assert said.endswith("PAR1")


SESSIONS = {
    "docs/alerts.md": alerts,
    "docs/archive.md": archive,
    "docs/api.md": api,
    "docs/channels.md": channels,
    "docs/rules.md": rules,
    "docs/tutorial/first-rule.md": first_rule,
    "docs/tutorial/own-node.md": own_node,
}


@pytest.mark.parametrize("page", SESSIONS)
def test_the_commands_of_a_page_do_what_it_says(page: str, session: Session) -> None:
    if shutil.which("curl") is None and any("curl" in line for line in of_page(page)):
        pytest.skip("curl is not installed")
    SESSIONS[page](session)
