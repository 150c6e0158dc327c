"""Keep what torch opens in a Ray worker on loopback; imports nothing heavy, as each worker runs it.

The store by which the processes of a group meet listens on all addresses of its machine. A test
listens on 127.0.0.1 only.
"""

from __future__ import annotations

import importlib.util
import socket
import sys
from importlib.abc import MetaPathFinder
from typing import Any

_HOME = "torch.distributed.rendezvous"


class _Finder(MetaPathFinder):
    """Changes the module where torch makes the store, when it is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != _HOME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            _change(module)

        spec.loader.exec_module = exec_module
        return spec


def _change(module: Any) -> None:
    store = module.TCPStore

    def on_loopback(**named: Any) -> Any:
        if named["is_master"]:
            listening = socket.create_server(("127.0.0.1", named["port"]))
            named["master_listen_fd"] = listening.detach()
        return store(**named)

    module.TCPStore = on_loopback


def listen_on_loopback() -> None:
    """Do that in this process."""
    sys.meta_path.insert(0, _Finder())
