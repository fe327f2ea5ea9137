"""The client's side of a server: the commands and the Python client act on it through here. Loads no torch.

Files travel with huggingface_hub; what the Hugging Face protocol has no words for goes over /api/v1. Heavy work on an
adapter's tensors is done on this machine, on a mirror of what it needs; only mixes are made by the server.
"""
