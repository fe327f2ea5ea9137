"""The demo: `run`, on a tiny base model (`base/`), its `adapters/` and held-out `tasks/`, listed in `index.json`.

`tests/benchmarks/train_demo.py` made them all.
"""
