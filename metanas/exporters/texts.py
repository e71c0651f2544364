"""Further classes and functions of the written file, as text: noise, tokens, and operations on graphs."""

CALLED = {
    "noise": "Noise",
    "embedding": "Embedding",
    "graph_attention": "GraphAttention",
    **{kind: kind for kind in ("graph_sum", "graph_mean", "graph_max", "nodes_sum", "nodes_mean", "nodes_max")},
}
"""Kind of block -> what its class is called."""

TEXTS = {
    "embedding": '''
class {name}(nn.Module):
    """A vector for each token, a whole number from 0; other numbers give zeros."""

    def __init__(self, vocabulary: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, features))
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:  # (batch, time)
        token, last = x.long(), len(self.weight) - 1
        known = (token >= 0) & (token <= last)
        return F.embedding(token.clamp(0, last), self.weight) * known[:, :, None]
''',
    "noise": '''
class {name}(nn.Module):
    """N(0, 1) samples that are a function of the whole batch, by SplitMix64."""

    def __init__(self, stride: int, stream: int) -> None:
        super().__init__()
        self.stride, self.stream = stride, stream

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:  # images
        golden = -7046029254386353131
        bits = batch.float().contiguous().view(torch.int32).long().flatten()
        odd = 2 * torch.arange(bits.shape[0], device=x.device) + 1
        key = self.mixed(self.mixed((bits * odd).sum() * golden) + self.stream)
        height, width = (-(-n // self.stride) for n in x.shape[2:])
        count = x.shape[0] * x.shape[1] * height * width
        place = torch.arange(1, count + 1, device=x.device)
        word = self.shifted(self.mixed(key + place * golden), 40)  # 24 bits
        noise = torch.erfinv((2 * word + 1 - 2**24).float() / 2**24) * 2**0.5
        return noise.view(x.shape[0], x.shape[1], height, width).to(x.dtype)

    def mixed(self, x: Tensor) -> Tensor:
        x = (x ^ self.shifted(x, 30)) * -4658895280553007687
        x = (x ^ self.shifted(x, 27)) * -7723592293110705685
        return x ^ self.shifted(x, 31)

    def shifted(self, x: Tensor, places: int) -> Tensor:  # zeros come in
        return (x >> places) & (2 ** (64 - places) - 1)
''',
    "graph_sum": '''
def {name}(x: Tensor, graph: Tensor) -> Tensor:
    """The sum of the values of the nodes that a node reads."""
    edges = (graph[:, :, -x.shape[1] :] > 0).to(x.dtype)  # who reads whom
    return edges @ x
''',
    "graph_mean": '''
def {name}(x: Tensor, graph: Tensor) -> Tensor:
    """The mean of the values of the nodes that a node reads."""
    edges = (graph[:, :, -x.shape[1] :] > 0).to(x.dtype)  # who reads whom
    return edges @ x / edges.sum(2, keepdim=True).clamp(min=1)
''',
    "graph_max": '''
def {name}(x: Tensor, graph: Tensor) -> Tensor:
    """The largest of each feature of the nodes that a node reads."""
    edges = (graph[:, :, -x.shape[1] :] > 0).to(x.dtype)  # who reads whom
    read = x[:, None].masked_fill(edges[:, :, :, None] == 0, -torch.inf).amax(2)
    return torch.where(edges.sum(2, keepdim=True) > 0, read, 0.0)
''',
    "graph_attention": '''
class {name}(nn.Module):
    """What a node reads, weighed by how well the two go together."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.empty(features))
        self.other = nn.Parameter(torch.empty(features))
        nn.init.normal_(self.own, std=features**-0.5)
        nn.init.normal_(self.other, std=features**-0.5)

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:  # (batch, nodes, features)
        edges = (graph[:, :, -x.shape[1] :] > 0).to(x.dtype)  # who reads whom
        scores = (x @ self.own)[:, :, None] + (x @ self.other)[:, None]
        scores = F.leaky_relu(scores, 0.2).masked_fill(edges == 0, -1e9)
        return (scores.softmax(2) * edges) @ x
''',
    "nodes_sum": '''
def {name}(x: Tensor, graph: Tensor) -> Tensor:
    """The sum over the nodes that are there."""
    there = (graph[:, :, -x.shape[1] :] > 0).diagonal(dim1=1, dim2=2)[:, :, None]
    return (x * there).sum(1)
''',
    "nodes_mean": '''
def {name}(x: Tensor, graph: Tensor) -> Tensor:
    """The mean over the nodes that are there."""
    there = (graph[:, :, -x.shape[1] :] > 0).diagonal(dim1=1, dim2=2)[:, :, None]
    return (x * there).sum(1) / there.sum(1).clamp(min=1)
''',
    "nodes_max": '''
def {name}(x: Tensor, graph: Tensor) -> Tensor:
    """The largest of each feature over the nodes that are there."""
    there = (graph[:, :, -x.shape[1] :] > 0).diagonal(dim1=1, dim2=2)[:, :, None]
    return torch.where(there.any(1), x.masked_fill(~there, -torch.inf).amax(1), 0.0)
''',
}
"""Kind of block -> its definition, under `{name}`."""
