"""The search: encoder, then decoder on that encoder's features, so that what is chosen was checked together."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..auto import Way, Ways
from ..auto.rule import by_rule
from ..bundle import Bundle
from ..callbacks import Notice
from ..children import ask_child
from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import BenchmarkError, ConfigError
from ..predictor import PROMPTS_PER_CALL
from ..session.open import MAX_THREADS
from .candidates import thread_counts
from .worker import Job

_WORKER = f"{__package__}.worker"
_PROMPTS_PER_CALL = (1, 4, 16, 32)  # tried besides the default
_HINTS = {"killed by SIGKILL": " (out of memory?)", "no answer": ", or needs a longer --timeout"}
_NOISE = 1.03  # times that are closer than this count as the same, and the earlier way stays


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """What to look for.

    Attributes:
        min_iou: least IoU of every mask with PyTorch's; 0 takes the tolerance of the bundle's own precision.
        prompts: how many prompts an image usually has; the decoder is timed with these.
        providers: only these, each a way of its own; all that are here by default.
        threads: numbers tried for the best provider on the CPU; by default those that its cores suggest.
        seconds, repeats: most seconds and calls of one timing.
        timeout: seconds for one try, loading and checking included.
    """

    min_iou: float = 0.0
    prompts: int = 8
    providers: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    seconds: float = 5.0
    repeats: int = 20
    timeout: float = 600.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_iou <= 1:
            raise ConfigError(f"--min-iou: got {self.min_iou}, expected between 0 and 1")
        if self.prompts < 1 or self.repeats < 1 or not (self.seconds > 0 and self.timeout > 0):
            raise ConfigError("--prompts and --repeats: expected at least 1; --seconds and --timeout: more than 0")
        if any(not 1 <= count <= MAX_THREADS for count in self.threads):
            raise ConfigError(f"--threads: got {self.threads}, expected numbers from 1 to {MAX_THREADS}")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way of one graph: least seconds of a call, peak bytes of its process, least IoU with PyTorch's masks.

    `reason` is why it cannot be chosen, empty if it can; figures are None where there is nothing to measure.
    """

    graph: str
    way: Way
    prompts_per_call: int | None = None
    seconds: float | None = None
    host_bytes: int | None = None
    gpu_bytes: int | None = None
    mask_iou: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """All that was tried, in order, and what was chosen; `ways` is None if nothing computes the right masks here."""

    bundle: Path
    options: TuneOptions
    tried: Sequence[Tried]
    chosen: Sequence[Tried]
    ways: Ways | None

    @property
    def seconds(self) -> float:
        """Of one image and its prompts, as chosen."""
        return sum(tried.seconds or 0.0 for tried in self.chosen)


def tune(bundle: Bundle, options: TuneOptions, notice: Notice) -> Tuning:
    """Try what this machine has; nothing is stored.

    Args:
        bundle: with its recording of PyTorch's results.
        options: what to look for.
        notice: gets a line for every try.

    Raises:
        BenchmarkError: not even the names of the providers can be found out.
    """
    with tempfile.TemporaryDirectory() as folder:
        search = _Search(bundle, options, notice, Path(folder))
        encoder = search.best(IMAGE_ENCODER)
        decoder = search.best(MASK_DECODER, encoder) if encoder else None
        if encoder is None or decoder is None:
            return Tuning(bundle=bundle.path, options=options, tried=search.tried, chosen=(), ways=None)
        decoder = search.best_group(decoder, encoder)
    ways = Ways({IMAGE_ENCODER: encoder.way, MASK_DECODER: decoder.way}, decoder.prompts_per_call)
    return Tuning(bundle=bundle.path, options=options, tried=search.tried, chosen=(encoder, decoder), ways=ways)


