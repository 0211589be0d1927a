"""Which data set of the paper a configured data set is, or stands in for."""

from dataclasses import dataclass

PAPER_DATASETS = {"lmsys": "LMSys", "sharegpt": "ShareGPT", "swebench": "SWEBench"}


@dataclass(frozen=True, slots=True)
class Role:
    """The part a data set plays in figures and claims.

    Attributes:
        dataset: name in the configuration and in the `dataset` column of result tables.
        paper_dataset: key of `PAPER_DATASETS`, or None for data the paper has no counterpart of.
        stand_in: the data only stands in for `paper_dataset` (no meaning without one).
    """

    dataset: str
    paper_dataset: str | None
    stand_in: bool

    @property
    def label(self) -> str:
        """Name for figures and tables, which never hides a stand-in."""
        if self.paper_dataset is None:
            return self.dataset
        paper_name = PAPER_DATASETS[self.paper_dataset]
        return f"{self.dataset} (stand-in for {paper_name})" if self.stand_in else paper_name
