"""What the nodes of a network have made so far, forgotten as soon as nothing reads it any more."""

from __future__ import annotations

from typing import Any

from seewhy.incremental.nodes import Nodes
from seewhy.incremental.recording import Value


class Values:
    """The outputs of nodes while a network runs."""

    def __init__(self, nodes: Nodes, result: Value) -> None:
        self._made: dict[int, Any] = {}
        last: dict[int, int] = {}
        for number, node in enumerate(nodes):
            if node is not None:
                last |= {number: number} | {value.step: number for value in node.inputs}
        last.pop(result.step)
        self._gone: dict[int, list[int]] = {}
        for number, reader in last.items():
            self._gone.setdefault(reader, []).append(number)

    def put(self, number: int, made: Any) -> None:
        """Keep what node `number` made, and forget what nothing after it reads."""
        self._made[number] = made
        for gone in self._gone.get(number, ()):
            del self._made[gone]

    def get(self, value: Value) -> Any:
        """One output of a node."""
        made = self._made[value.step]
        return made[value.output] if isinstance(made, tuple | list) else made
