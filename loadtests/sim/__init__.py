"""The parts of the simulated engine, which `loadtests.simengine` starts."""
