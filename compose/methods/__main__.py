"""`python -m compose.methods`: the README's table of methods."""

from . import method_table

print(method_table(), end="")
