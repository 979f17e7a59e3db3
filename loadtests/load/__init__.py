"""The parts of the load generator, which `loadtests.generator` starts."""
