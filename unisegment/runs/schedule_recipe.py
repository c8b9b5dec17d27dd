# SPDX-License-Identifier: Apache-2.0
"""The section `schedule` of a recipe."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from unisegment.runs.settings import AtLeastOne, NotBelowZero, NotNegative, RecipeError, Share

_MOST_STEPS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe:
    """How many steps are taken, and what becomes of the learning rate.

    Args:
        max_steps: Steps of the whole run; or, instead of it,
        epochs: how many times each training image is seen, such as 50 or 0.5. The steps that this takes are counted
            once the data are open, and are `max_steps` in the recipe of the run.
        name: `poly` falls to zero as a power of what is left, `step` drops at `milestones`, `one_cycle` rises and
            falls as a cosine, `constant` stays. `two_stage_poly` is EoMT's: a `poly` that rises from zero in
            `warmup_steps`, and the backbone after that, in `backbone_warmup_steps`.
        warmup_steps: Steps of a linear rise before that (not for `one_cycle`, which has its own).
        backbone_warmup_steps: Steps in which the backbone rises (`two_stage_poly` only).
        power: Exponent of `poly` and `two_stage_poly`.
        milestones: Where `step` drops, as shares of `max_steps`.
        gamma: What `step` multiplies the learning rate by at each of them.
        rise: Share of `max_steps` in which `one_cycle` rises.
    """

    max_steps: AtLeastOne | None = None
    epochs: NotBelowZero | None = None
    name: Literal["poly", "two_stage_poly", "step", "one_cycle", "constant"] = "poly"
    warmup_steps: NotNegative = 0
    backbone_warmup_steps: NotNegative = 0
    power: NotBelowZero = 0.9
    milestones: tuple[Share, ...] = (8 / 9, 26 / 27)
    gamma: Share = 0.1
    rise: Share = 0.3

    def __post_init__(self) -> None:
        if (self.max_steps is None) == (self.epochs is None):
            said = "neither is set" if self.epochs is None else f"got {self.max_steps} and {self.epochs}"
            raise ValueError(f"either max_steps or epochs says how long to train, but {said}. Set one of them.")
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs must be a number of more than 0, got {self.epochs}.")

    @property
    def steps(self) -> int:
        """Steps of the whole run.

        Raises:
            ValueError: When the recipe says epochs, and nobody has counted the images.
        """
        if self.max_steps is None:
            raise ValueError(f"epochs={self.epochs}: the number of steps depends on the data; see `counted`.")
        return self.max_steps

    @property
    def has_two_stages(self) -> bool:
        """Whether the backbone's rate rises after that of the rest."""
        return self.name == "two_stage_poly"

    def counted(self, num_images: int, batch_size: int) -> "ScheduleRecipe":
        """Return the same schedule with `max_steps` for `epochs`: the fewest steps that see so many images.

        Args:
            num_images: Training images.
            batch_size: Images of a step.

        Raises:
            RecipeError: When they are more steps than a run can have.
        """
        if self.epochs is None:
            return self
        # As they are written: 1.1 times 10 is 11, and not a little more.
        steps = math.ceil(Fraction(str(self.epochs)) * num_images / batch_size)
        if steps > _MOST_STEPS:
            raise RecipeError(
                f"schedule.epochs={self.epochs} of {num_images} images in batches of {batch_size} would be {steps:,} "
                f"steps, expected at most {_MOST_STEPS:,}. Set fewer."
            )
        return replace(self, max_steps=steps, epochs=None)
