"""The rig itself: what the other integration tests stand on."""

from pathlib import Path

import pytest

from tests.rig.brokers import Broker
from tests.rig.hostile import partition_of
from tests.rig.needs import needs_prometheus
from tests.rig.prometheus import prometheus
from tests.rig.topics import TopicSet

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_a_broker_keeps_what_it_acknowledged_where_the_key_belongs(broker: Broker) -> None:
    topics = TopicSet(broker, 4)
    topics.create()
    keys = [f"customer-{number}".encode() for number in range(2_000)]
    sent = topics.produce((topics.names.sessions, key, b"{}", None) for key in keys)
    read = list(topics.read(topics.names.sessions, seconds=60, until=lambda: False, quiet_after=2))
    assert len(sent) == len(read) == len(keys)
    places = {message.key(): message.partition() for message in read}
    assert places == {key: partition_of(key, 4) for key in keys}


@needs_prometheus
def test_prometheus_answers_queries_about_what_it_scraped(tmp_path: Path) -> None:
    with prometheus(tmp_path, "scrape_configs: []\n") as running:
        (sample,) = running.query("vector(42)")
        assert sample.value == 42
