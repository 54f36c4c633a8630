"""The spool gives back in order what was written, takes no more than its bound, and outlives its writer."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders import transaction
from txwatch.ingest.batch import Batch
from txwatch.ingest.spool import Spool, SpoolFullError, UnreadableBatchError
from txwatch.store.gaps import FeedGap
from txwatch.store.transactions import QuarantinedMessage
from txwatch.wire.messages import WireBlock

T0 = datetime(2024, 3, 14, 12, 0, 0, 123_456, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def batch(n: int, size: int = 1) -> Batch:
    start = T0 + n * SECOND
    return Batch(
        start,
        start + SECOND,
        [transaction(txid=f"{n * 1_000 + i:064x}", seen_at=start) for i in range(size)],
        blocks=[WireBlock("0" * 64, 834_000 + n, 1)],
        malformed=[QuarantinedMessage(start, "not JSON", b"\xff\0", 9)],
        gaps=[FeedGap(start, None, "connection closed")],
        received=size + 2,
    )


def drained(spool: Spool) -> list[Batch]:
    batches = []
    while oldest := spool.first():
        path, found = oldest
        spool.remove(path)
        batches.append(found)
    return batches


def test_batches_come_back_whole_and_in_the_order_of_what_they_cover(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for n in (3, 1, 2):
        spool.append(batch(n))
    assert Spool(tmp_path).heard_through(T0 + SECOND) == T0 + 4 * SECOND
    assert drained(spool) == [batch(1), batch(2), batch(3)]
    assert spool.is_empty
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_others_heard_counts_as_far_as_it_goes_on_without_a_hole(tmp_path: Path) -> None:
    one, other, own = Spool(tmp_path), Spool(tmp_path), Spool(tmp_path)
    one.append(batch(1))
    one.append(batch(3))  # it was silent between them
    other.append(batch(6))
    own.append(batch(7))
    assert own.heard_through(T0) == T0, "nobody heard the first second"
    assert own.heard_through(T0 + SECOND) == T0 + 4 * SECOND
    assert own.heard_through(T0 + 5 * SECOND) == T0 + 5 * SECOND
    assert own.heard_through(T0 + 6 * SECOND) == T0 + 7 * SECOND
    assert Spool(tmp_path).heard_through(T0 + 6 * SECOND) == T0 + 8 * SECOND
    one.append(batch(5))
    assert own.heard_through(T0 + 2 * SECOND) == T0 + 7 * SECOND


def fill(spool: Spool) -> None:
    for n in range(1_000):
        spool.append(batch(n, size=10))


def test_the_bound_is_kept_and_said(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=50_000)
    with pytest.raises(SpoolFullError, match=r"holds [\d,]+ of at most 50,000 bytes: .* TXWATCH_SPOOL_MB"):
        fill(spool)
    assert 40_000 < spool.bytes <= 50_000
    assert drained(spool)[0] == batch(0, size=10)
    spool.append(batch(9_999))
    spool.close()


def test_a_disk_that_takes_no_more_is_a_full_spool(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file where the folder should be")
    with pytest.raises(SpoolFullError, match="takes no more"):
        Spool(tmp_path / "root").append(batch(1))


def test_only_the_spool_of_a_worker_that_has_ended_is_adopted(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from tests.ingest.test_spool import batch\n"
        "from txwatch.ingest.spool import Spool\n"
        "spool = Spool(pathlib.Path(sys.argv[1]))\n"
        "spool.append(batch(1)); spool.append(batch(2))\n"
        "print('spooled', flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert owner.stdout is not None
    owner.stdout.readline()
    heir = Spool(tmp_path)
    heir.append(batch(3))
    assert heir.adopt_orphans() == 0, "its owner is alive"
    assert heir.heard_through(T0 + SECOND) == T0 + 3 * SECOND, "what it heard itself says nothing of what was before"
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert heir.adopt_orphans() == 2
    assert Spool(tmp_path).adopt_orphans() == 0, "another heir was first"
    assert drained(heir) == [batch(1), batch(2), batch(3)]
    heir.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-5], id="cut"),
        pytest.param(lambda data: data.replace(b"connection closed", b"connection \xfdlosed"), id="no text"),
    ],
)
def test_a_batch_that_cannot_be_read_is_named_with_its_stretch_and_kept_aside(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    spool = Spool(tmp_path)
    spool.append(batch(1))
    spool.append(batch(2))
    [damaged, _] = sorted(tmp_path.rglob("*.batch"))
    damaged.write_bytes(damage(damaged.read_bytes()))
    with pytest.raises(UnreadableBatchError) as error:
        spool.first()
    assert (error.value.seen_from, error.value.seen_through) == (T0 + SECOND, T0 + 2 * SECOND)
    assert drained(spool) == [batch(2)]
    assert damaged.with_suffix(".unreadable").exists()
    spool.close()
    assert damaged.with_suffix(".unreadable").exists()


def test_a_folder_that_cannot_be_read_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (1, 2):
        writer = Spool(tmp_path)
        writer.append(batch(n))
        writer.close()
    closed = min(tmp_path.iterdir())
    listed = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    heir = Spool(tmp_path)
    assert heir.adopt_orphans() == 1
    assert heir.heard_through(T0 + 3 * SECOND) >= T0 + 3 * SECOND
    assert len(drained(heir)) == 1
    heir.close()


def test_a_landed_batch_that_cannot_be_removed_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    for n in (1, 2):
        spool.append(batch(n))

    def unlink(path: Path, **_: bool) -> None:
        raise OSError(30, "Read-only file system", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink)
        assert drained(spool) == [batch(1), batch(2)]
    assert spool.is_empty
    spool.close()


def test_a_folder_that_somebody_removed_does_not_keep_the_worker_from_closing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(batch(1))
    for folder in tmp_path.iterdir():
        shutil.rmtree(folder)
    spool.append(batch(2))
    with pytest.raises(UnreadableBatchError):
        spool.first()
    assert drained(spool) == [batch(2)]
    spool.close()
