"""The words of a model file and those of the policy are the same ones."""

import msgspec

from headrace.catalogue.scale import Scale
from headrace.scaler.spec import Scaling

FROM_ELSEWHERE = {"slots", "walltime_seconds", "leaves_seconds", "stale_seconds"}


def test_every_word_of_the_policy_can_be_said() -> None:
    said = {field.name: field for field in msgspec.structs.fields(Scale)}
    read = {field.name: field for field in msgspec.structs.fields(Scaling)}
    assert read.keys() - FROM_ELSEWHERE == said.keys()
    for name, field in said.items():
        assert field.default == read[name].default
