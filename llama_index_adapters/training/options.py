"""How an adapter is trained: every option, its default and its check."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from llama_index_adapters.checks import require_number, require_one_of, require_seed, require_whole
from llama_index_adapters.errors import InvalidOptionError, UnknownOptionError, closest_name

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]

# Above it a step draws passages; benchmarks/negatives.md has what that costs in quality.
WHOLE_CORPUS_UP_TO = 65_536
DRAWN_NEGATIVES = 8_192


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How an adapter is trained: every option of one training, checked.

    Example:
        >>> options = TrainingOptions(learning_rate=1e-4, patience=3)
        >>> engine = EmbeddingAdapterFinetuneEngine(train, embed_model, options=options)

    Attributes:
        epochs: passes over the queries, at most; early stopping usually ends sooner.
        batch_size: queries per step. Negatives do not depend on it: they are the corpus.
        learning_rate: the peak, reached after ``warmup`` of the steps and then decayed to 0.
        weight_decay: how far each step at the peak pulls parameters back to where they
            started, which is the identity for the built-in families.
        scale: inverse temperature of the similarities in the loss.
        warmup: the part of all steps before the learning rate peaks.
        patience: epochs without a better validation nDCG@10 before training stops.
        unseen_share: what share of later queries is expected to be about passages that nobody has
            asked about, from 0 to 1: so much they weigh when a search chooses. When left out, 1
            for another target corpus, else estimated from how much of the corpus was asked about.
        certainty: how certain a gain in validation nDCG@10 has to be, one-sided, for the best epoch
            to be kept; else the result is the identity. 0 keeps it whatever validation says.
        max_grad_norm: gradients longer than this are scaled down to it.
        steps_per_epoch: end every epoch after so many steps; all queries when left out.
        negatives: how many passages of the corpus each step draws, weighted so that they stand
            for all of it; ``"all"`` computes with every passage. When left out, all of a corpus
            of up to 65,536 passages, and 8,192 of a larger one.
        mined: how many of the passages nearest to each query count in full beside those drawn;
            found before training. They cost one ranking of the corpus, or a search of the vector
            store for every query.
        precision: ``"float32"`` or ``"bfloat16"``, of passages and products with them in the
            loss. When left out, bfloat16 on CUDA devices that have it, else float32.
        optimizer_class: the torch optimizer, AdamW when left out. It steps without a closure,
            so LBFGS cannot be one.
        optimizer_params: more arguments of the optimizer. A ``weight_decay`` among them is the
            optimizer's own, toward zero.
        device: a torch device; the best available one when left out.
        seed: seed of the order of the queries.

    Raises:
        InvalidOptionError: for a value that cannot be trained with.
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    scale: float = 20.0
    warmup: float = 0.1
    patience: int = 8
    unseen_share: float | None = None
    certainty: float = 0.995
    max_grad_norm: float = 1.0
    steps_per_epoch: int | None = None
    negatives: int | Literal["all"] | None = None
    mined: int = 0
    precision: Precision | None = None
    optimizer_class: type[torch.optim.Optimizer] | None = None
    optimizer_params: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value once, before anything is embedded or trained."""
        for name in ("epochs", "batch_size", "patience"):
            require_whole(getattr(self, name), name)
        require_whole(self.mined, "mined", least=0)
        if self.steps_per_epoch is not None:
            require_whole(self.steps_per_epoch, "steps_per_epoch", otherwise=", or leave it out")
        if self.negatives not in (None, "all"):
            require_whole(self.negatives, "negatives", otherwise=", 'all', or leave it out")
        for name in ("learning_rate", "scale", "max_grad_norm"):
            require_number(getattr(self, name), name, above=0)
        for name in ("weight_decay", "warmup", "certainty"):
            require_number(getattr(self, name), name, least=0, below=1)
        if self.unseen_share is not None:
            require_number(self.unseen_share, "unseen_share", least=0, most=1)
        require_seed(self.seed)
        object.__setattr__(self, "seed", int(self.seed))  # numpy's cannot be written as JSON
        if self.precision is not None:
            require_one_of(self.precision, "precision", get_args(Precision))
        if self.optimizer_class is not None and not _is_optimizer(self.optimizer_class):
            raise InvalidOptionError(
                f"optimizer_class is {self.optimizer_class!r}; give a class of torch.optim that "
                "steps without a closure, such as torch.optim.AdamW."
            )
        parameters = self.optimizer_params
        if not isinstance(parameters, Mapping) or "lr" in parameters:
            raise InvalidOptionError(
                f"optimizer_params is {parameters!r}; give a mapping of the optimizer's "
                "arguments; lr is given as learning_rate."
            )

    def updated(self, changes: Mapping[str, Any], *, beside: Iterable[str] = ()) -> TrainingOptions:
        """Return options with some of them changed, by name.

        The names of LlamaIndex's ``train_model`` are understood too: the ``lr`` of
        ``optimizer_params`` becomes the learning rate.

        Args:
            changes: new values by name.
            beside: names that are not about training, which a wrong name may be closest to.

        Raises:
            UnknownOptionError: for a name that does not exist, with the closest that does.
            InvalidOptionError: for a value that cannot be used.
        """
        known = [option.name for option in fields(self)]
        for name in changes:
            if name not in known:
                raise UnknownOptionError(
                    f"Unknown option {name!r}.{closest_name(name, [*known, *beside])} "
                    f"The options of training are {', '.join(known)}."
                )
        changes = dict(changes)
        parameters = changes.get("optimizer_params")
        if parameters is None:
            changes.pop("optimizer_params", None)
        elif isinstance(parameters, Mapping) and "lr" in parameters:
            rate = parameters["lr"]
            if changes.setdefault("learning_rate", rate) != rate:
                raise InvalidOptionError(
                    f"learning_rate is {changes['learning_rate']!r} and lr in optimizer_params is "
                    f"{rate!r}; give one of them."
                )
            changes["optimizer_params"] = {
                name: value for name, value in parameters.items() if name != "lr"
            }
        return replace(self, **changes)

    def negatives_of(self, n_passages: int) -> int | None:
        """Return how many passages a step draws from a corpus; None for all of them."""
        if self.negatives is None:
            return None if n_passages <= WHOLE_CORPUS_UP_TO else DRAWN_NEGATIVES
        return None if self.negatives == "all" else int(self.negatives)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON can hold them."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        chosen = self.optimizer_class
        values["optimizer_class"] = chosen.__name__ if chosen else "AdamW"
        values["optimizer_params"] = {
            name: value
            for name, value in self.optimizer_params.items()
            if isinstance(value, int | float | str | bool | list | tuple)
        }
        return values


