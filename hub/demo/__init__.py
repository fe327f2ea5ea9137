"""The demo's content: a tiny base model, its adapters, held-out tasks, and the script that made them all.

`operations` says what the tasks are, `plan` what is trained and how long, `train` does it. The results lie beside
them: `base/`, `adapters/`, `tasks/` and `index.json`.
"""
