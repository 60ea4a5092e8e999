"""The text of a /metrics page as values that a test can ask for."""

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name of a sample and its labels, sorted."""


class Exposition:
    """One page, parsed; a series that stands on it twice is an error."""

    def __init__(self, text: str) -> None:
        self.samples: dict[Series, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series = (sample.name, tuple(sorted(sample.labels.items())))
                assert series not in self.samples, f"{series} is exported twice"
                self.samples[series] = sample.value

    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self.samples}

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that carry these labels."""
        return sum(
            value
            for (found, its_labels), value in self.samples.items()
            if found == name and set(labels.items()) <= set(its_labels)
        )

    def by(self, name: str, label: str) -> dict[str, float]:
        """The samples of a name, summed for each value of one label."""
        sums: dict[str, float] = {}
        for (found, labels), value in self.samples.items():
            if found == name:
                key = dict(labels).get(label, "")
                sums[key] = sums.get(key, 0.0) + value
        return sums

    def everyone(self, metric: str, window: str) -> float | None:
        """A business figure over everybody; None where it is undefined, which means absent."""
        for (name, labels), value in self.samples.items():
            if name == f"heartline_{metric}" and dict(labels).get("window") == window:
                others = {label: text for label, text in labels if label != "window"}
                if set(others.values()) <= {"all"}:
                    return value
        return None
