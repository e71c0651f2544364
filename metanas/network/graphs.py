"""Operations on graphs: values of nodes (batch, nodes, features), which read each other along the edges of the input.

    node_features     of a graph (batch, nodes, features + nodes) what stands before its edges
    graph_sum         node i: the sum of the values of the nodes that it reads
    graph_mean        their mean
    graph_max         the largest of each feature
    graph_attention   their mean weighed by softmax over j of leaky_relu(a . x_i + b . x_j)
    nodes_sum, nodes_mean, nodes_max
                      of the nodes that are there: (batch, nodes, features) -> (batch, features)

A graph is dense: row i holds the features of node i, then for each node a number above 0 where i reads it. A node is
there where it reads itself. All but the first kind read that graph `beside` their value; without it, where an operation
is measured alone, every node reads every other. What stands in nodes that are not there reaches nothing.

The input may be narrower than built. Sources: Gilmer et al., ICML 2017, arXiv:1704.01212 (messages); Hamilton et al.,
NeurIPS 2017, arXiv:1706.02216 (means, maxima); Velickovic et al., ICLR 2018, arXiv:1710.10903 (attention, here of one
head); Xu et al., ICLR 2019, arXiv:1810.00826 (sums).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.errors import ShapeError
from metanas.network.blocks import Phase
from metanas.space import Op

SLOPE = 0.2
"""Of the leaky ReLU inside the attention, as in GAT."""


def edges_of(x: Tensor, graph: Tensor | None) -> Tensor:
    """1 where the node of the row reads that of the column, else 0: (batch, nodes, nodes)."""
    nodes = x.shape[1]
    return torch.ones_like(x[:, :, :1]).expand(-1, -1, nodes) if graph is None else (graph[:, :, -nodes:] > 0).to(x)


class NodeFeatures(nn.Module):
    """(batch, nodes, features + nodes) -> (batch, nodes, features)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : x.shape[2] - x.shape[1]].contiguous()  # else a linear map of it is two operations


class GraphSum(nn.Module):
    """edges @ x"""

    def forward(self, x: Tensor, graph: Tensor | None = None) -> Tensor:
        return edges_of(x, graph) @ x


class GraphMean(nn.Module):
    """edges @ x / edges of the node"""

    def forward(self, x: Tensor, graph: Tensor | None = None) -> Tensor:
        edges = edges_of(x, graph)
        return edges @ x / edges.sum(2, keepdim=True).clamp(min=1)


class GraphMax(nn.Module):
    """The largest of each feature; 0 for a node that reads none."""

    def forward(self, x: Tensor, graph: Tensor | None = None) -> Tensor:
        edges = edges_of(x, graph)
        read = x[:, None].masked_fill(edges[:, :, :, None] == 0, -torch.inf).amax(2)  # (batch, nodes, features)
        return torch.where(edges.sum(2, keepdim=True) > 0, read, 0.0)


class GraphAttention(nn.Module):
    """The values of what a node reads, weighed by how they and its own go together."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.own, self.other = (nn.Parameter(torch.empty(features)) for _ in range(2))
        for p in (self.own, self.other):
            nn.init.normal_(p, std=features**-0.5)

    def forward(self, x: Tensor, graph: Tensor | None = None) -> Tensor:
        edges, features = edges_of(x, graph), x.shape[2]
        own, other = x @ self.own[:features], x @ self.other[:features]  # (batch, nodes)
        scores = F.leaky_relu(own[:, :, None] + other[:, None], SLOPE)
        weights = scores.masked_fill(edges == 0, -1e9).softmax(2) * edges
        return weights @ x


class NodesSum(nn.Module):
    """The sum over the nodes that are there."""

    def forward(self, x: Tensor, graph: Tensor | None = None) -> Tensor:
        return (x * there(x, graph)).sum(1)


class NodesMean(nn.Module):
    """The mean over the nodes that are there."""

    def forward(self, x: Tensor, graph: Tensor | None = None) -> Tensor:
        kept = there(x, graph)
        return (x * kept).sum(1) / kept.sum(1).clamp(min=1)


class NodesMax(nn.Module):
    """The largest of each feature over the nodes that are there; 0 where none is."""

    def forward(self, x: Tensor, graph: Tensor | None = None) -> Tensor:
        kept = there(x, graph)
        return torch.where(kept.sum(1) > 0, x.masked_fill(kept == 0, -torch.inf).amax(1), 0.0)


def there(x: Tensor, graph: Tensor | None) -> Tensor:
    """1 for nodes that are there, else 0: (batch, nodes, 1)."""
    return edges_of(x, graph).diagonal(dim1=1, dim2=2)[:, :, None]


def _node_features(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    if len(shape) != 2 or shape[1] <= shape[0]:
        raise ShapeError("it takes graphs (nodes, features + nodes) with at least one feature")
    return NodeFeatures()


def _of_nodes(make: Callable[[int], nn.Module]) -> Callable[[Op, tuple[int, ...], Phase], nn.Module]:
    def maker(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
        if len(shape) != 2:
            raise ShapeError("it takes values of nodes (nodes, features)")
        return make(shape[1])

    return maker


GRAPH_OPS: Mapping[str, Callable[[Op, tuple[int, ...], Phase], nn.Module]] = {
    "node_features": _node_features,
    "graph_sum": _of_nodes(lambda features: GraphSum()),
    "graph_mean": _of_nodes(lambda features: GraphMean()),
    "graph_max": _of_nodes(lambda features: GraphMax()),
    "graph_attention": _of_nodes(GraphAttention),
    "nodes_sum": _of_nodes(lambda features: NodesSum()),
    "nodes_mean": _of_nodes(lambda features: NodesMean()),
    "nodes_max": _of_nodes(lambda features: NodesMax()),
}
"""Kind of operation -> maker."""
