"""Search spaces: graphs whose nodes or edges hold a fixed operation, a choice among operations, or a sub-graph.

Built in Python (`Graph`, `Node`, `Edge`, `one_of`, `op`), from a networkx graph (`from_networkx`) or from JSON
(`space_from_json`); compiled once to a flat `Program`. This room knows no torch.
"""

from metanas.space.architecture import Architecture as Architecture
from metanas.space.bounds import Bounds as Bounds
from metanas.space.bounds import downhill as downhill
from metanas.space.canonical import canonical as canonical
from metanas.space.canonical import distinct as distinct
from metanas.space.cells import Kind as Kind
from metanas.space.cells import kinds_of as kinds_of
from metanas.space.counting import Limit as Limit
from metanas.space.draw import draw_architecture as draw_architecture
from metanas.space.draw import draw_space as draw_space
from metanas.space.from_networkx import from_networkx as from_networkx
from metanas.space.graph import NEEDED as NEEDED
from metanas.space.graph import Choice as Choice
from metanas.space.graph import Content as Content
from metanas.space.graph import Edge as Edge
from metanas.space.graph import Graph as Graph
from metanas.space.graph import Needed as Needed
from metanas.space.graph import Node as Node
from metanas.space.graph import OneOf as OneOf
from metanas.space.graph import Op as Op
from metanas.space.graph import Scan as Scan
from metanas.space.graph import Size as Size
from metanas.space.graph import chain as chain
from metanas.space.graph import one_of as one_of
from metanas.space.graph import op as op
from metanas.space.importing import from_genotype as from_genotype
from metanas.space.importing import from_nasbench201 as from_nasbench201
from metanas.space.importing import to_genotype as to_genotype
from metanas.space.kinds import labels_of as labels_of
from metanas.space.partial import partial_channels as partial_channels
from metanas.space.program import Apply as Apply
from metanas.space.program import Combine as Combine
from metanas.space.program import Loop as Loop
from metanas.space.program import Program as Program
from metanas.space.program import Step as Step
from metanas.space.program import compile_graph as compile_graph
from metanas.space.program import every_step as every_step
from metanas.space.program import main_sources_of as main_sources_of
from metanas.space.program import sources_of as sources_of
from metanas.space.serialize import op_from_json as op_from_json
from metanas.space.serialize import op_to_json as op_to_json
from metanas.space.serialize import space_from_json as space_from_json
from metanas.space.serialize import space_to_json as space_to_json
from metanas.space.space import Space as Space
