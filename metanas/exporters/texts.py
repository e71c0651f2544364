"""Further classes of the written file, as text: noise."""

CALLED = {"noise": "Noise"}
"""Kind of block -> what its class is called."""

TEXTS = {
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
}
"""Kind of block -> its definition, under `{name}`."""
