"""A model file that uses most of what there is."""

GOOD = '''# A comment.
name = "Qwen/Qwen3-8B"
description = """
[engine]
not_a_key = 1"""

[engine]
kind = "vllm"
model = "/models/q"
args = [
  "--max-model-len", "16384", # with a comment ] in it
]
env = { "A.B" = "x", C = "y" }

[scale]
max = 3

[[scale.schedule]]
when = "mon-fri 08:00-18:00"
min = 1

[[scale.schedule]]
when = "daily 22:00-02:00"
min = 2

[job]
gres = "gpu:1"
time = "08:00:00"

[job.apptainer]
image = "/images/b.sif"
'''


def other(name: str) -> bytes:
    """The same for another model."""
    return GOOD.replace("Qwen/Qwen3-8B", name).encode()
