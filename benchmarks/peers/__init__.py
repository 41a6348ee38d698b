"""What is compared: each module with a `main` is a process that trains one network in one way, in turns when told.

`ours`, `stock_keras` and the modules of PyTorch import nothing of each other. The environment of PyTorch has neither
Keras nor this project's dependencies, so `protocol`, `batches` and `torch_*` need the standard library, NumPy and
PyTorch alone.
"""
