"""The parts of the measuring bench, which `python -m loadtests.bench` runs one after the other."""
