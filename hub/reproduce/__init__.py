"""Published tables, run again: what to run, on which material, and the table that comes out."""
