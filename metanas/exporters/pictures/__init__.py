"""Pictures of architectures: the network and its cells, as SVG, DOT or Mermaid.

svg(picture(space, architecture))                    widths where the space fixes them
svg(picture(space, architecture, network.shapes))    the shape of every value
"""

from metanas.exporters.pictures.files import check_svg as check_svg
from metanas.exporters.pictures.files import picture_bytes as picture_bytes
from metanas.exporters.pictures.making import picture as picture
from metanas.exporters.pictures.markup import dot as dot
from metanas.exporters.pictures.markup import mermaid as mermaid
from metanas.exporters.pictures.picture import Arrow as Arrow
from metanas.exporters.pictures.picture import Group as Group
from metanas.exporters.pictures.picture import Picture as Picture
from metanas.exporters.pictures.picture import Vertex as Vertex
from metanas.exporters.pictures.svg import svg as svg
