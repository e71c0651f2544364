"""The last part of the written file: loading its weights, and predicting image files or rows of a table. Plain text."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels -> how Pillow calls such an image."""

LOAD = '''
def build() -> Network:
    """The network with new random weights."""
    return Network()


<load>


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; nothing in the file is executed.

    Eight bytes say how long the header is; the header, in JSON, says where in the
    bytes after it each tensor lies.
    """
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or len(data) < start:
        raise ValueError(f"{path} is no safetensors file, or it was cut short")
    try:
        header = json.loads(data[8:start])
        header.pop("__metadata__", None)
        tensors = {k: read_tensor(entry, data, start) for k, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error
    if sum(t.nbytes for t in tensors.values()) != len(data) - start:
        raise ValueError(f"{path} is no whole safetensors file: bytes left over")
    return tensors


def read_tensor(entry: dict[str, Any], data: bytes, start: int) -> Tensor:
    """The tensor that an entry of the header describes."""
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"unknown dtype {entry['dtype']!r}")
    dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
    first, last = entry["data_offsets"]
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or first < 0 or last - first != size:
        raise ValueError(f"shape {shape} does not fit bytes {first} to {last}")
    if start + last > len(data):
        raise ValueError("cut short")
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    raw = bytearray(data[start + first : start + last])  # a copy that may be written to
    return torch.frombuffer(raw, dtype=dtype).reshape(shape)
'''

WHOLE = '''
def load(path: str | Path = WEIGHTS) -> Network:
    """The trained network, in eval mode."""
    with torch.device("meta"):  # takes no memory: the file brings the tensors
        network = Network()
    network.load_state_dict(read_safetensors(path), assign=True)
    return network.eval()
'''

CAST = '''
def load(
    path: str | Path = WEIGHTS, dtype: torch.dtype = torch.float32
) -> Network:
    """The trained network, in eval mode. Its weights are stored in half precision.

    dtype: what it computes in, and what its inputs must be.
    """
    with torch.device("meta"):  # takes no memory: the file brings the tensors
        network = Network()
    network.load_state_dict(read_safetensors(path), assign=True)
    return network.to(dtype).eval()
'''

CLASSIFY = '''
def read_image(path: str) -> Tensor:
    """An image file as an input: (1, channels, height, width)."""
    from PIL import Image, ImageOps

    channels, height, width = SHAPE
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):  # 16 bits
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    if image.has_transparency_data and channels != 4:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("<mode>")
    # Scaled until it covers the input's size, then cut around the centre.
    image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    raw = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    low, high = PIXELS
    pixels = raw.view(height, width, channels).permute(2, 0, 1)
    pixels = low + pixels / 255 * (high - low)
    mean = torch.tensor(MEAN).view(channels, 1, 1)
    std = torch.tensor(STD).view(channels, 1, 1)
    return ((pixels - mean) / std).unsqueeze(0)


def main(paths: list[str]) -> int:
    """Prints the likeliest classes of each image file."""
    if not paths:
        print(f"usage: python {Path(__file__).name} IMAGE...", file=sys.stderr)
        return 2
    network = load()
    for path in paths:
        image = read_image(path).to(next(network.parameters()).dtype)
        with torch.no_grad():
            chances = network(image)[0].softmax(0)
        top = chances.topk(min(3, len(CLASSES)))
        print(path)
        for chance, index in zip(top.values.tolist(), top.indices.tolist()):
            print(f"    {chance:6.1%}  {CLASSES[index]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''

PREDICT = '''
def read_rows(path: str) -> list[dict[str, Any]]:
    """The rows of a CSV file, by the names in its first line."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        separator = max(",;\\t|", key=file.readline().count)
        file.seek(0)
        reader = csv.DictReader(file, delimiter=separator, skipinitialspace=True)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        return list(reader)


def encode(rows: list[dict[str, Any]]) -> Tensor:
    """Rows by the names of their columns as inputs: (rows, <features>)."""
    inputs = [[x for c in COLUMNS for x in encode_cell(row[c[0]], c)] for row in rows]
    return torch.tensor(inputs).view(len(rows), <features>)


def encode_cell(cell: object, column: tuple[Any, ...]) -> list[float]:
    """What a cell becomes: a scaled number, or a 1 at its place among the words."""
    name, words, mean, std, median, mark = column
    text = "" if cell is None else str(cell).strip()
    missing = text.lower() in MISSING
    if words is not None:
        values = [float(text == word) for word in words]
    else:
        number = median if missing else float(text)
        if not math.isfinite(number):
            raise ValueError(f"column {name}: {text} is not finite")
        values = [(number - mean) / std]
    return [*values, float(missing)] if mark else values


def predict(rows: list[dict[str, Any]]) -> list[Any]:
    """The <answer> of each row."""
    network = load()
    with torch.no_grad():
        outputs = network(encode(rows).to(next(network.parameters()).dtype))
    <answers>


def main(paths: list[str]) -> int:
    """Prints the prediction of each row of each CSV file."""
    if not paths:
        print(f"usage: python {Path(__file__).name} ROWS.csv...", file=sys.stderr)
        return 2
    for path in paths:
        for answer in predict(read_rows(path)):
            print(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''

ANSWERS = {
    True: ("class", "return [CLASSES[k] for k in outputs.argmax(1).tolist()]"),
    False: ("quantity", "return [output * STD + MEAN for output in outputs[:, 0].tolist()]"),
}
"""Whether there are classes -> what is predicted, and how."""
