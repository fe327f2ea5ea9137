"""What the demo's base model and adapters are trained on and how: `operations` says what the tasks are, `plan` what is
trained and how long; `train_demo.py` does it."""
