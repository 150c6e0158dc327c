"""A Ray cluster of several nodes on loopback, and a model for its workers."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.fakes import CountingEmbedding

ROOT = Path(__file__).parent.parent
_OBJECT_STORE = 80 * 2**20
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's switch for a machine whose nodes are all on 127.0.0.1.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_enable_metrics_collection": "0",
    # A node that is gone is missed after seconds, not after half a minute.
    "RAY_health_check_period_ms": "1000",
    "GLOO_SOCKET_IFNAME": "lo",
    "OMP_NUM_THREADS": "1",
}


@contextmanager
def cluster(n_nodes: int) -> Iterator[Any]:
    """Give a cluster of nodes with one CPU each, beside a head without any, and end all of it."""
    before = dict(os.environ)
    others = set(psutil.Process().children(recursive=True))  # other tests' servers
    os.environ.update(_SETTINGS)
    import ray
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    # Ray reads the setting when it is imported, which another test may have done.
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    nodes = Cluster(initialize_head=False)
    try:
        for node in range(n_nodes + 1):
            add_node(nodes, num_cpus=min(node, 1))
        ray.init(
            address=nodes.address,
            logging_level="ERROR",
            log_to_driver=False,
            runtime_env={
                "env_vars": {"PYTHONPATH": str(ROOT)},
                "worker_process_setup_hook": "tests.ray_loopback.listen_on_loopback",
            },
        )
        yield nodes
    finally:
        started = set(psutil.Process().children(recursive=True)) - others
        ray.shutdown()
        nodes.shutdown()
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        os.environ.clear()
        os.environ.update(before)
        _, left = psutil.wait_procs(list(started), timeout=30)
        assert not left, f"still running: {left}"


def add_node(nodes: Any, **options: Any) -> Any:
    """Add a node without a dashboard, on loopback."""
    return nodes.add_node(
        node_ip_address="127.0.0.1",
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        **options,
    )


class LoggedEmbedding(CountingEmbedding):
    """Writes every text that it is asked for to a file of its process in the folder ``log``.

    It breaks on the text ``breaks_on``, waits ``pause`` seconds for each text, and answers nobody
    before ``together`` processes have been asked.
    """

    log: str
    pause: float = 0.0
    together: int = 0
    breaks_on: str = ""

    @property
    def stated_identity(self) -> str:
        """What its vectors depend on; the log and the ways to fail are not part of it."""
        return f"{type(self).__qualname__} {self.dimension} {self.query_instruction!r}"

    def respond(self, kind: str, texts: list[str]) -> Any:
        if self.breaks_on in texts:
            raise ValueError("the model broke")
        own = Path(self.log) / str(os.getpid())
        own.touch()
        for _ in range(600):
            if len(list(own.parent.iterdir())) >= self.together:
                break
            time.sleep(0.1)
        time.sleep(self.pause * len(texts))
        with own.open("a") as file:
            file.write("".join(f"{text}\n" for text in texts))
        return super().respond(kind, texts)


def asked(log: Path) -> Counter[str]:
    """Return how often each text was asked for, in all processes."""
    return Counter(line for file in log.iterdir() for line in file.read_text().splitlines())
