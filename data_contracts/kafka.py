"""A Kafka topic as a source of events: its address, and what its records are called."""

import re
from dataclasses import dataclass

_URL = re.compile(
    r"kafka://(?P<servers>[\w.-]+:\d{1,5}(,[\w.-]+:\d{1,5})*)/(?P<topic>[A-Za-z0-9._-]{1,249})",
    re.ASCII,
)


@dataclass(frozen=True)
class KafkaTopic:
    """A topic of the cluster that answers at `servers` (`host:port`, several by commas)."""

    servers: str
    topic: str

    @classmethod
    def parse(cls, url: str) -> "KafkaTopic":
        """The topic of `kafka://host:port[,host:port]/topic`; ValueError for any other text."""
        match = _URL.fullmatch(url)
        if match is None:
            raise ValueError(f"{url}: not an address like kafka://host:9092/topic")
        return cls(match["servers"], match["topic"])

    def __str__(self) -> str:
        return f"kafka://{self.servers}/{self.topic}"

    def origin(self, partition: int) -> str:
        """What the records of a partition have as their origin; their line is the offset.

        No landed file is called so: its name holds no slash.
        """
        return f"{self.topic}/{partition}"