class Default(int):
    """A number that a signature shows as its default, told from the same number given by name."""


def agreed_options(
    options: TrainingOptions | None, named: Mapping[str, Any], *, beside: Iterable[str] = ()
) -> TrainingOptions:
    """Return the options of an engine that takes them as an object, by name, or both.

    Args:
        options: the object; None when everything is given by name.
        named: values by name, as :meth:`TrainingOptions.updated` takes them. One that is a
            :class:`Default` was not given.
        beside: names that are not about training, which a wrong name may be closest to.

    Raises:
        UnknownOptionError: for a name that does not exist, with the closest that does.
        InvalidOptionError: for a value that cannot be used, or two values of one option.
    """
    named = {name: value for name, value in named.items() if not isinstance(value, Default)}
    if options is None:
        return TrainingOptions().updated(named, beside=beside)
    if not isinstance(options, TrainingOptions):
        raise InvalidOptionError(
            f"options is of type {type(options).__name__}; give a TrainingOptions, or the options "
            "by name."
        )
    changed = options.updated(named, beside=beside)
    for option in fields(options):
        in_object, by_name = getattr(options, option.name), getattr(changed, option.name)
        if in_object != by_name:
            raise InvalidOptionError(
                f"{option.name} is {by_name!r} by name and {in_object!r} in options; give it in "
                "one of the two."
            )
    return options


def _is_optimizer(value: object) -> bool:
    # By its methods, because looking at torch's class would import torch.
    step = getattr(value, "step", None)
    if not isinstance(value, type) or step is None or not hasattr(value, "zero_grad"):
        return False
    closure = inspect.signature(step).parameters.get("closure")
    return closure is None or closure.default is not inspect.Parameter.empty
