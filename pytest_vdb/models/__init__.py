"""What is under test: the catalog, the sources and the embedded models."""
