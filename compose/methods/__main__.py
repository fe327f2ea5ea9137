"""`python -m compose.methods`: the README's table of methods."""

from .reference import method_table

print(method_table(), end="")
