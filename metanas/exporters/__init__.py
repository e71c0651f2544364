"""Exporters: what outlives the tool. A stand-alone Python module, safetensors, graphs of torch.export and of ONNX, the
architecture as JSON, a model card."""

from metanas.exporters.comparing import TOLERANCE as TOLERANCE
from metanas.exporters.learned import read_learned as read_learned
from metanas.exporters.learned import read_tensors as read_tensors
from metanas.exporters.learned import write_learned as write_learned
from metanas.exporters.learned import write_tensors as write_tensors
from metanas.exporters.loss import Loss as Loss
from metanas.exporters.plan import weight_names as weight_names
from metanas.exporters.precision import PRECISIONS as PRECISIONS
from metanas.exporters.source import Source as Source
from metanas.exporters.story import Story as Story
from metanas.exporters.weights import load_weights as load_weights
from metanas.exporters.weights import read_weights as read_weights
from metanas.exporters.writing import FORMATS as FORMATS
from metanas.exporters.writing import RUN_FORMATS as RUN_FORMATS
from metanas.exporters.writing import VERIFY as VERIFY
from metanas.exporters.writing import Format as Format
from metanas.exporters.writing import Written as Written
from metanas.exporters.writing import chosen as chosen
from metanas.exporters.writing import usual_formats as usual_formats
from metanas.exporters.writing import write as write
