"""Exporters: what outlives the tool. A stand-alone Python module, safetensors, the architecture as JSON."""

from metanas.exporters.learned import read_learned as read_learned
from metanas.exporters.learned import read_tensors as read_tensors
from metanas.exporters.learned import write_learned as write_learned
from metanas.exporters.learned import write_tensors as write_tensors
from metanas.exporters.plan import weight_names as weight_names
from metanas.exporters.source import Source as Source
from metanas.exporters.weights import load_weights as load_weights
from metanas.exporters.weights import read_weights as read_weights
from metanas.exporters.writing import FORMATS as FORMATS
from metanas.exporters.writing import Format as Format
from metanas.exporters.writing import write as write
