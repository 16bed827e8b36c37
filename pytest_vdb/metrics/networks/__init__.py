"""The networks behind metrics, one architecture a file. Each has ``load(path)``.

Importing one imports torch. `pytest_vdb.metrics.weights` finds and checks the files.
"""
