"""Which data set of the paper a configured data set is, or stands in for."""

from collections.abc import Iterable
from dataclasses import dataclass

PAPER_DATASETS = {"lmsys": "LMSys", "sharegpt": "ShareGPT", "swebench": "SWEBench"}


@dataclass(frozen=True, slots=True)
class Role:
    """The part a data set plays in figures and claims.

    Attributes:
        dataset: name in the configuration and in the `dataset` column of result tables.
        paper_dataset: key of `PAPER_DATASETS`, or None for data the paper has no counterpart of.
        stand_in: the data only stands in for `paper_dataset` (no meaning without one).
        caveat: what has to be said of the data wherever it is named.
        papers_grid: it was simulated in the paper's configurations and no others.
    """

    dataset: str
    paper_dataset: str | None
    stand_in: bool
    caveat: str | None = None
    papers_grid: bool = True

    @property
    def label(self) -> str:
        """Name for figures and tables, which never hides a stand-in or a caveat."""
        paper_name = PAPER_DATASETS.get(self.paper_dataset or "")
        if paper_name and not self.stand_in:
            return paper_name
        notes = [f"stand-in for {paper_name}"] if paper_name else []
        notes += [self.caveat] if self.caveat else []
        return f"{self.dataset} ({'; '.join(notes)})" if notes else self.dataset


def role_of(trace: str, roles: Iterable[Role]) -> Role | None:
    """Return the role of the data set that a trace is of: its name begins the trace's name.

    Behind it says how requests arrive: `chats_long_sps=1` is none of `chats`.
    """
    ends = ("_sps=", "_recorded_")
    fitting = (
        role
        for role in roles
        if trace == role.dataset or trace.startswith(tuple(f"{role.dataset}{end}" for end in ends))
    )
    return next(fitting, None)


RECORDED = (
    Role("sharegpt", "sharegpt", stand_in=False),
    Role("sharegpt_long", "lmsys", stand_in=True),
    Role("swebench", "swebench", stand_in=True),
    Role("tau_airline", None, stand_in=True),
)
"""Data sets whose replays ship with the repository, whatever a configuration calls by these names."""
