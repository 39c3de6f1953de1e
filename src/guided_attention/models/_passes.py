"""What the forward passes of modules do with the modules in them."""

import copy
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from inspect import Parameter, signature

from torch import nn
from torch.fx import Graph, Node, Proxy
from torch.fx.proxy import GraphAppendingTracer

__all__ = ["Passes", "is_ours"]

_OPEN_ENDED = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Passes:
    """The forward passes in a network: where its modules are called, and their weights read.

    Args:
        model: The network. Its modules may be replaced after the first question.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def feed(self, parent: nn.Module, first: nn.Module, second: nn.Module) -> bool:
        """Whether the output of `first`, a module of `parent`, is what `second` takes, and nothing else takes it.

        Nothing else may read their weights either. Passes that cannot be traced are taken as far as they could.
        """
        firsts, seconds = self._uses.get(first, []), self._uses.get(second, [])
        known = _runs_in_order(parent) or (bool(seconds) and _is_whole(self._steps[parent]))
        return (
            known
            and all(use.op == "call_module" for use in (*firsts, *seconds))
            and all(len(use.users) == 1 and next(iter(use.users)) in seconds for use in firsts)
            and all(len(use.all_input_nodes) == 1 and use.all_input_nodes[0] in firsts for use in seconds)
        )

    @cached_property
    def _steps(self) -> dict[nn.Module, list[Node]]:
        return {module: _traced(module) for module in self._model.modules()}

    @cached_property
    def _uses(self) -> dict[nn.Module, list[Node]]:
        """The calls of each module and the reads of its weights, by whichever module."""
        uses: dict[nn.Module, list[Node]] = {}
        for parent, steps in self._steps.items():
            for node in steps:
                name = str(node.target)
                if node.op == "call_module":
                    uses.setdefault(parent.get_submodule(name), []).append(node)
                elif node.op == "get_attr" and node.users:
                    uses.setdefault(parent.get_submodule(name.rpartition(".")[0]), []).append(node)
        return uses


def is_ours(thing: object) -> bool:
    """Whether a class or a function is of this library."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == __name__.partition(".")[0]


def _runs_in_order(parent: nn.Module) -> bool:
    """Whether a module is known to call its parts in the order of their registration."""
    kind = type(parent)
    return "forward" not in vars(parent) and (is_ours(kind) or kind.forward is nn.Sequential.forward)


def _is_whole(steps: list[Node]) -> bool:
    return bool(steps) and steps[-1].op == "output"


def _traced(parent: nn.Module) -> list[Node]:
    """Return the steps of a module's forward pass; the last is its output, if all could be traced.

    `torch.fx.Tracer.trace` replaces `nn.Module.__call__` in the whole process while it works, and so breaks the passes
    of other threads. Here a copy is changed: its parts note that they are called, and its weights are symbols.
    """
    graph = Graph()
    if next(parent.children(), None) is None or "forward" in vars(parent) or _runs_in_order(parent):
        return []
    with suppress(Exception):  # whatever code of others raises where its input is a symbol
        _trace(parent, GraphAppendingTracer(graph))
    return list(graph.nodes)


def _trace(parent: nn.Module, tracer: GraphAppendingTracer) -> None:
    named = (*parent.named_parameters(), *parent.named_buffers())
    symbols = {id(value): tracer.create_proxy("get_attr", name, (), {}) for name, value in named}
    traced = copy.deepcopy(parent, dict(symbols))  # a pass may change its buffers, and keep what it computes
    for name, part in traced.named_modules():
        if part is not traced:
            vars(part).update(forward=_noting(tracer, name), _forward_hooks={}, _forward_pre_hooks={})
    parameters = signature(traced.forward).parameters.values()
    if any(parameter.kind in _OPEN_ENDED for parameter in parameters):
        return
    given = {each.name: tracer.create_proxy("placeholder", each.name, (), {}) for each in parameters}
    tracer.create_proxy("output", "output", (traced.forward(**given),), {})


def _noting(tracer: GraphAppendingTracer, name: str) -> Callable[..., Proxy]:
    def call(*args: object, **kwargs: object) -> Proxy:
        return tracer.create_proxy("call_module", name, args, kwargs)

    return call
