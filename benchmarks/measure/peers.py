"""This project against its peers: the same picture and boxes, one process each, in turns.

    python -m benchmarks peers --bundle vit_b_fp32 --checkpoint sam_hq_vit_b.pth --demo-bundle DEMO --docs

`--resume --again` with `--only` and `--peers` repeats some rows and keeps the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.cold_start import cold_start
from benchmarks.contenders.process import Contender, ContenderFailed, Entry, child_environment, duel
from benchmarks.contenders.scene import Scene
from benchmarks.contenders.table import report
from benchmarks.recording import Record
from samhq_runtime.bench.machine import describe_machine
from samhq_runtime.bench.stats import ratio_of_medians

_SECTIONS = {  # job -> (rounds, calls per turn, warm-ups) of a duel
    "encoder": (5, 1, 1),
    "decoder:1": (15, 2, 4),
    "decoder:32": (4, 1, 1),
    "photo:64": (2, 1, 1),
}
_ALL_SECTIONS = ["floor", "cold start", *_SECTIONS]
_ALL_PEERS = (
    Entry("official ONNX", "official_onnx"),
    Entry("official PyTorch", "official_torch"),
    Entry("official torch.compile", "official_torch"),
    Entry("transformers", "hugging_face"),
)
_PEERS = dict.fromkeys(_SECTIONS, _ALL_PEERS) | {"photo:64": (Entry("official PyTorch", "official_torch"),)}
_OURS = Entry("ours", "ours")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True, help="fp32 bundle of the checkpoint")
    parser.add_argument("--checkpoint", type=Path, required=True, help="official .pth of the same weights")
    parser.add_argument("--variant", default="vit_b", choices=("vit_b", "vit_l", "vit_h"))
    parser.add_argument("--demo-bundle", type=Path, help="for the cold start rows")
    parser.add_argument("--int8-bundle", type=Path, help="an int8 bundle of the same checkpoint, as one more row")
    parser.add_argument("--optimum-python", type=Path, help="Python of an environment with optimum-onnx")
    parser.add_argument("--only", type=_sections, default=_ALL_SECTIONS, help=f"some of: {','.join(_ALL_SECTIONS)}")
    parser.add_argument("--peers", type=lambda text: text.split(","), help="only these opponents, by name")
    parser.add_argument("--again", action="store_true", help="measure chosen rows again that the file has")
    parser.add_argument("--rounds", type=int, help="turns per duel, instead of each section's own")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every contender")
    parser.add_argument("--work", type=Path, help="keep the peers' files here for the next run")


def _sections(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in _ALL_SECTIONS]:
        raise argparse.ArgumentTypeError(f"got {', '.join(unknown)}; expected some of {','.join(_ALL_SECTIONS)}")
    return names


def measure(options: argparse.Namespace, record: Record) -> None:
    record.require_setting({"variant": options.variant, "threads": options.threads})
    sections = record.content.setdefault("sections", {})
    with tempfile.TemporaryDirectory() as temporary:
        scene = _scene(options, options.work or Path(temporary))
        for section in options.only:
            if section in _SECTIONS:
                rows = sections.setdefault(section, {"opponents": []})["opponents"]
                for pair in _missing(rows, section, options):
                    _put(rows, _row(*pair, section, scene, options))
                    record.save()
            elif options.again or section not in sections:
                sections[section] = _measure(section, options)
                record.save()


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    return {"peers": report(content)}


def _missing(rows: Sequence[Mapping[str, Any]], section: str, options: argparse.Namespace) -> list[tuple[Entry, Entry]]:
    """The chosen duels of a section, but for those that the file has and that did not fail."""
    known = [(row["champion"], row["name"]) for row in rows if not options.again and "failed" not in row]
    return [(a, b) for a, b in _duels(section, options) if _chosen((a, b), options) and (a.name, b.name) not in known]


def _put(rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
    """At the end, in place of the same duel of an earlier run."""
    rows[:] = [known for known in rows if (known["champion"], known["name"]) != (row["champion"], row["name"])]
    rows.append(row)


def _measure(section: str, options: argparse.Namespace) -> Any:
    if section == "floor":
        from benchmarks.contenders.floor import machine_rates

        return machine_rates(options.threads)
    return cold_start([p for p in (options.demo_bundle, options.bundle) if p], options.threads)


def _duels(section: str, options: argparse.Namespace) -> list[tuple[Entry, Entry]]:
    duels = [(_OURS, peer) for peer in _PEERS[section]]
    if section == "encoder" and options.optimum_python:
        duels.append((_OURS, Entry("optimum-onnx (SAM, no HQ)", "optimum_onnx", str(options.optimum_python))))
    for variant in _own_variants(section, options):
        duels += [(variant, _OURS)] + [(variant, peer) for peer in _ALL_PEERS[:2] if section == "encoder"]
    return duels


def _row(champion: Entry, opponent: Entry, job: str, scene: Scene, options: argparse.Namespace) -> dict[str, Any]:
    """One duel; a contender that cannot run is a row that says why."""
    rounds, calls, warm_ups = _SECTIONS[job]
    print(f"{job}: {champion.name} and {opponent.name}", file=sys.stderr)
    names = {"champion": champion.name, "name": opponent.name}
    try:
        _prepare(opponent, scene)
        scenes = [_bundle_scene(entry, scene, options) for entry in (champion, opponent)]
        with Contender(champion, job, scenes[0]) as ours, Contender(opponent, job, scenes[1]) as theirs:
            duel((ours, theirs), rounds=options.rounds or rounds, calls=calls, warm_ups=warm_ups)
            agreement = _agreement(ours, theirs)
    except ContenderFailed as e:
        print(f"  {e}", file=sys.stderr)
        return {**names, "failed": str(e)}
    ratio = ratio_of_medians(theirs.seconds, ours.seconds)
    row = {
        **names,
        "ours": _facts(ours),
        "theirs": _facts(theirs),
        "times_faster": {"value": ratio.value, "low": ratio.low, "high": ratio.high},
        "agreement": agreement,
    }
    print(f"  {np.median(ours.seconds):.4f} s, {np.median(theirs.seconds):.4f} s: {ratio}", file=sys.stderr)
    return row


def _facts(contender: Contender) -> dict[str, Any]:
    return {
        "median_seconds": float(np.median(contender.seconds)),
        "seconds": [round(s, 5) for s in contender.seconds],
        **{name: contender.facts[name] for name in ("import_seconds", "load_seconds", "first_seconds")},
        "peak_mb": round(contender.facts["peak_bytes"] / 1e6),
        "peak_less_imports_mb": round((contender.facts["peak_bytes"] - contender.facts["imported_bytes"]) / 1e6),
    }


def _agreement(ours: Contender, theirs: Contender) -> dict[str, float] | None:
    """Are the results the same? IoU of masks, or greatest difference of embeddings over their range."""
    folder = ours.scene.folder
    a, b = (np.load(c.save(folder / f"result_{i}.npy")) for i, c in enumerate((ours, theirs)))
    if a.dtype != bool:
        return {"max_difference_over_range": float(np.abs(a - b).max() / np.ptp(b))}
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return {"least_mask_iou": float(((a & b).sum(1) / np.maximum((a | b).sum(1), 1)).min())}


def _own_variants(section: str, options: argparse.Namespace) -> list[Entry]:
    names = [] if section == "photo:64" else ["ours OpenVINO"]
    if "avx512_bf16" in " ".join(describe_machine()["cpu"].get("features", ())) and names:
        names.append("ours OpenVINO bf16")
    if options.int8_bundle:
        names.append("ours int8")
    return [Entry(name, "ours") for name in names]


def _bundle_scene(entry: Entry, scene: Scene, options: argparse.Namespace) -> Scene:
    """The scene of our int8 variant differs in its bundle, so it has a folder of its own."""
    if entry.name != "ours int8":
        return scene
    other = Scene(**{**vars(scene), "folder": scene.folder / "int8", "bundle": options.int8_bundle.resolve()})
    other.write()
    return other


def _prepare(opponent: Entry, scene: Scene) -> None:
    """Make the opponent's files, in a process of its own so that nothing of it stays in memory."""
    makers = {
        "official_onnx": ("official_export", "official_decoder.onnx"),
        "optimum_onnx": ("optimum_onnx", "optimum/vision_encoder.onnx"),
    }
    if opponent.module not in makers:
        return
    module, product = makers[opponent.module]
    if (scene.folder / product).exists():
        return
    child = subprocess.run(
        [opponent.python, "-m", f"benchmarks.contenders.{module}", str(scene.folder)],
        env=child_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if child.returncode:
        said = child.stderr.strip().splitlines() or [f"status {child.returncode}"]
        raise ContenderFailed(f"{opponent.name}: its export failed: {said[-1]}")


def _scene(options: argparse.Namespace, folder: Path) -> Scene:
    scene = Scene(
        folder=folder.resolve(),
        bundle=options.bundle.resolve(),
        checkpoint=options.checkpoint.resolve(),
        variant=options.variant,
        threads=options.threads,
    )
    scene.write()
    return scene


def _chosen(pair: tuple[Entry, Entry], options: argparse.Namespace) -> bool:
    return not options.peers or any(entry.name in options.peers for entry in pair)
