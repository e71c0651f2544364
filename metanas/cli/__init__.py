"""The command `metanas`: parses, calls the public functions, prints.

Nothing here imports torch until a command needs it: `metanas --help`, `runs` and `show` answer at once.
"""

from metanas.cli.app import main as main
