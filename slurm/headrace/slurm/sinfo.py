"""What sinfo says: the nodes and partitions."""

import re
from typing import Any, Final

import msgspec

from headrace.slurm import hostlist, jsonform, times
from headrace.slurm.commands import NODE_FIELDS, PARTITION_FIELDS
from headrace.slurm.output import CommandOutput, table

_STATE: Final = re.compile(r"([A-Za-z_]+)([*~#!%$@^+-]*)", re.ASCII)
_GPUS: Final = re.compile(r"(?:^|,)(?:gres[:/])?gpu(?::[A-Za-z0-9_.-]+?)?[:=](\d{1,6})", re.ASCII)

_USABLE: Final = frozenset({"idle", "mixed", "allocated", "completing", "planned", "reserved"})


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node."""

    name: str
    partitions: tuple[str, ...] = ()
    state: str = ""
    """In Slurm's words and small letters: ``idle``, ``mixed``, ``down``, ``draining``."""
    responds: bool = True
    cpus: int = 0
    memory_mb: int = 0
    gpus: int = 0
    reason: str = ""
    """Why it is down or drained, in the administrator's words."""

    @property
    def usable(self) -> bool:
        """Whether jobs can start there, now or when others have ended."""
        return self.responds and all(part in _USABLE for part in self.state.split("+"))


class Nodes(msgspec.Struct, frozen=True):
    """All nodes, or why they are not known."""

    nodes: tuple[Node, ...] = ()
    malformed: int = 0
    problem: str = ""


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition."""

    name: str
    up: bool = True
    time_limit: float | None = None
    """Seconds, `times.UNLIMITED` for ever."""
    nodes: int = 0
    nodes_idle: int = 0
    gpus_per_node: int = 0
    """Of its best nodes."""
    tier: int = 0
    preempt_mode: str = ""


class Partitions(msgspec.Struct, frozen=True):
    """All partitions, or why they are not known."""

    partitions: tuple[Partition, ...] = ()
    malformed: int = 0
    problem: str = ""


def gpus(gres: str) -> int:
    """The GPUs in a list of generic resources: ``gpu:a100:4(S:0-1),shard:8`` has four."""
    return sum(int(count) for count in _GPUS.findall(re.sub(r"\([^()]*\)", "", gres)))


def parse_nodes(output: CommandOutput) -> Nodes:
    """The answer of `Commands.sinfo_nodes`: a node in two partitions is one node."""
    rows = table(output, NODE_FIELDS)
    nodes: dict[str, Node] = {}
    malformed = rows.malformed
    for row in rows.rows:
        node = _node(row)
        if node is None:
            malformed += 1
        elif node.name in nodes:
            known = nodes[node.name]
            partitions = (*known.partitions, *node.partitions)
            nodes[node.name] = msgspec.structs.replace(known, partitions=partitions)
        else:
            nodes[node.name] = node
    return Nodes(tuple(nodes.values()), malformed, rows.problem)


def parse_nodes_json(output: CommandOutput) -> Nodes:
    """Nodes from ``sinfo --json`` of 22.05 or ``scontrol show nodes --json`` of any later one."""
    answer = jsonform.read(output, "nodes")
    nodes = []
    malformed = 0
    for each in answer.items:
        try:
            nodes.append(_node_of_json(each))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            malformed += 1
    return Nodes(tuple(nodes), malformed, answer.problem)


def parse_partitions(output: CommandOutput) -> Partitions:
    """The answer of `Commands.sinfo_partitions`: the kinds of nodes of a partition are added."""
    rows = table(output, PARTITION_FIELDS)
    found: dict[str, Partition] = {}
    malformed = rows.malformed
    for row in rows.rows:
        counts = row["nodes"].split("/")
        if len(counts) != 4 or not all(_digits(count) for count in counts) or not row["name"]:
            malformed += 1
            continue
        name = row["name"].strip().rstrip("*")
        known = found.get(name, Partition(name=name))
        found[name] = Partition(
            name=name,
            up=row["available"].strip() == "up",
            time_limit=times.limit(row["limit"]),
            nodes=known.nodes + int(counts[3]),
            nodes_idle=known.nodes_idle + int(counts[1]),
            gpus_per_node=max(known.gpus_per_node, gpus(row["gres"])),
            tier=int(row["tier"]) if _digits(row["tier"]) else 0,
            preempt_mode=row["preempt"].strip(),
        )
    return Partitions(tuple(found.values()), malformed, rows.problem)


def _node(row: dict[str, str]) -> Node | None:
    state = _STATE.fullmatch(row["state"].strip())
    name = row["name"].strip()
    if state is None or hostlist.NODE.fullmatch(name) is None:
        return None
    reason = row["reason"].strip()
    return Node(
        name=name,
        partitions=(row["partition"].strip(),),
        state=state[1].lower(),
        responds="*" not in state[2],
        cpus=_leading(row["cpus"]),
        memory_mb=_leading(row["memory"]),
        gpus=gpus(row["gres"]),
        reason="" if reason.lower() == "none" else reason,
    )


def _node_of_json(node: dict[str, Any]) -> Node:
    words = [word.lower() for word in jsonform.words(node["state"])]
    words += [flag.lower() for flag in node.get("state_flags") or []]
    name = jsonform.text(node["name"])
    if hostlist.NODE.fullmatch(name) is None or not words:
        raise ValueError("not a node")
    return Node(
        name=name,
        partitions=tuple(jsonform.text(node.get("partitions")).split(",")),
        state="+".join(word for word in words if word != "not_responding"),
        responds="not_responding" not in words,
        cpus=int(jsonform.number(node.get("cpus")) or 0),
        memory_mb=int(jsonform.number(node.get("real_memory")) or 0),
        gpus=gpus(jsonform.text(node.get("gres"))),
        reason=jsonform.text(node.get("reason")),
    )


def _digits(text: str) -> bool:
    return text.strip().isascii() and text.strip().isdigit() and len(text.strip()) <= 10


def _leading(text: str) -> int:
    """The number that a count begins with: sinfo writes ``8+`` for eight or more."""
    digits = text.strip().rstrip("+")
    return int(digits) if _digits(digits) else 0
