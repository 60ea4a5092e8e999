"""The operating metrics of a worker, read from the engine when somebody asks: counting costs
nothing per event.

A partition's account goes on from the checkpoint of whoever had it before. Counters here are of
this process and never fall: each is the sum of what the accounts gained in it, also those of
partitions that have left.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator

from faust.types import TP
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agents.engine import ACCOUNT, Engine
from agents.owned import Owned
from agents.publisher import Publisher
from agents.rollup import RollUpAgent
from agents.state_telemetry import state_metrics
from schemas.topics import Source

_GAUGES = frozenset({"waiting"})
_HELP = {
    "consumed": "Records read, of any fate.",
    "folded": "Events that entered the numbers.",
    "late_counted": "Events folded although they came behind the watermark.",
    "too_late": "Events later than the allowed lateness, sent to the late topic.",
    "duplicate": "Events whose id the customer's last events had already.",
    "dead": "Records sent to the dead letters.",
    "control": "Control records (time_passed, customer_forgotten).",
}


class WorkerCollector:
    """Collects from one engine. Keeps what the partitions counted so far."""

    def __init__(
        self, engine: Engine, rollup: RollUpAgent, publisher: Publisher, version: str
    ) -> None:
        self._engine = engine
        self._rollup = rollup
        self._publisher = publisher
        self._version = version
        self._gained: Counter[tuple[Source, str]] = Counter()

    def registry(self) -> CollectorRegistry:
        """A registry with these metrics and those of the process."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return registry

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that registering doesn't collect."""
        return []

    def absorb(self, owned: Owned) -> None:
        """Add what the partition counted since the last time."""
        for source in Source:
            now, before = owned.state.account(source), owned.counted[source]
            for name in ACCOUNT:
                if name not in _GAUGES:
                    self._gained[source, name] += getattr(now, name) - getattr(before, name)
            owned.counted[source] = now

    def collect(self) -> Iterator[Metric]:
        """All families."""
        engine = self._engine
        for owned in engine.owned.values():
            self.absorb(owned)
        names = {source: topic for topic, source in engine.sources.items()}
        for name, text in _HELP.items():
            counter = CounterMetricFamily(f"heartline_events_{name}", text, labels=["topic"])
            for source, topic in names.items():
                counter.add_metric([topic], self._gained[source, name])
            yield counter
        reasons = CounterMetricFamily(
            "heartline_dead_letters", "Dead letters by reason.", labels=["topic", "reason"]
        )
        for (topic, reason), count in sorted(engine.dead.items()):
            reasons.add_metric([topic, reason], count)
        yield reasons
        yield from self._partitions(names)
        yield from state_metrics(self._engine)
        yield from self._stages()
        yield from self._output()
        build = GaugeMetricFamily(
            "heartline_build_info", "The version that runs.", labels=["version", "python"]
        )
        build.add_metric([self._version, platform.python_version()], 1)
        yield build

    def _partitions(self, names: dict[Source, str]) -> Iterator[Metric]:
        engine = self._engine
        waiting = GaugeMetricFamily(
            "heartline_events_waiting", "Events waiting for the watermark.", labels=["topic"]
        )
        lag = GaugeMetricFamily(
            "heartline_input_lag_records", "Records behind the high water.", labels=["topic"]
        )
        for source, topic in names.items():
            ours = engine.owned.values()
            # Counted a moment ago, by `absorb`.
            waiting.add_metric([topic], sum(o.counted[source].waiting for o in ours))
            lag.add_metric([topic], sum(engine.lag(TP(topic, o.number), o, source) for o in ours))
        yield waiting
        yield lag
        watermark = GaugeMetricFamily(
            "heartline_watermark_timestamp_seconds",
            "Everything before this event time has arrived; time() minus it is the watermark's lag.",
            labels=["partition"],
        )
        for number, owned in sorted(engine.owned.items()):
            at = owned.state.watermark
            if at > 0:
                watermark.add_metric([str(number)], at / 1_000)
        yield watermark
        yield GaugeMetricFamily(
            "heartline_assigned_partitions", "Partitions that this worker owns.", len(engine.owned)
        )
        yield GaugeMetricFamily(
            "heartline_has_rollup", "1 if this worker adds up the partials.", int(engine.has_rollup)
        )

    def _stages(self) -> Iterator[Metric]:
        engine = self._engine
        seconds = CounterMetricFamily(
            "heartline_stage_seconds", "Time spent, by stage.", labels=["stage"]
        )
        spent = {
            "fetch": engine.gate.fetch_seconds,
            "decode": engine.stages.seconds["decode"],
            "merge": engine.stages.seconds["merge"],
            "fold": engine.stages.seconds["fold"],
            "close": engine.stages.seconds["close"],
            "report": engine.stages.seconds["report"],
            "checkpoint": engine.stages.seconds["checkpoint"],
            "rollup": self._rollup.seconds,
            "publish": self._publisher.seconds,
        }
        for stage, value in spent.items():
            seconds.add_metric([stage], value)
        yield seconds

    def _output(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "heartline_partials_published",
            "Partials acknowledged by the broker.",
            self._engine.outbox.published[self._engine.topics.partials],
        )
        yield CounterMetricFamily(
            "heartline_results_published",
            "Results acknowledged by the broker.",
            self._rollup.published,
        )
        left_out = CounterMetricFamily(
            "heartline_partials_left_out",
            "Partials of another configuration, and corrections of boundaries that were never published or are "
            "remembered no more.",
            labels=["reason"],
        )
        for reason, count in self._rollup.left_out.items():
            left_out.add_metric([reason], count)
        yield left_out
        yield CounterMetricFamily(
            "heartline_batches_dropped",
            "Batches of a tenure that was over; their records are read again.",
            self._engine.dropped_batches,
        )
