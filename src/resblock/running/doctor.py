"""What is wrong with this project on this machine, what to do about it, and the mending of what is safe to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from resblock.core.errors import one_line
from resblock.running import ailments, checkup
from resblock.running.finding import Finding

Check = Callable[[], Iterable[Finding]]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("git", ailments.git),
    ("DVC", ailments.dvc),
    ("DVC's locks", ailments.dvc_locks),
    ("dvc.lock", ailments.lock_file),
    ("parameters recorded", checkup.recorded_parameters),
    ("packages", ailments.packages),
    ("disk", ailments.disk),
    ("data", checkup.data_files),
    ("checkpoints", checkup.checkpoints),
    ("MLflow's store", checkup.store),
    ("MLflow's runs", checkup.runs),
    ("graphics card", ailments.card),
)


@dataclass(frozen=True)
class Result:
    """What one check found."""

    name: str
    findings: Sequence[Finding]


def examine(checks: Sequence[tuple[str, Check]] = CHECKS) -> Iterator[Result]:
    """Yield what each check finds, in their order. A check that fails itself is a finding too."""
    for name, check in checks:
        try:
            yield Result(name, list(check()))
        except Exception as error:  # a project that is ill enough breaks what looks at it
            words = f"could not be looked at: {type(error).__name__}: {one_line(error)}"
            yield Result(name, [Finding(words, "mend what stands above first, then ask again")])


def report(results: Iterable[Result], *, mend: bool) -> Iterator[tuple[str, bool]]:
    """Yield lines to be shown, each with whether it tells of something that is wrong and stays so."""
    for result in results:
        if not result.findings:
            yield f"well    {result.name}", False
        for finding in result.findings:
            how = "`resblock doctor --mend` does that" if finding.mend else ""
            if mend and finding.mend:
                try:
                    yield f"mended  {result.name}: {finding.what}; {finding.mend()}", False
                    continue
                except Exception as error:  # the next ones may be mended
                    how = f"could not be mended: {one_line(error)}"
            remedy = "; ".join(filter(None, (finding.remedy, how)))
            yield f"{'ILL' if finding.harmful else 'note':<8}{result.name}: {finding.what}; {remedy}", finding.harmful