@dataclass
class _Search:
    bundle: Bundle
    options: TuneOptions
    notice: Notice
    folder: Path
    tried: list[Tried] = field(default_factory=list)

    def __post_init__(self) -> None:
        rule = by_rule(self.bundle.path, self.bundle.manifest)
        here = self.options.providers or self._providers_here()
        usual = {name for names in rule.values() for name in names}
        self._providers = sorted(here, key=lambda name: name not in usual)  # what would run anyway comes first
        # Decodes what an encoder made, for its check: the one that depends on least, so that it fails for no other.
        self._decoder = "cpu" if "cpu" in here else ",".join(rule[MASK_DECODER])
        self._features: dict[Way, Path] = {}

    def best(self, graph: str, encoder: Tried | None = None) -> Tried | None:
        """The quickest way of a graph that is right; a decoder's with what that encoder made."""
        found = [self._try(Tried(graph=graph, way=Way((name,))), encoder) for name in self._providers]
        best = _quickest(found)
        if best is None:
            return None
        counts = thread_counts(best.way.providers[0], self.options.threads)
        others = [self._try(Tried(graph=graph, way=replace(best.way, threads=n)), encoder) for n in counts]
        return _quickest([best, *others])

    def best_group(self, decoder: Tried, encoder: Tried) -> Tried:
        """The decoder with the number of prompts in one call that takes it least time."""
        counts = [count for count in _PROMPTS_PER_CALL if count <= self.options.prompts]
        if self.options.prompts == 1:
            return decoder
        others = [self._try(Tried(graph=MASK_DECODER, way=decoder.way, prompts_per_call=n), encoder) for n in counts]
        return _quickest([decoder, *others]) or decoder

    def _try(self, plan: Tried, encoder: Tried | None) -> Tried:
        features = self._features[encoder.way] if encoder else self.folder / f"{len(self.tried)}.npz"
        job = Job(
            bundle=str(self.bundle.path),
            graph=plan.graph,
            provider=",".join(plan.way.providers),
            threads=plan.way.threads,
            decoder=self._decoder,
            features=str(features),
            prompts=self.options.prompts,
            prompts_per_call=plan.prompts_per_call or PROMPTS_PER_CALL,
            min_iou=self.options.min_iou,
            repeats=self.options.repeats,
            seconds=self.options.seconds,
        )
        self.notice(f"[{len(self.tried) + 1}] {plan.graph}: {described(plan)}")
        tried = _answered(plan, self._ask(job))
        self.tried.append(tried)
        if plan.graph == IMAGE_ENCODER:
            self._features.setdefault(plan.way, features)
        return tried

    def _ask(self, job: Job) -> dict[str, Any]:
        child = ask_child(_WORKER, job.to_json(), self.options.timeout)
        if not child.death:
            return dict(child.value)
        hint = next((words for start, words in _HINTS.items() if child.death.startswith(start)), "")
        return {"error": child.death + hint}

    def _providers_here(self) -> list[str]:
        answer = self._ask(Job(bundle=str(self.bundle.path)))
        if "error" in answer:
            raise BenchmarkError(
                f"which providers are here cannot be found out: {answer['error']}; name them with --providers, "
                "`samhq doctor` says which work"
            )
        return list(answer["providers"])


def described(tried: Tried) -> str:
    """A way in words: `cpu, 4 threads, 16 prompts a call`."""
    threads = f", {tried.way.threads} threads" if tried.way.threads else ""
    plural = "" if tried.prompts_per_call == 1 else "s"
    group = f", {tried.prompts_per_call} prompt{plural} a call" if tried.prompts_per_call else ""
    return ",".join(tried.way.providers) + threads + group


def _answered(plan: Tried, answer: dict[str, Any]) -> Tried:
    if "error" in answer:
        return replace(plan, reason=str(answer["error"]))
    wrong = answer["wrong"]
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    figures = {name: answer[name] for name in ("seconds", "host_bytes", "gpu_bytes", "mask_iou")}
    return replace(plan, reason=f"{wrong[0]}{more}" if wrong else "", **figures)


def _quickest(tried: Sequence[Tried]) -> Tried | None:
    """The first of those that are right and about as quick as the quickest."""
    right = [(t.seconds, t) for t in tried if not t.reason and t.seconds is not None]
    if not right:
        return None
    least = min(seconds for seconds, _ in right)
    return next(t for seconds, t in right if seconds <= _NOISE * least)
