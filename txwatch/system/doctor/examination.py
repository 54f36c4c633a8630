"""All looks, in the order in which they are needed. Each gives findings and raises nothing."""

from collections.abc import Callable, Iterator

from txwatch.settings import Settings
from txwatch.system.doctor.database import look_at_database
from txwatch.system.doctor.findings import Finding
from txwatch.system.doctor.machine import look_at_machine, look_at_ports, look_at_programs, look_at_python
from txwatch.system.doctor.services import look_at_feed, look_at_mlflow, look_at_reports, look_at_telegram


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, in the order in which it is needed."""
    looks: list[Callable[[Settings], Iterator[Finding]]] = [
        look_at_python,
        look_at_machine,
        look_at_database,
        look_at_ports,
        look_at_feed,
        look_at_telegram,
        look_at_mlflow,
        look_at_reports,
        look_at_programs,
    ]
    for look in looks:
        yield from look(settings)
