"""Why an engine died, in words."""

import signal

from headrace.worker.engine.exit_reasons import ending, known, sentence


def test_known_signs_are_explained() -> None:
    log = [
        "Traceback (most recent call last):",
        "torch.OutOfMemoryError: CUDA out of memory. Tried",
    ]
    assert "GPU ran out of memory" in known(log)
    assert known(["all is well"]) == ""


def test_endings_are_told_in_words() -> None:
    assert ending(3) == "exit code 3"
    assert "memory" in ending(128 + signal.SIGKILL)
    assert ending(128 + signal.SIGSEGV) == "ended by SIGSEGV"
    assert ending(255) == "exit code 255"


def test_the_sentence() -> None:
    assert sentence("while loading", 1, "") == "the engine died while loading (exit code 1)"
    assert sentence("while serving", 1, "why").endswith("(exit code 1): why")
