"""Networks: the builder for supernets and derived networks, the operations, and the plain executor."""

from metanas.network.auxiliary import AuxiliaryHead as AuxiliaryHead
from metanas.network.auxiliary import WithAuxiliary as WithAuxiliary
from metanas.network.blocks import Phase as Phase
from metanas.network.drop_path import drop_path as drop_path
from metanas.network.frozen import frozen as frozen
from metanas.network.frozen import shadow as shadow
from metanas.network.inherit import inherit as inherit
from metanas.network.mixing import Mix as Mix
from metanas.network.mixing import Taken as Taken
from metanas.network.mixing import Weight as Weight
from metanas.network.mixing import one_path as one_path
from metanas.network.network import Network as Network
from metanas.network.network import derived as derived
from metanas.network.network import module_name as module_name
from metanas.network.network import supernet as supernet
from metanas.network.norms import EpisodeNorm as EpisodeNorm
from metanas.network.norms import Statistics as Statistics
from metanas.network.norms import called_norms as called_norms
from metanas.network.norms import episodic as episodic
from metanas.network.norms import norms_of as norms_of
from metanas.network.norms import pooled as pooled
from metanas.network.norms import settled as settled
from metanas.network.ops import OPS as OPS
from metanas.network.ops import Maker as Maker
from metanas.network.precision import Precision as Precision
from metanas.network.precision import computed_in as computed_in
