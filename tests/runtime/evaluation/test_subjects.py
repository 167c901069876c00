"""What is evaluated has a name of its own."""

from __future__ import annotations

import pytest

from samhq_runtime import Bundle
from samhq_runtime.errors import ConfigError
from samhq_runtime.evaluation.subjects import open_subjects


def test_subjects_have_names_of_their_own(tiny_bundle: Bundle, demo_bundle: Bundle) -> None:
    assert tiny_bundle.path.name == demo_bundle.path.name
    names = [subject.name for subject in open_subjects([tiny_bundle, demo_bundle.path], [("cpu",)])]
    assert names == ["/".join(bundle.path.parts[-2:]) for bundle in (tiny_bundle, demo_bundle)]
    with pytest.raises(ConfigError, match="each once"):
        open_subjects([tiny_bundle, tiny_bundle.path], [("cpu",)])
