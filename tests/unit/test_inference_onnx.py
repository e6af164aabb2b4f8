"""A bundle's graph in ONNX Runtime, held against the same bundle in torch."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dicom_ai_node.answers import Category, LabelProbabilities, Prediction, Quantity
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.config.paths import shipped_bundles
from dicom_ai_node.demo import phantom
from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference import bundle, graph, onnx_engine
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pixels.normalise import normalise
from tests.builders.bundles import YEARS, invented_bundle


def near(one: NDArray[np.float32], two: NDArray[np.float32], name: str = "") -> None:
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4, err_msg=name)


def images_for(estimator: Estimator) -> NDArray[np.float32]:
    """Chests, noise and a black image, in as many channels as the bundle sees."""
    chests = [normalise(phantom.chest(30 + 9 * s, "M", s, 256), estimator.size) for s in range(3)]
    noise = np.random.default_rng(0).random((1, *chests[0].shape), dtype=np.float32)
    shown = np.concatenate([np.stack(chests), noise, np.zeros_like(noise)])
    channels = estimator.manifest.channels
    return shown if channels == 1 else np.repeat(shown[:, None], channels, axis=1)


def numbers(prediction: Prediction) -> list[float]:
    """Everything that is calibrated, in the order of the heads."""
    found = [prediction.in_distribution, *prediction.gates.values()]
    for answer in prediction.answers.values():
        match answer:
            case Quantity():
                found += [answer.mu, answer.sigma, *answer.interval90]
            case Category() | LabelProbabilities():
                found += answer.probabilities.values()
    return found


@pytest.mark.parametrize("name", sorted(shipped_bundles()))
def test_a_shipped_bundle_answers_as_in_torch(name: str) -> None:
    path = shipped_bundles()[name]
    ours = Estimator(path, device="cpu", embeds=True)
    eager = Estimator(path, device="cpu", embeds=True, eager=True)
    assert (ours.engine, eager.engine) == ("onnxruntime", "torch")
    images = images_for(ours)
    (own, far), (other, known) = ours.measure(images), eager.measure(images)
    for row in ours.manifest.rows:
        near(own[row.name], other[row.name], row.name)
    for one, two in ((own.features, other.features), (own.texture, other.texture)):
        near(one, two)
    np.testing.assert_allclose(far.content, known.content, rtol=1e-3)
    np.testing.assert_allclose(far.texture, known.texture, rtol=1e-3)
    assert (own.embedding is None) == (other.embedding is None)
    if own.embedding is not None and other.embedding is not None:
        near(own.embedding, other.embedding)
    calibrated = [[numbers(one) for one in each.predict(images)] for each in (ours, eager)]
    # An interval's ends stand on a grid of a tenth of a year, and may fall to either side.
    np.testing.assert_allclose(calibrated[0], calibrated[1], rtol=1e-3, atol=0.11)


def test_nothing_is_embedded_that_nobody_asked_for() -> None:
    estimator = Estimator(default_bundle(), device="cpu")
    (said,) = estimator.predict(images_for(estimator)[:1])
    assert said.embedding is None


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_answers_are_the_same_with_any_number_of_threads_and_images(threads: int) -> None:
    plain = Estimator(default_bundle(), device="cpu", threads=1, batch=1)
    other = Estimator(default_bundle(), device="cpu", threads=threads, batch=3)
    images = images_for(plain)
    expected = [numbers(one) for one in plain.predict(images)]
    np.testing.assert_allclose([numbers(one) for one in other.predict(images)], expected, rtol=1e-4)


def test_a_thread_for_each_core_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert onnx_engine.cores() == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {4096, 4097})  # no such cores to ask
    assert onnx_engine.cores() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert onnx_engine.cores() == 7


def test_a_bundle_without_a_graph_answers_in_torch(tmp_path: Path) -> None:
    estimator = Estimator(invented_bundle(tmp_path / "plain", [YEARS]), device="cpu")
    assert estimator.engine == "torch"
    assert len(estimator.predict(images_for(estimator))) == 5


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(default_bundle(), tmp_path / "bundle"))


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    file = path / bundle.MANIFEST
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    return path


def test_the_network_in_torch_is_of_the_files_that_were_loaded(copied: Path) -> None:
    estimator = Estimator(copied, device="cpu")
    other = shipped_bundles()["chest-findings"]
    shutil.copytree(other, copied, dirs_exist_ok=True)
    with pytest.raises(BundleError, match=r"weights\.safetensors: not what it was"):
        _ = estimator.network


def test_an_altered_graph_is_found(copied: Path) -> None:
    file = copied / bundle.NETWORK_FILE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"network\.onnx: SHA-256 is .*, the manifest expects"):
        Estimator(copied, device="cpu")
    file.unlink()
    with pytest.raises(BundleError, match=r"network\.onnx: expected the network's graph"):
        bundle.verify(copied)


def test_a_graph_that_is_none_is_named(copied: Path) -> None:
    (copied / bundle.NETWORK_FILE).write_bytes(b"no graph")
    digest = bundle.sha256(copied / bundle.NETWORK_FILE)
    changed(copied, lambda m: m.update(onnx_sha256=digest))
    with pytest.raises(BundleError, match=r"network\.onnx: does not fit the weights beside it"):
        Estimator(copied, device="cpu")


def test_a_graph_of_another_bundle_is_refused(copied: Path) -> None:
    other = shipped_bundles()["chest-findings"] / bundle.NETWORK_FILE
    shutil.copyfile(other, copied / bundle.NETWORK_FILE)
    digest = bundle.sha256(other)
    changed(copied, lambda m: m.update(onnx_sha256=digest))
    with pytest.raises(BundleError, match=r"network\.onnx: "):
        Estimator(copied, device="cpu")


def test_a_graph_of_another_size_is_refused(copied: Path) -> None:
    changed(copied, lambda m: m["accepts"].update(size=256))
    with pytest.raises(BundleError, match=r"an input of \[1, 288, 288\], expected \[1, 256, 256\]"):
        Estimator(copied, device="cpu")


def test_a_graph_names_no_file_of_the_machine_that_made_it() -> None:
    for path in shipped_bundles().values():
        content = (path / bundle.NETWORK_FILE).read_bytes()
        assert b"site-packages" not in content
        assert b".py" not in content


@pytest.mark.parametrize("name", sorted(shipped_bundles()))
def test_a_graph_is_what_the_runtime_fuses(name: str) -> None:
    """Norms and paddings become convolutions where nothing is computed of constants any more."""
    file = shipped_bundles()[name] / bundle.NETWORK_FILE
    model = onnx.load(file, load_external_data=False)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Conv"] == kinds["BatchNormalization"] == 52
    assert not {"Cast", "CastLike", "Identity", "Range"} & kinds.keys()
    inside = [one for one in model.graph.initializer if not one.external_data]
    assert all(len(one.raw_data) < 8192 for one in inside)


@pytest.mark.slow
def test_a_bundle_gets_its_graph_when_it_is_packed(tmp_path: Path) -> None:
    made = invented_bundle(tmp_path / "made", [YEARS], embeds=True)
    eager = Estimator(made, device="cpu", embeds=True)
    images = images_for(eager)
    assert graph.pack(made) < 1e-4
    answering = Estimator(made, device="cpu", embeds=True)
    assert (eager.engine, answering.engine) == ("torch", "onnxruntime")
    assert [path.name for path in made.glob("*.onnx")] == [bundle.NETWORK_FILE]
    (own, _), (other, _) = answering.measure(images), eager.measure(images)
    near(own["age"], other["age"])
    assert own.embedding is not None
    assert other.embedding is not None
    near(own.embedding, other.embedding)
